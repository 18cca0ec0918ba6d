"""True mutual informations of a small source, against which the bounds (5) and (6) are checked.

The source takes K values, the received feature is one real number, and p(ẑ|x) is Gaussian as in
(1); then every integral is over a line and the trapezoidal rule has it to twelve digits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hvib.config import require

Array = Float[np.ndarray, "..."]


def _check_distribution(name: str, p: Array) -> None:
    good = bool(np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(-1), 1))
    require(good, name, p.tolist(), "give probabilities ≥ 0 that sum to 1")


def entropy(p: Sequence[float] | Array) -> float:
    """H = −Σ p ln p in nats, with 0 ln 0 = 0.

    Raises:
        ValueError: p is no distribution.
    """
    p = np.asarray(p, dtype=float)
    _check_distribution("p", p)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def discrete_information(joint: Array) -> float:
    """I(A;B) in nats of a joint distribution given as a matrix.

    Raises:
        ValueError: the matrix is no distribution.
    """
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel())


@dataclass(frozen=True)
class Source:
    """A discrete x with label y, sent as one real feature: ẑ | x ~ N(mean[x], variance[x]).

    Raises:
        ValueError: the shapes disagree, a row is no distribution or a variance is not positive.
    """

    p_x: Float[np.ndarray, " K"]
    p_y_given_x: Float[np.ndarray, "K C"]
    mean: Float[np.ndarray, " K"]
    """μ(x; φ)"""
    variance: Float[np.ndarray, " K"]
    """θ² + σ², channel noise included"""

    def __post_init__(self) -> None:
        count = len(self.p_x)
        shapes = (self.p_y_given_x.shape[0], *self.mean.shape, *self.variance.shape)
        require(shapes == (count,) * 3, "shapes", shapes, f"give K = {count} rows or entries each")
        _check_distribution("p_x", self.p_x)
        _check_distribution("p_y_given_x", self.p_y_given_x)
        require(bool((self.variance > 0).all()), "variance", self.variance.tolist(), "give > 0")

    @property
    def p_y(self) -> Float[np.ndarray, " C"]:
        return self.p_x @ self.p_y_given_x

    def line(self, points: int = 20_001) -> Float[np.ndarray, " Z"]:
        """Evenly spaced ẑ that reach 12 standard deviations past every mean."""
        reach = 12 * np.sqrt(self.variance)
        return np.linspace((self.mean - reach).min(), (self.mean + reach).max(), points)

    def log_likelihood(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, "Z K"]:
        """The logarithm of p(ẑ|x)."""
        s = self.variance
        return -0.5 * ((z[:, None] - self.mean) ** 2 / s + np.log(2 * math.pi * s))

    def log_marginal(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, " Z"]:
        """The logarithm of p(ẑ) = Σₓ p(x) p(ẑ|x)."""
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(self.log_likelihood(z) + np.log(self.p_x), axis=1)

    def posterior(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, "Z C"]:
        """p(y|ẑ): the best q(y|ẑ) there is."""
        weights = np.exp(self.log_likelihood(z) - self.log_marginal(z)[:, None])
        return weights @ (self.p_x[:, None] * self.p_y_given_x)

    def expect(self, f: Callable[[Array], Float[np.ndarray, "Z K"]]) -> float:
        """E f(ẑ)[x] under p(x) p(ẑ|x)."""
        z = self.line()
        values = (np.exp(self.log_likelihood(z)) * f(z)) @ self.p_x
        return float(values.sum() * (z[1] - z[0]))  # both ends are 0: the trapezoidal rule

    def information_x(self) -> float:
        """I(X;Ẑ) in nats."""
        return self.expect(lambda z: self.log_likelihood(z) - self.log_marginal(z)[:, None])

    def information_y(self) -> float:
        """I(Y;Ẑ) in nats: H(Y) − H(Y|Ẑ)."""
        return entropy(self.p_y) - self.distortion(self.posterior)

    def distortion(self, q: Callable[[Array], Float[np.ndarray, "Z C"]]) -> float:
        """E[−ln q(y|ẑ)] in nats: (7) with cross-entropy."""

        def surprise(z: Array) -> Array:
            return -np.log(np.maximum(q(z), 1e-300)) @ self.p_y_given_x.T

        return self.expect(surprise)

    def rate(self, prior_variance: float = 1.0) -> float:
        """E KL( p(ẑ|x) ‖ N(0, τ²) ) in nats, in closed form: (9) for τ² = 1."""
        ratio = self.variance / prior_variance
        kl = 0.5 * (self.mean**2 / prior_variance + ratio - 1 - np.log(ratio))
        return float(kl @ self.p_x)

    def power(self) -> float:
        """E ẑ²: of all prior variances the one with the smallest rate."""
        return float((self.mean**2 + self.variance) @ self.p_x)
