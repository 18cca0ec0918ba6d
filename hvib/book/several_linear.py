"""A linear system of two devices, trained for every (β_1, β_2), and its exact objective."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.data import Split
from hvib.devices import Devices, each_of
from hvib.hyper import at
from hvib.system import System
from hvib.theory.distributed import Sources, distributed_response, sources

Pair = tuple[float, float]
"""(β_1, β_2)"""


class LinearDevice(nn.Module):
    """(μ, log θ²) = (w x, t): one feature, whose own noise does not depend on x."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(1, 1, bias=False)
        self.spread = nn.Linear(1, 1)

    def forward(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B 2"]:
        return torch.cat([self.mean(x), self.spread(torch.ones_like(x))], -1)


def views_of(count: int, power: float, noise: Sequence[float], seed: int) -> Split:
    """Draw noisy views x_j = y + n_j of a Gaussian y, with sample means of 0.

    x is (N, J, 1), y is (N, 1).
    """
    rng = np.random.default_rng(seed)
    y = np.sqrt(power) * rng.standard_normal((count, 1))
    x = y + np.sqrt(noise) * rng.standard_normal((count, len(noise)))
    parts = (values - values.mean(0) for values in (x, y))
    views, target = (torch.from_numpy(values.astype(np.float32)) for values in parts)
    return Split(views[..., None], target)


def sources_of(split: Split) -> Sources:
    """Describe the examples themselves, so that no difference to them is chance."""
    whole = torch.cat([split.y, split.x.squeeze(-1)], 1).double().numpy()  # (N, 1 + J)
    return sources(whole.T @ whole / len(whole), [1] * (whole.shape[1] - 1))


def linear_system(snr_db: float, seed: int, devices: int = 2) -> System:
    """Build a plain linear system of devices with one feature each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        each = Devices([LinearDevice() for _ in range(devices)], each_of, [1] * devices)
        return System(each, nn.Linear(devices, 1), AWGN(snr_db), devices)


class Exact(NamedTuple):
    """What a linear system does at several (β_1, …, β_J), without sampling."""

    objective: Float[np.ndarray, " M"]
    distortion: Float[np.ndarray, " M"]
    rates: Float[np.ndarray, "M J"]


@torch.no_grad()
def exact(system: System, split: Split, betas: Sequence[Pair]) -> Exact:
    """Compute D + Σ_j β_j R_j of a linear system on examples of mean 0, in closed form."""
    M, J = len(betas), len(system.blocks)
    with at(betas):
        rest = system.device(torch.zeros(M, J, 1)).double()
        moved = system.device(torch.ones(M, J, 1)).double()
        columns = [system.network(one.expand(M, J)) for one in torch.eye(J)]
        offset = system.network(torch.zeros(M, J)).double()  # (M, 1)
    v = (torch.cat(columns, 1).double() - offset).numpy()  # (M, J)
    shift, log_variance = rest.numpy()[:, :J], rest.numpy()[:, J:]
    w = moved.numpy()[:, :J] - shift
    s = np.exp(log_variance) + system.channel.variance
    x, y = split.x.squeeze(-1).double().numpy(), split.y.double().numpy()
    left = y.T - (v * w) @ x.T - offset.numpy() - (v * shift).sum(1, keepdims=True)  # (M, N)
    distortion = (left**2).mean(1) + (v**2 * s).sum(1)
    sent = w**2 * (x**2).mean(0) + shift**2
    rates = 0.5 * (sent + s - 1 - np.log(s))
    return Exact(distortion + (np.array(betas) * rates).sum(1), distortion, rates)


def least(split: Split, betas: Sequence[Pair], noise_variance: float) -> Exact:
    """Compute the closed form of the same examples."""
    data = sources_of(split)
    found = [distributed_response(data, np.array(pair), noise_variance) for pair in betas]
    assert all(one.proven for one in found)
    return Exact(
        *(np.array([getattr(one, name) for one in found]) for name in Exact._fields),
    )


def own_only(
    data: Sources, grid: Sequence[float], noise_variance: float
) -> Float[np.ndarray, "K K"]:
    """Minimise the mean relative excess of two devices of one number each that read their own β.

    Each device has a w and a θ for each of its β, whatever the other's β is, and the network has
    the best weights for each pair. What is left above the closed form is the price of not knowing
    the other's β. Found by descents from the closed form's mean over the other's β, so that it is
    an upper bound of that price.

    Args:
        grid: K values that each β takes.

    Returns:
        C over the closed form's, less 1, for each (β_1, β_2).
    """
    betas, K = np.array(grid), len(grid)
    pairs = [
        [distributed_response(data, np.array([a, b]), noise_variance) for b in grid] for a in grid
    ]
    closed = np.array([[one.objective for one in row] for row in pairs])
    root, rho = np.sqrt(noise_variance), float(data.correlation[0, 1])

    def objective(parameters: np.ndarray) -> np.ndarray:
        w, theta = parameters.reshape(2, 2, K)  # each (device, β)
        s = theta**2 + root**2
        rate = 0.5 * (w**2 + s - 1 - np.log(s))
        power = (w**2 + s)[0][:, None], (w**2 + s)[1]
        cross = rho * w[0][:, None] * w[1]
        told = (w[0] * data.cross[0])[:, None], w[1] * data.cross[1]
        determinant = power[0] * power[1] - cross**2
        found = told[0] ** 2 * power[1] + told[1] ** 2 * power[0] - 2 * told[0] * told[1] * cross
        error = data.power - found / determinant
        return error + (betas * rate[0])[:, None] + betas * rate[1]

    def mean(parameters: np.ndarray) -> float:
        return float((objective(parameters) / closed).mean()) - 1

    sent = np.array([[one.sent_power for one in row] for row in pairs])  # (K, K, 2)
    own = np.array([[one.received_variance for one in row] for row in pairs]) - root**2
    starts = [np.sqrt([values[..., 0].mean(1), values[..., 1].mean(0)]) for values in (sent, own)]
    rng, tight = np.random.default_rng(0), {"maxiter": 5000, "maxfun": 500_000, "ftol": 1e-12}
    begin = np.concatenate([part.ravel() for part in starts])
    tries = [begin + 0.1 * k * rng.standard_normal(begin.size) for k in range(4)]
    runs = [optimize.minimize(mean, one, method="L-BFGS-B", options=tight) for one in tries]
    return objective(min(runs, key=lambda run: float(run.fun)).x) / closed - 1
