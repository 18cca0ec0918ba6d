"""The general linear case: many targets, many features, and a spectrum that decides.

The device is z = Wᵀx + diag(θ) ξ, the channel ẑ = z + ε with ε ~ N(0, σ²I), the network ŷ = V ẑ,
and the distortion is the squared error summed over the k targets. N examples have d columns each,
and there are n features. All functions compute in float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.check import require
from hvib.theory.linear import JointResponse, Matrix, Scalars, Vector, joint_response, positive

Targets = Float[np.ndarray, "N k"]


class Spectrum(NamedTuple):
    """What the minimum depends on, of the data."""

    eigenvalues: Float[np.ndarray, " k"]
    """λ_j of ŶᵀŶ/N, descending, in squared units of y: powers of the least-squares prediction Ŷ"""
    axes: Float[np.ndarray, "k k"]
    """orthonormal eigenvectors of ŶᵀŶ/N, one a column, in the same order"""
    weights: Float[np.ndarray, "d k"]
    """the least-squares weights B, the shortest ones where X has not full rank; Ŷ = XB"""
    residual: float
    """D_min, the mean squared residual of least squares, summed over the targets"""


def joint_spectrum(X: Matrix, Y: Float[np.ndarray, "N *k"]) -> Spectrum:
    """Compute the spectrum of the least-squares prediction, of which the minimum is a sum.

    X need not have full rank, and a vector of targets counts as k = 1.

    Raises:
        ValueError: X is not a matrix, Y does not have one row an example, or a value is not finite.
    """
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    require(X.ndim == 2 and X.size > 0, "X.shape", X.shape, "give N ≥ 1 rows of d ≥ 1 columns")
    rows = Y.ndim in (1, 2) and Y.size > 0 and len(Y) == len(X)
    require(rows, "Y.shape", Y.shape, f"give one row of targets an example, ({len(X)}, k)")
    for name, array in (("X", X), ("Y", Y)):
        wrong = array[~np.isfinite(array)]
        require(wrong.size == 0, name, wrong[:1].tolist(), "give finite values only")
    Y = Y.reshape(len(Y), -1)
    weights = np.linalg.lstsq(X, Y, rcond=None)[0]
    predicted = X @ weights
    # The singular values of Ŷ, not the eigenvalues of ŶᵀŶ: squaring would lose the small ones.
    _, values, right = np.linalg.svd(predicted / np.sqrt(len(X)), full_matrices=True)
    eigenvalues = np.zeros(Y.shape[1])
    eigenvalues[: len(values)] = values**2
    return Spectrum(eigenvalues, right.T, weights, float(((Y - predicted) ** 2).sum(1).mean()))


class SpectrumResponse(NamedTuple):
    """The minimum of D + βR over W, V and θ, for each β."""

    features: tuple[JointResponse, ...]
    """Theorem 2 for each of the min(n, k) largest eigenvalues, descending"""
    distortion: Float[np.ndarray, "*K"]
    """D − D_min, in squared units of y"""
    rate: Float[np.ndarray, "*K"]
    """R in nats, idle features included"""
    objective: Float[np.ndarray, "*K"]
    """D − D_min + βR"""

    @property
    def open(self) -> Float[np.ndarray, "*K"]:
        """How many features are sent with a gain above 0."""
        return np.sum([one.gain > 0 for one in self.features], axis=0)


def idle_rate(noise_variance: float) -> float:
    """Compute the rate in nats of a feature that carries nothing: 0 up to σ² = 1.

    On a channel of less than 0 dB the received variance cannot be the prior's, and the rate counts
    the difference.
    """
    s = max(float(positive("noise_variance", noise_variance)), 1.0)
    return 0.5 * (s - 1 - float(np.log(s)))


def general_response(
    eigenvalues: Float[np.ndarray, " k"], beta: Scalars, noise_variance: float, features: int
) -> SpectrumResponse:
    """Compute the minimum of D + βR over all linear systems, at each β.

    Each of the n largest eigenvalues costs what Theorem 2 says of a source of that power. An
    eigenvalue without a feature costs itself. A feature without an eigenvalue costs β times
    `idle_rate`, which is 0 up to σ² = 1.

    Args:
        eigenvalues: λ_j ≥ 0 in any order, from `joint_spectrum`.
        beta: one β or an array of K.
        noise_variance: σ² > 0.
        features: n ≥ 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    powers = np.asarray(eigenvalues, dtype=float)
    ok = powers.ndim == 1 and powers.size > 0 and bool((np.isfinite(powers) & (powers >= 0)).all())
    require(ok, "eigenvalues", eigenvalues, "give a vector of finite eigenvalues ≥ 0")
    whole = isinstance(features, (int, np.integer)) and features >= 1
    require(whole, "features", features, "give a whole number n ≥ 1")
    powers = np.sort(powers)[::-1]
    # Theorem 2 asks for a power above 0. The smallest float has the same closed feature.
    sent = np.maximum(powers[:features], np.finfo(float).tiny)
    found = tuple(joint_response(power, beta, noise_variance) for power in sent)
    beta = positive("beta", beta)
    idle = max(features - len(powers), 0) * idle_rate(noise_variance)
    distortion = np.sum([one.distortion for one in found], axis=0) + powers[features:].sum()
    rate = np.sum([one.rate for one in found], axis=0) + idle
    return SpectrumResponse(found, distortion, rate, distortion + beta * rate)


class LinearSystem(NamedTuple):
    """Device, channel and network of the general linear case."""

    device: Float[np.ndarray, "d n"]
    """W, from x to the mean of each feature"""
    received_variance: Float[np.ndarray, " n"]
    """s_j = θ_j² + σ²"""
    network: Float[np.ndarray, "k n"]
    """V, from the received features to ŷ"""


def joint_system(data: Spectrum, beta: float, noise_variance: float, features: int) -> LinearSystem:
    """Construct a system that attains the minimum of `general_response` at one β.

    Feature j carries the least-squares prediction along the j-th axis, as in Theorem 2.

    Raises:
        ValueError: as `general_response`.
    """
    found = general_response(data.eigenvalues, float(beta), noise_variance, features).features
    k, used = len(data.eigenvalues), len(found)
    device = np.zeros((len(data.weights), features))
    network = np.zeros((k, features))
    variance = np.full(features, max(noise_variance, 1.0))
    for j, one in enumerate(found[:used]):
        variance[j] = one.received_variance
        if one.gain > 0:  # a closed feature stays at w = v = 0
            v = np.sqrt(one.decoder_power)
            device[:, j] = (one.gain / v) * (data.weights @ data.axes[:, j])
            network[:, j] = v * data.axes[:, j]
    return LinearSystem(device, variance, network)


def system_objective(
    system: LinearSystem, X: Matrix, Y: Targets, beta: float
) -> tuple[float, LinearSystem]:
    """Compute the objective of any linear system, and its slope in each of its parts.

    Returns:
        C = D + βR with D_min included, and its derivatives by W, s and V in place of them.
    """
    W, s, V = system
    sent = X @ W
    error = Y - sent @ V.T
    gains = (V**2).sum(0)  # how much variance of ŷ each unit of s_j makes
    distortion = (error**2).sum(1).mean() + gains @ s
    rate = 0.5 * ((sent**2).mean(0) + s - 1 - np.log(s)).sum()
    to_W = X.T @ (beta * sent - 2 * error @ V) / len(X)
    to_s = gains + beta / 2 * (1 - 1 / s)
    to_V = -2 * error.T @ sent / len(X) + 2 * V * s
    return float(distortion + beta * rate), LinearSystem(to_W, to_s, to_V)


def spectrum_objective(
    parameters: Vector, X: Matrix, Y: Targets, beta: float, noise_variance: float, features: int
) -> tuple[float, Vector]:
    """Compute the objective and its gradient, for a numerical minimiser.

    Args:
        parameters: W, V and θ in one vector of length n(d + k + 1).
        noise_variance: σ².
        features: n.
    """
    d, k = X.shape[1], Y.shape[1]
    W, V, theta = np.split(np.asarray(parameters), [d * features, (d + k) * features])
    system = LinearSystem(W.reshape(d, features), theta**2 + noise_variance, V.reshape(k, features))
    value, slope = system_objective(system, X, Y, beta)
    to_theta = 2 * theta * slope.received_variance
    return value, np.concatenate([slope.device.ravel(), slope.network.ravel(), to_theta])
