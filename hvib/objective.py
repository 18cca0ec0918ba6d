"""The variational information bottleneck objective: equations (5) to (9), (15) to (17)."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require
from hvib.distortions import Function, as_distortion

if TYPE_CHECKING:  # a system's passes compute their rates by this file
    from hvib.system import Output


def feature_kl(
    mean: Float[Tensor, "*batch n"], variance: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """KL( N(mean, variance) ‖ N(0, 1) ) of each feature in nats."""
    return 0.5 * (mean.square() + variance - 1 - variance.log())


def gaussian_kl(
    mean: Float[Tensor, "*batch n"], variance: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """KL( N(mean, diag variance) ‖ N(0, I) ) in nats: the summand of the rate (9).

    For the rate, both are of the received feature: on the paper's channel, μ and the diagonal of
    Θ + σ²I.
    """
    return feature_kl(mean, variance).sum(-1)


class Terms(NamedTuple):
    """The two sides of the trade-off, one value for each β."""

    distortion: Float[Tensor, " M"]
    """D of (7): nats, or squared units of the target"""
    rate: Float[Tensor, " M"]
    """R of (9) in nats"""

    def objective(self, beta: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
        """C_VIB(β) = D + βR, equation (8)."""
        return self.distortion + beta * self.rate


def terms(
    output: "Output", target: Shaped[Tensor, "M N *k"], distortion: Function | None = None
) -> Terms:
    """D and R of a mini-batch: the inner mean over its N examples in (17), for each β.

    Args:
        distortion: the system's; `hvib.distortions.default.distortion` if None.

    Raises:
        ValueError: the predictions are not (M, N, k), or the targets do not go with them.
    """
    shape = tuple(output.prediction.shape)
    flat = shape[:-1] == output.mean.shape[:-1]
    require(flat, "predictions", shape, "end the network in k numbers an example, (N, k)")
    return Terms(
        as_distortion(distortion)(output.prediction, target).mean(-1),
        output.rates.sum(-1).mean(-1),
    )


def stratified(count: int, generator: torch.Generator) -> Float[Tensor, " M"]:
    """M uniform draws from [0, 1), one in each of M equal parts, ascending."""
    strata = torch.arange(count, device=generator.device)
    return (strata + torch.rand(count, generator=generator, device=generator.device)) / count


def draw_betas(
    beta_min: float, beta_max: float, count: int, generator: torch.Generator
) -> Float[Tensor, " M"]:
    """M draws of β for one step of (17): uniform in log β over the range, stratified.

    One draw falls in each of M equal parts of the range of log β, so that every step sees small
    and large β alike. The expectation (15) is that of independent draws, the variance is less.
    """
    return between(beta_min, beta_max, stratified(count, generator))


def between(beta_min: float, beta_max: float, u: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The β at the positions u in the range: 0 is its lower end, 1 its upper, even in log β."""
    low, high = torch.tensor([beta_min, beta_max], dtype=torch.float64).log().tolist()
    return (low + (high - low) * u).exp()
