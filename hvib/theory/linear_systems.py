"""Linear systems that can be trained, and their exact terms, for comparison with closed forms."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.check import require
from hvib.data import Data, Split
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.system import System
from hvib.theory.linear import Matrix, Target, Vector, decoder, positive


def gaussian_data(count: int, weights: Vector, noise_std: float, seed: int) -> Data:
    """Draw x ~ N(0, I) and y = weightsᵀx + N(0, noise_std²), both centred.

    The sample serves as all three splits.

    Args:
        count: N, at least d + 2.
        weights: (d,).
        noise_std: standard deviation of what x does not explain of y.
        seed: determines every value.

    Raises:
        ValueError: there are too few examples.
    """
    weights = np.asarray(weights, dtype=float)
    # Centring costs one degree of freedom, the weights d, and a residual needs one more.
    require(count >= len(weights) + 2, "count", count, f"give at least {len(weights) + 2}")
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, len(weights)))
    X -= X.mean(0)
    y = X @ weights + noise_std * rng.standard_normal(count)
    # One split for all three: the closed forms are about the examples trained on.
    split = Split(torch.tensor(X).float(), torch.tensor(y - y.mean()).float()[:, None])
    return Data(split, split, split)


def examples(data: Data) -> tuple[Matrix, Target]:
    """Return X, (N, d), and y, (N,), of the training split in float64, for the closed forms."""
    return data.train.x.double().numpy(), data.train.y[:, 0].double().numpy()


def parallel_source(count: int, powers: Vector, seed: int) -> Data:
    """Draw x with independent components of given powers, and y = x.

    The sample serves as all three splits. Its mean is exactly 0 and its covariance exactly
    diag(powers), so that a closed form in the powers holds for the sample itself.

    Args:
        count: N, more than the number d of components.
        powers: variance of each component, (d,).
        seed: determines every value.

    Raises:
        ValueError: a power is not finite and positive, or there are too few examples.
    """
    powers = positive("powers", powers)
    require(count > len(powers), "count", count, f"give more than {len(powers)}")
    X = np.random.default_rng(seed).standard_normal((count, len(powers)))
    Q = np.linalg.qr(X - X.mean(0))[0]  # orthonormal columns without a mean
    x = torch.tensor(Q * np.sqrt(count * powers)).float()
    return Data(*[Split(x, x)] * 3)


class Deterministic(nn.Module):
    """A device whose feature has no variance of its own, Θ = 0.

    Args:
        mean: any module from x to μ, (B, n); log θ² = −∞ is appended to its output.
    """

    def __init__(self, mean: nn.Module) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 2n"]:
        mean = self.mean(x)
        # A finite log θ² would leave some variance; with −∞, θ = exp(−∞ / 2) is exactly 0.
        return torch.cat([mean, torch.full_like(mean, -torch.inf)], -1)


class Amplifier(nn.Module):
    """The network of Theorem 1: ŷ = v ẑ, with v fixed.

    Raises:
        ValueError: v is 0 or not finite.
    """

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = decoder(v)

    def forward(self, received: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return self.v * received


def theorem1_system(d: int, v: float, snr_db: float, seed: int) -> System:
    """Build the system of (18) with the gated two-layer device of Theorem 1, not yet trained.

    Args:
        d: number of components of x.
        v: the network's fixed weight.
        snr_db: signal-to-noise ratio of the channel in dB.
        seed: seed of the weights and the gates.
    """
    # Forked, so that building a system leaves the caller's random stream as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = nn.Sequential(nn.Linear(d, d, bias=False), nn.Linear(d, 1, bias=False))
    return System(Deterministic(hyperize(device, seed)), Amplifier(v), AWGN(snr_db), 1)


def theorem2_system(d: int, snr_db: float, seed: int, gate: Callable[[int], Gate] = Gate) -> System:
    """Build the gated linear system of Theorem 2, in which device, variance and network all train.

    The device has two layers from x to (μ, log θ²) of one feature, the network one layer. Both have
    biases.

    Args:
        d: number of components of x.
        snr_db: signal-to-noise ratio of the channel in dB.
        seed: seed of the weights and the gates.
        gate: makes a layer's gate from its number of outputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = nn.Sequential(nn.Linear(d, d), nn.Linear(d, 2))
        network = nn.Linear(1, 1)
    return hyperize(System(device, network, AWGN(snr_db), 1), seed, gate)


def parallel_system(d: int, snr_db: float, seed: int, gate: Callable[[int], Gate] = Gate) -> System:
    """Build a gated linear system of d features for d components, with one layer at each end.

    Args:
        d: number of components of x, and of features.
        snr_db: signal-to-noise ratio of the channel in dB.
        seed: seed of the weights and the gates.
        gate: makes a layer's gate from its number of outputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        system = System(nn.Linear(d, 2 * d), nn.Linear(d, d), AWGN(snr_db), d)
    return hyperize(system, seed, gate)


@torch.no_grad()
def learned_response(
    system: System, d: int, betas: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "K d"]:
    """Read the weights w(β) of x that a gated linear device without biases has learnt.

    Args:
        d: number of components of x.
        betas: K values of β.
    """
    # Without biases, the unit vectors' features are the weights; each β gets all d of them.
    with at(torch.from_numpy(betas)):
        moments = system.device(torch.eye(d).repeat(len(betas), 1))  # (K·d, 2)
    return moments[:, 0].double().numpy().reshape(len(betas), d)


@torch.no_grad()
def learned_gates(system: System, betas: Float[np.ndarray, " K"]) -> list[Float[np.ndarray, "K m"]]:
    """Evaluate s(β) of each gated layer of a system, in the order of the layers."""
    log_beta = torch.from_numpy(betas).log()
    gates = [m.gate for m in system.modules() if isinstance(m, Gated)]
    return [gate(log_beta.to(gate.u)).double().numpy() for gate in gates]


class ExactTerms(NamedTuple):
    """The distortion and rate of a linear system, with the noise averaged in closed form."""

    distortion: float
    """D of (7), in squared units of the target"""
    rates: Float[np.ndarray, " n"]
    """the rate (9) of each feature in nats"""

    @property
    def rate(self) -> float:
        """R in nats, the sum over the features."""
        return float(self.rates.sum())


class _Moments(NamedTuple):
    """What a linear system computes at one β, apart from its noise."""

    prediction: Float[np.ndarray, "N k"]
    """mean of ŷ over the noise"""
    mean: Float[np.ndarray, "N n"]
    """μ of each feature"""
    variance: Float[np.ndarray, "N n"]
    """θ² + σ² of each received feature"""
    slope: Float[np.ndarray, "n k"]
    """derivative of ŷ by each received feature"""


@torch.no_grad()
def _moments(system: System, X: Matrix, beta: float) -> _Moments:
    """Evaluate a gated linear system at one β, in float64 and without noise.

    The gates are folded into the weights first, so that the network is one affine map.
    """
    plain, n = fold(system, beta).double(), system.features
    noise = torch.zeros(2, 1, len(X), n, dtype=torch.float64)  # (2, M = 1, N, n)
    out = plain(torch.from_numpy(X)[None], noise)  # (1, N, ·)
    # Each feature alone, then none: what the network makes of none is its bias.
    ends = plain.network(torch.eye(n + 1, n, dtype=torch.float64))  # (n + 1, k)
    slope = ends[:-1] - ends[-1]  # (n, k)
    received = out.variance + plain.channel.variance
    parts = (out.prediction[0], out.mean[0], received[0], slope)
    return _Moments(*(part.numpy() for part in parts))


def exact_terms(system: System, X: Matrix, y: Float[np.ndarray, "N *k"], beta: float) -> ExactTerms:
    """Compute distortion and rate of a gated linear system at one β, with its gates folded.

    The network is affine, so noise of variance s_j in feature j adds ‖slope_j‖² s_j to the squared
    error, on average.

    Args:
        X: N examples.
        y: their targets.
        beta: the β at which the system runs.
    """
    prediction, mean, variance, slope = _moments(system, X, beta)
    error = y.reshape(len(y), -1) - prediction  # (N, k)
    added = variance.mean(0) @ np.square(slope).sum(-1)
    return ExactTerms(
        float(np.square(error).sum(-1).mean() + added),
        0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(0),
    )


def received_correlation(system: System, X: Matrix, y: Target, beta: float) -> float:
    """Compute the absolute correlation between y and the received feature of a system with n = 1.

    ŷ is an affine function of the feature, so its correlation with y has the same absolute value.
    It depends neither on the scale nor on the offset of ŷ.
    """
    _, mean, variance, _ = _moments(system, X, beta)
    # Centring z alone suffices: the mean of y then drops out of the product.
    z, s = mean[:, 0] - mean.mean(), float(variance.mean())
    return float(abs(np.mean(z * y)) / y.std() / np.sqrt(z.var() + s))
