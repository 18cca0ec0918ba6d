"""True mutual informations of a small source, against which the bounds (5) and (6) are checked.

The source takes K values, the received feature is one real number, and p(ẑ|x) is Gaussian as in
(1). Every expectation is then an integral over a line of a smooth function that falls to 0 at
both ends, which the trapezoidal rule gives to twelve digits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hvib.check import require

Array = Float[np.ndarray, "..."]


def _check_distribution(name: str, p: Array) -> None:
    """Check that the last axis of an array holds probabilities.

    Args:
        name: the parameter's name in the message of the error.

    Raises:
        ValueError: an entry is negative or not finite, or a sum is not 1.
    """
    good = bool(np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(-1), 1))
    require(good, name, p.tolist(), "give probabilities ≥ 0 that sum to 1")


def entropy(p: Sequence[float] | Array) -> float:
    """Compute the entropy H = −Σ p ln p in nats, with 0 ln 0 = 0.

    Raises:
        ValueError: p is not a distribution.
    """
    p = np.asarray(p, dtype=float)
    _check_distribution("p", p)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def discrete_information(joint: Array) -> float:
    """Compute the mutual information I(A;B) in nats from the matrix of joint probabilities.

    Raises:
        ValueError: the entries are not a distribution.
    """
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel())


@dataclass(frozen=True)
class Source:
    """A discrete x with label y that is sent as one real feature, ẑ | x ~ N(mean[x], variance[x]).

    x takes K values and y takes C values.

    Raises:
        ValueError: the shapes disagree, a row is not a distribution, or a variance is not positive.
    """

    p_x: Float[np.ndarray, " K"]
    p_y_given_x: Float[np.ndarray, "K C"]
    mean: Float[np.ndarray, " K"]
    """μ(x; φ) of (1)"""
    variance: Float[np.ndarray, " K"]
    """θ² + σ², the variance of the received feature with the channel noise included"""

    def __post_init__(self) -> None:
        count = len(self.p_x)
        shapes = (self.p_y_given_x.shape[0], *self.mean.shape, *self.variance.shape)
        require(shapes == (count,) * 3, "shapes", shapes, f"give K = {count} rows or entries each")
        _check_distribution("p_x", self.p_x)
        _check_distribution("p_y_given_x", self.p_y_given_x)
        require(bool((self.variance > 0).all()), "variance", self.variance.tolist(), "give > 0")

    @property
    def p_y(self) -> Float[np.ndarray, " C"]:
        """The distribution of the label, p(y) = Σₓ p(x) p(y|x)."""
        return self.p_x @ self.p_y_given_x

    def line(self, points: int = 20_001) -> Float[np.ndarray, " Z"]:
        """Return evenly spaced ẑ that reach 12 standard deviations past every mean."""
        # At 12 standard deviations a density is 1e-31 of its peak, far below float64's precision.
        reach = 12 * np.sqrt(self.variance)
        return np.linspace((self.mean - reach).min(), (self.mean + reach).max(), points)

    def log_likelihood(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, "Z K"]:
        """Compute ln p(ẑ|x) at each ẑ for each x."""
        s = self.variance
        return -0.5 * ((z[:, None] - self.mean) ** 2 / s + np.log(2 * math.pi * s))

    def log_marginal(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, " Z"]:
        """Compute ln p(ẑ) = ln Σₓ p(x) p(ẑ|x) at each ẑ."""
        # An x of probability 0 gives ln 0 = −∞, which logaddexp counts as nothing.
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(self.log_likelihood(z) + np.log(self.p_x), axis=1)

    def posterior(self, z: Float[np.ndarray, " Z"]) -> Float[np.ndarray, "Z C"]:
        """Compute p(y|ẑ) at each ẑ, which is the best choice of q(y|ẑ)."""
        # The difference of logarithms is formed first: far out both densities underflow to 0.
        weights = np.exp(self.log_likelihood(z) - self.log_marginal(z)[:, None])
        return weights @ (self.p_x[:, None] * self.p_y_given_x)

    def expect(self, f: Callable[[Array], Float[np.ndarray, "Z K"]]) -> float:
        """Integrate a function of ẑ and x: its expectation under p(x) p(ẑ|x).

        Args:
            f: from Z values of ẑ to the function's values for each x, (Z, K).
        """
        z = self.line()
        values = (np.exp(self.log_likelihood(z)) * f(z)) @ self.p_x
        # The integrand is 0 at both ends, so a plain sum is the trapezoidal rule.
        return float(values.sum() * (z[1] - z[0]))

    def information_x(self) -> float:
        """Compute the true I(X;Ẑ) in nats."""
        return self.expect(lambda z: self.log_likelihood(z) - self.log_marginal(z)[:, None])

    def information_y(self) -> float:
        """Compute the true I(Y;Ẑ) = H(Y) − H(Y|Ẑ) in nats."""
        return entropy(self.p_y) - self.distortion(self.posterior)

    def distortion(self, q: Callable[[Array], Float[np.ndarray, "Z C"]]) -> float:
        """Compute the distortion (7) with cross-entropy, E[−ln q(y|ẑ)], in nats.

        Args:
            q: the network, from Z values of ẑ to probabilities of the labels, (Z, C).
        """

        def surprise(z: Array) -> Array:
            # The floor keeps 0 · ln 0 from being NaN where a label is impossible.
            return -np.log(np.maximum(q(z), 1e-300)) @ self.p_y_given_x.T  # (Z, K)

        return self.expect(surprise)

    def rate(self, prior_variance: float = 1.0) -> float:
        """Compute the right side of (6) in closed form, E KL(p(ẑ|x) ‖ N(0, τ²)), in nats.

        For τ² = 1 it is the rate (9).

        Args:
            prior_variance: τ², the variance of q(ẑ).
        """
        ratio = self.variance / prior_variance
        kl = 0.5 * (self.mean**2 / prior_variance + ratio - 1 - np.log(ratio))
        return float(kl @ self.p_x)

    def power(self) -> float:
        """Compute the received power E ẑ², which is the prior variance of the smallest rate."""
        return float((self.mean**2 + self.variance) @ self.p_x)
