"""The linear case in closed form: equations (18) to (29), Theorem 1, and Theorem 2 past the paper.

Device z = wᵀx + ξ, channel ẑ = z + ε with ε ~ N(0, σ²), network ŷ = v ẑ, squared error. In
the paper, (18), the device is deterministic, ξ = 0, and v is fixed; Theorem 2 frees both.
Closed forms are numpy in float64, for one β or for K at once; what trains is torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.config import require
from hvib.data import Data, Split
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.models import System

Vector = Float[np.ndarray, " d"]
Matrix = Float[np.ndarray, "N d"]
Target = Float[np.ndarray, " N"]
Scalars = float | Float[np.ndarray, "*K"]


def _positive(name: str, value: Scalars) -> Float[np.ndarray, "*K"]:
    array = np.asarray(value, dtype=float)
    ok = array.size > 0 and bool((np.isfinite(array) & (array > 0)).all())
    require(ok, name, value, f"give a finite {name} > 0")
    return array


def _decoder(v: float) -> float:
    why = "give a finite v ≠ 0 (at v = 0 the network ignores the feature: w* = 0 for every β)"
    require(bool(np.isfinite(v)) and v != 0, "v", v, why)
    return float(v)


def _examples(X: Matrix, y: Target) -> tuple[Matrix, Target]:
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    require(X.ndim == 2 and X.size > 0, "X.shape", X.shape, "give N ≥ 1 rows of d ≥ 1 columns")
    require(y.shape == X.shape[:1], "y.shape", y.shape, f"give one target a row, ({len(X)},)")
    for name, array in (("X", X), ("y", y)):
        wrong = array[~np.isfinite(array)]
        require(wrong.size == 0, name, wrong[:1].tolist(), "give finite values only")
    return X, y


def least_squares(X: Matrix, y: Target) -> Vector:
    """(XᵀX)⁻¹Xᵀy, the direction of every best response.

    Raises:
        ValueError: a value is not finite, the shapes disagree, or rank(X) < d.
    """
    X, y = _examples(X, y)
    rank, d = int(np.linalg.matrix_rank(X)), X.shape[1]
    require(rank == d, "rank(X)", rank, f"XᵀX is singular; give X of rank d = {d}")
    return np.linalg.lstsq(X, y, rcond=None)[0]


def objective(
    w: Vector, X: Matrix, y: Target, v: float, beta: float, noise_variance: float
) -> float:
    """C(w) of (22): the distortion (20) plus β times the rate (21), for a deterministic device."""
    z = X @ w
    distortion = np.mean((y - v * z) ** 2) + v**2 * noise_variance
    rate = 0.5 * (np.mean(z**2) + noise_variance - 1 - np.log(noise_variance))
    return float(distortion + beta * rate)


def gradient(w: Vector, X: Matrix, y: Target, v: float, beta: float) -> Vector:
    """∇C(w), equation (23)."""
    return (-2 * v * X.T @ (y - v * X @ w) + beta * X.T @ X @ w) / len(X)


def gain(v: float, beta: Scalars) -> Float[np.ndarray, "*K"]:
    """g(β) = 2v / (2v² + β) of (25), by which w*(β) scales the least-squares solution.

    Raises:
        ValueError: v is 0 or not finite, or a β is not finite and positive.
    """
    v = _decoder(v)
    return 2 * v / (2 * v**2 + _positive("beta", beta))


def best_response(X: Matrix, y: Target, v: float, beta: Scalars) -> Float[np.ndarray, "*K d"]:
    """w*(β), equation (24): the minimiser of (22).

    Raises:
        ValueError: as `least_squares` and `gain`.
    """
    return gain(v, beta)[..., None] * least_squares(X, y)


@dataclass(frozen=True)
class Hypernetwork:
    """A gated two-layer linear device without biases, d → d → 1: (26) to (28)."""

    W1: Float[np.ndarray, "d d"]
    u1: Vector
    v1: Vector
    W2: Vector
    u2: float
    v2: float

    def response(self, beta: Scalars) -> Float[np.ndarray, "*K d"]:
        """The weights of x that the two gated layers amount to, W₂(β)W₁(β) in (29).

        Raises:
            ValueError: a β is not finite and positive.
        """
        log_beta = np.log(_positive("beta", beta))[..., None]
        s1 = 1 / (1 + np.exp(-(self.u1 * log_beta + self.v1)))  # (K, d)
        s2 = 1 / (1 + np.exp(-(self.u2 * log_beta + self.v2)))  # (K, 1)
        return s2 * (self.W2 * s1) @ self.W1


def theorem1(X: Matrix, y: Target, v: float) -> Hypernetwork:
    """The parameters with which the gated device is the best response (24) for every β.

    Raises:
        ValueError: as `least_squares` and `gain`.
    """
    v = _decoder(v)
    solution = least_squares(X, y)
    ones = np.ones(len(solution))
    U, length, right = np.linalg.svd(solution[:, None])  # (25); right is ±1, the paper's 1
    s = np.zeros(len(solution))
    s[0] = length[0] * right[0, 0]
    return Hypernetwork(U.T / v, -ones, (np.log(2) + 2 * np.log(abs(v))) * ones, 2 * s, 0.0, 0.0)


def explained_power(X: Matrix, y: Target) -> float:
    """P = ‖X(XᵀX)⁻¹Xᵀy‖² / N, the power of the least-squares prediction.

    Raises:
        ValueError: as `least_squares`.
    """
    return float(np.mean((X @ least_squares(X, y)) ** 2))


class JointResponse(NamedTuple):
    """The minimiser of D + βR over w, v and the device's variance together: Theorem 2."""

    regime: np.ndarray
    """`channel-limited`, `rate–distortion optimal` or `collapsed`, for each β"""
    gain: Float[np.ndarray, "*K"]
    """t, the end-to-end gain: ŷ = t × the least-squares prediction + noise"""
    received_variance: Float[np.ndarray, "*K"]
    """s = θ² + σ²"""
    decoder_power: Float[np.ndarray, "*K"]
    """v²; with it w = (t / v) (XᵀX)⁻¹Xᵀy"""
    sent_power: Float[np.ndarray, "*K"]
    """‖Xw‖² / N; the received power is this plus s"""
    distortion: Float[np.ndarray, "*K"]
    """D − D_min, above the least-squares residual"""
    rate: Float[np.ndarray, "*K"]
    """R in nats"""
    objective: Float[np.ndarray, "*K"]
    """D − D_min + βR"""


REGIMES = ("channel-limited", "rate–distortion optimal", "collapsed")


def joint_response(power: float, beta: Scalars, noise_variance: float) -> JointResponse:
    """Theorem 2 in closed form. One β must be given, or an array of them.

    With r = β/(2P): s* = max(σ², min(1, r)), t* = max(0, 1 − √(s*r)) and v*² = t*P√(r/s*).
    For σ² ≥ 1, a channel worse than 0 dB, the middle regime is empty and collapse begins at
    β = 2P/σ².

    Args:
        power: P > 0, `explained_power`.
        noise_variance: σ² > 0.

    Raises:
        ValueError: an argument is not finite and positive.
    """
    P = float(_positive("power", power))
    floor = float(_positive("noise_variance", noise_variance))
    beta = _positive("beta", beta)
    r = beta / (2 * P)
    s = np.maximum(floor, np.minimum(1.0, r))
    t = np.maximum(0.0, 1 - np.sqrt(s * r))
    decoder = t * P * np.sqrt(r / s)
    sent = t * np.sqrt(s / r)  # = t²P / v², without 0 / 0 where t = 0
    distortion = (1 - t) ** 2 * P + decoder * s
    rate = 0.5 * (sent + s - 1 - np.log(s))
    regime = np.select([t == 0, s == floor], [REGIMES[2], REGIMES[0]], REGIMES[1])
    return JointResponse(regime, t, s, decoder, sent, distortion, rate, distortion + beta * rate)


def joint_objective(
    parameters: Vector, X: Matrix, y: Target, beta: float, noise_variance: float
) -> tuple[float, Vector]:
    """C and its gradient at any (w, v, θ): what Theorem 2 minimises, for a numerical minimiser.

    Args:
        parameters: w, v and θ in one vector of length d + 2.
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
    """P exp(−2R): the Gaussian distortion–rate function, R in nats, above D_min.

    Raises:
        ValueError: the power is not finite and positive.
    """
    return _positive("power", power) * np.exp(-2 * np.asarray(rate, dtype=float))


def relevant_information(explained: float, rate: Scalars) -> Float[np.ndarray, "*K"]:
    """The Gaussian information-bottleneck curve: the largest I(Y; Ẑ) at I(X; Ẑ) = `rate`, in nats.

    For jointly Gaussian x and scalar y it is −½ ln(1 − ρ²(1 − exp(−2 I(X; Ẑ)))) (Chechik et
    al., 2005), in which ρ² is the share of y's variance that x explains.

    Args:
        explained: ρ² in (0, 1).

    Raises:
        ValueError: ρ² is out of range.
    """
    require(0 < explained < 1, "explained", explained, "give a share of variance in (0, 1)")
    return -0.5 * np.log(1 - explained * -np.expm1(-2 * np.asarray(rate, dtype=float)))


def gaussian_data(count: int, weights: Vector, noise_std: float, seed: int) -> Data:
    """Draws of x ~ N(0, I) and y = weightsᵀx + N(0, noise_std²), centred; all splits are one.

    Args:
        count: N, at least d + 2.
    """
    weights = np.asarray(weights, dtype=float)
    require(count >= len(weights) + 2, "count", count, f"give at least {len(weights) + 2}")
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, len(weights)))
    X -= X.mean(0)
    y = X @ weights + noise_std * rng.standard_normal(count)
    split = Split(torch.tensor(X).float(), torch.tensor(y - y.mean()).float()[:, None])
    return Data(split, split, split)


def examples(data: Data) -> tuple[Matrix, Target]:
    """X and y of the training split, for the closed forms."""
    return data.train.x.double().numpy(), data.train.y[:, 0].double().numpy()


def parallel_source(count: int, powers: Vector, seed: int) -> Data:
    """Draws of x ~ N(0, diag powers) with y = x; their mean and covariance are exactly these.

    Args:
        count: N, more than the number of components.
        powers: variance of each component.

    Raises:
        ValueError: a power is not finite and positive, or there are too few draws.
    """
    powers = _positive("powers", powers)
    require(count > len(powers), "count", count, f"give more than {len(powers)}")
    X = np.random.default_rng(seed).standard_normal((count, len(powers)))
    Q = np.linalg.qr(X - X.mean(0))[0]  # orthonormal columns without a mean
    x = torch.tensor(Q * np.sqrt(count * powers)).float()
    return Data(*[Split(x, x)] * 3)


class Deterministic(nn.Module):
    """A device whose feature has no variance: appends log θ² = −∞ to the mean, so that Θ = 0."""

    def __init__(self, mean: nn.Module) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 2n"]:
        mean = self.mean(x)
        return torch.cat([mean, torch.full_like(mean, -torch.inf)], -1)


class Amplifier(nn.Module):
    """ŷ = v ẑ with v fixed: the network that Theorem 1 is about."""

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = _decoder(v)

    def forward(self, received: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return self.v * received


def theorem1_system(d: int, v: float, snr_db: float, seed: int) -> System:
    """The system of (18) with Theorem 1's device, gated, before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = nn.Sequential(nn.Linear(d, d, bias=False), nn.Linear(d, 1, bias=False))
    return System(Deterministic(hyperize(device, seed)), Amplifier(v), AWGN(snr_db), 1)


def theorem2_system(d: int, snr_db: float, seed: int, gate: Callable[[int], Gate] = Gate) -> System:
    """A gated linear system in which all is free: two-layer device to (μ, log θ²), network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = nn.Sequential(nn.Linear(d, d), nn.Linear(d, 2))
        network = nn.Linear(1, 1)
    return hyperize(System(device, network, AWGN(snr_db), 1), seed, gate)


def parallel_system(d: int, snr_db: float, seed: int, gate: Callable[[int], Gate] = Gate) -> System:
    """A gated linear system of d features for d components: one layer at each end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        system = System(nn.Linear(d, 2 * d), nn.Linear(d, d), AWGN(snr_db), d)
    return hyperize(system, seed, gate)


@torch.no_grad()
def learned_response(
    system: System, d: int, betas: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "K d"]:
    """The weights w(β) of x that a gated linear device without biases has learnt."""
    with at(torch.from_numpy(betas)):
        moments = system.device(torch.eye(d).repeat(len(betas), 1))
    return moments[:, 0].double().numpy().reshape(len(betas), d)


@torch.no_grad()
def learned_gates(system: System, betas: Float[np.ndarray, " K"]) -> list[Float[np.ndarray, "K m"]]:
    """s(β) of each gated layer of a system, in order."""
    log_beta = torch.from_numpy(betas).log()
    gates = [m.gate for m in system.modules() if isinstance(m, Gated)]
    return [gate(log_beta.to(gate.u)).double().numpy() for gate in gates]


class ExactTerms(NamedTuple):
    """A linear system's terms with the noise averaged in closed form."""

    distortion: float
    rates: Float[np.ndarray, " n"]
    """of each feature, in nats"""

    @property
    def rate(self) -> float:
        """R in nats."""
        return float(self.rates.sum())


class _Moments(NamedTuple):
    """A linear system at one β: what it makes of each example, and how noise comes out."""

    prediction: Float[np.ndarray, "N k"]
    mean: Float[np.ndarray, "N n"]
    variance: Float[np.ndarray, "N n"]
    """of the received feature"""
    slope: Float[np.ndarray, "n k"]
    """of the prediction in the received feature"""


@torch.no_grad()
def _moments(system: System, X: Matrix, beta: float) -> _Moments:
    plain, n = fold(system, beta).double(), system.features
    noise = torch.zeros(2, 1, len(X), n, dtype=torch.float64)
    out = plain(torch.from_numpy(X)[None], noise)
    ends = plain.network(torch.eye(n + 1, n, dtype=torch.float64))  # each feature alone, and none
    slope = ends[:-1] - ends[-1]
    parts = (out.prediction[0], out.mean[0], out.received_variance[0], slope)
    return _Moments(*(part.numpy() for part in parts))


def exact_terms(system: System, X: Matrix, y: Float[np.ndarray, "N *k"], beta: float) -> ExactTerms:
    """What a gated linear system does at one β, its gates folded.

    The network is affine: noise of variance s_j in feature j adds ‖slope_j‖² s_j to the
    squared error.
    """
    prediction, mean, variance, slope = _moments(system, X, beta)
    error = y.reshape(len(y), -1) - prediction
    added = variance.mean(0) @ np.square(slope).sum(-1)
    return ExactTerms(
        float(np.square(error).sum(-1).mean() + added),
        0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(0),
    )


def received_correlation(system: System, X: Matrix, y: Target, beta: float) -> float:
    """Absolute correlation of y with the one received feature, and so with ŷ: it sees no scale."""
    _, mean, variance, _ = _moments(system, X, beta)
    z, s = mean[:, 0] - mean.mean(), float(variance.mean())
    return float(abs(np.mean(z * y)) / y.std() / np.sqrt(z.var() + s))


def sign_accuracy(correlation: Scalars) -> Float[np.ndarray, "*K"]:
    """How often two centred jointly Gaussian variables agree in sign: ½ + arcsin(r)/π."""
    return 0.5 + np.arcsin(np.asarray(correlation, dtype=float)) / np.pi
