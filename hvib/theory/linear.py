"""The linear case in closed form: equations (18) to (29), Theorem 1, and Theorem 2 of the book.

The device is z = wᵀx + ξ, the channel ẑ = z + ε with ε ~ N(0, σ²), the network ŷ = v ẑ, and the
distortion is squared error. In the paper, (18), the device is deterministic (ξ = 0) and v is
fixed. Theorem 2, which goes beyond the paper, frees both. N examples have d columns each. All
functions compute in float64; those that take `beta` accept one β or an array of K.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.check import require

Vector = Float[np.ndarray, " d"]

Matrix = Float[np.ndarray, "N d"]

Target = Float[np.ndarray, " N"]

Scalars = float | Float[np.ndarray, "*K"]


def positive(name: str, value: Scalars) -> Float[np.ndarray, "*K"]:
    """Convert a parameter to a float64 array and check that it is finite and positive.

    Args:
        name: the parameter's name in the message of the error.
        value: a number or an array, which must not be empty.

    Raises:
        ValueError: an entry is not finite and positive, or there is none.
    """
    array = np.asarray(value, dtype=float)
    ok = array.size > 0 and bool((np.isfinite(array) & (array > 0)).all())
    require(ok, name, value, f"give a finite {name} > 0")
    return array


def decoder(v: float) -> float:
    """Check the network's weight v and return it as a float.

    Raises:
        ValueError: v is 0 or not finite.
    """
    why = "give a finite v ≠ 0 (at v = 0 the network ignores the feature: w* = 0 for every β)"
    require(bool(np.isfinite(v)) and v != 0, "v", v, why)
    return float(v)


def _examples(X: Matrix, y: Target) -> tuple[Matrix, Target]:
    """Convert the examples to float64 and check them.

    Raises:
        ValueError: X is not a matrix, y does not have one target a row, or a value is not finite.
    """
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    require(X.ndim == 2 and X.size > 0, "X.shape", X.shape, "give N ≥ 1 rows of d ≥ 1 columns")
    require(y.shape == X.shape[:1], "y.shape", y.shape, f"give one target a row, ({len(X)},)")
    for name, array in (("X", X), ("y", y)):
        wrong = array[~np.isfinite(array)]
        require(wrong.size == 0, name, wrong[:1].tolist(), "give finite values only")
    return X, y


def least_squares(X: Matrix, y: Target) -> Vector:
    """Compute the least-squares weights (XᵀX)⁻¹Xᵀy, to which every best response is proportional.

    Raises:
        ValueError: a value is not finite, the shapes disagree, or rank(X) < d.
    """
    X, y = _examples(X, y)
    rank, d = int(np.linalg.matrix_rank(X)), X.shape[1]
    require(rank == d, "rank(X)", rank, f"XᵀX is singular; give X of rank d = {d}")
    # lstsq works on X itself. XᵀX has its condition number squared and would lose twice the digits.
    return np.linalg.lstsq(X, y, rcond=None)[0]


def objective(
    w: Vector, X: Matrix, y: Target, v: float, beta: float, noise_variance: float
) -> float:
    """Compute the objective C(w) of (22) for a deterministic device.

    It is the distortion (20) plus β times the rate (21), in squared units of y and in nats.
    """
    z = X @ w
    distortion = np.mean((y - v * z) ** 2) + v**2 * noise_variance
    rate = 0.5 * (np.mean(z**2) + noise_variance - 1 - np.log(noise_variance))
    return float(distortion + beta * rate)


def gradient(w: Vector, X: Matrix, y: Target, v: float, beta: float) -> Vector:
    """Compute the gradient ∇C(w) of (23), (d,)."""
    return (-2 * v * X.T @ (y - v * X @ w) + beta * X.T @ X @ w) / len(X)


def gain(v: float, beta: Scalars) -> Float[np.ndarray, "*K"]:
    """Compute g(β) = 2v / (2v² + β), by which (25) scales the least-squares weights.

    Raises:
        ValueError: v is 0 or not finite, or a β is not finite and positive.
    """
    v = decoder(v)
    return 2 * v / (2 * v**2 + positive("beta", beta))


def best_response(X: Matrix, y: Target, v: float, beta: Scalars) -> Float[np.ndarray, "*K d"]:
    """Compute the best response w*(β) of (24), which minimises (22), for each β.

    Raises:
        ValueError: as `least_squares` and `gain`.
    """
    return gain(v, beta)[..., None] * least_squares(X, y)


@dataclass(frozen=True)
class Hypernetwork:
    """A gated device of two linear layers without biases, d → d → 1: equations (26) to (28).

    `W1`, `u1` and `v1` are the weights and the gates' parameters of the first layer, `W2`, `u2` and
    `v2` those of the second.
    """

    W1: Float[np.ndarray, "d d"]
    u1: Vector
    v1: Vector
    W2: Vector
    u2: float
    v2: float

    def response(self, beta: Scalars) -> Float[np.ndarray, "*K d"]:
        """Compute the weights of x to which both gated layers combine, W₂(β)W₁(β) in (29).

        Raises:
            ValueError: a β is not finite and positive.
        """
        log_beta = np.log(positive("beta", beta))[..., None]  # (K, 1)
        s1 = 1 / (1 + np.exp(-(self.u1 * log_beta + self.v1)))  # (K, d)
        s2 = 1 / (1 + np.exp(-(self.u2 * log_beta + self.v2)))  # (K, 1)
        return s2 * (self.W2 * s1) @ self.W1


def theorem1(X: Matrix, y: Target, v: float) -> Hypernetwork:
    """Construct the parameters with which the gated device is the best response (24) at every β.

    Raises:
        ValueError: as `least_squares` and `gain`.
    """
    v = decoder(v)
    solution = least_squares(X, y)
    ones = np.ones(len(solution))
    U, length, right = np.linalg.svd(solution[:, None])  # (25)
    # The paper takes the right singular vector, a single number, to be 1. numpy may return −1,
    # so the sign goes into s.
    s = np.zeros(len(solution))
    s[0] = length[0] * right[0, 0]
    # The first layer's gate is S(ln 2v² − ln β) = 2v² / (2v² + β). The second layer's is S(0) = ½
    # for every β, hence the 2 in front of s. ln 2v² is a sum, so that v² cannot underflow.
    return Hypernetwork(U.T / v, -ones, (np.log(2) + 2 * np.log(abs(v))) * ones, 2 * s, 0.0, 0.0)


def explained_power(X: Matrix, y: Target) -> float:
    """Compute the power of the least-squares prediction, P = ‖X(XᵀX)⁻¹Xᵀy‖² / N.

    Its unit is that of y, squared.

    Raises:
        ValueError: as `least_squares`.
    """
    return float(np.mean((X @ least_squares(X, y)) ** 2))


class JointResponse(NamedTuple):
    """The minimum of D + βR over w, v and the device's variance θ² (Theorem 2), for each β.

    D_min is the mean squared residual of least squares, which no linear system undercuts.
    """

    regime: np.ndarray
    """one of `REGIMES`"""
    gain: Float[np.ndarray, "*K"]
    """t, the factor from the least-squares prediction to the mean of ŷ"""
    received_variance: Float[np.ndarray, "*K"]
    """s = θ² + σ²"""
    decoder_power: Float[np.ndarray, "*K"]
    """v², from which w = (t / v) (XᵀX)⁻¹Xᵀy"""
    sent_power: Float[np.ndarray, "*K"]
    """‖Xw‖² / N, which together with s is the received power"""
    distortion: Float[np.ndarray, "*K"]
    """D − D_min, in squared units of y"""
    rate: Float[np.ndarray, "*K"]
    """R in nats"""
    objective: Float[np.ndarray, "*K"]
    """D − D_min + βR"""


REGIMES = ("channel-limited", "rate–distortion optimal", "collapsed")
"""the regimes of Theorem 2, in the order in which they follow each other as β grows"""


def joint_response(power: float, beta: Scalars, noise_variance: float) -> JointResponse:
    """Compute the joint best response of device and network: Theorem 2.

    With r = β/(2P), s* = max(σ², min(1, r)), t* = max(0, 1 − √(s*r)) and v*² = t*P√(r/s*). On a
    channel of 0 dB or worse, σ² ≥ 1, the middle regime is empty and the collapse begins at
    β = 2P/σ².

    Args:
        power: P > 0, from `explained_power`.
        beta: one β or an array of K.
        noise_variance: σ² > 0.

    Raises:
        ValueError: an argument is not finite and positive.
    """
    P = float(positive("power", power))
    floor = float(positive("noise_variance", noise_variance))
    beta = positive("beta", beta)
    r = beta / (2 * P)
    s = np.maximum(floor, np.minimum(1.0, r))
    t = np.maximum(0.0, 1 - np.sqrt(s * r))
    decoder = t * P * np.sqrt(r / s)
    # `sent` is t²P / v², rearranged so that it is 0 and not 0 / 0 where t = 0.
    sent = t * np.sqrt(s / r)
    distortion = (1 - t) ** 2 * P + decoder * s
    rate = 0.5 * (sent + s - 1 - np.log(s))
    # t = 0 comes first: on a channel of 0 dB or worse s equals σ² after the collapse too.
    regime = np.select([t == 0, s == floor], [REGIMES[2], REGIMES[0]], REGIMES[1])
    return JointResponse(regime, t, s, decoder, sent, distortion, rate, distortion + beta * rate)


def joint_objective(
    parameters: Vector, X: Matrix, y: Target, beta: float, noise_variance: float
) -> tuple[float, Vector]:
    """Compute the objective of Theorem 2 and its gradient, for a numerical minimiser.

    Args:
        parameters: w, v and θ in one vector of length d + 2.
        noise_variance: σ².

    Returns:
        C at any (w, v, θ), with D_min included, and its gradient, (d + 2,).
    """
    w, v, theta = parameters[:-2], parameters[-2], parameters[-1]
    z = X @ w
    error = y - v * z
    s = theta**2 + noise_variance
    value = np.mean(error**2) + v**2 * s + beta / 2 * (np.mean(z**2) + s - 1 - np.log(s))
    to_w = (-2 * v * X.T @ error + beta * X.T @ z) / len(X)
    to_v = -2 * np.mean(error * z) + 2 * v * s
    to_theta = 2 * theta * (v**2 + beta / 2 * (1 - 1 / s))
    return float(value), np.append(to_w, [to_v, to_theta])


def distortion_at_rate(power: float, rate: Scalars) -> Float[np.ndarray, "*K"]:
    """Compute the Gaussian distortion–rate function P exp(−2R), the distortion above D_min.

    Args:
        power: P, from `explained_power`.
        rate: R in nats.

    Raises:
        ValueError: the power is not finite and positive.
    """
    return positive("power", power) * np.exp(-2 * np.asarray(rate, dtype=float))


def relevant_information(explained: float, rate: Scalars) -> Float[np.ndarray, "*K"]:
    """Compute the Gaussian information-bottleneck curve: the largest I(Y; Ẑ) for a given I(X; Ẑ).

    For jointly Gaussian x and scalar y it is −½ ln(1 − ρ²(1 − exp(−2 I(X; Ẑ)))), where ρ² is the
    share of the variance of y that x explains :cite:`chechik2005information`.

    Args:
        explained: ρ² in (0, 1).
        rate: I(X; Ẑ) in nats.

    Returns:
        I(Y; Ẑ) in nats.

    Raises:
        ValueError: ρ² is out of range.
    """
    require(0 < explained < 1, "explained", explained, "give a share of variance in (0, 1)")
    # expm1 keeps the digits of 1 − exp(−2R) at small rates.
    return -0.5 * np.log(1 - explained * -np.expm1(-2 * np.asarray(rate, dtype=float)))


def sign_accuracy(correlation: Scalars) -> Float[np.ndarray, "*K"]:
    """Compute how often two centred jointly Gaussian variables agree in sign, ½ + arcsin(r)/π.

    Args:
        correlation: r, from −1 to 1.
    """
    return 0.5 + np.arcsin(np.asarray(correlation, dtype=float)) / np.pi
