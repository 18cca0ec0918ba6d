"""The variational information bottleneck objective: equations (5) to (9), (15) to (17)."""

from collections.abc import Sequence
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
    of_devices: Float[Tensor, "M J"] | None = None
    """R_j of each of several devices, whose sum is R"""

    def objective(self, beta: Float[Tensor, "M *J"]) -> Float[Tensor, " M"]:
        """C_VIB(β) = D + βR, equation (8); with a β for each device D + Σ β_j R_j."""
        if beta.dim() == 1:
            return self.distortion + beta * self.rate
        mend = "give one β, or one for each device of a system of several"
        right = self.of_devices is not None and self.of_devices.shape[1] == beta.shape[1]
        require(right, "betas", tuple(beta.shape), mend)
        assert self.of_devices is not None  # for mypy
        return self.distortion + (beta * self.of_devices).sum(-1)


def terms(
    output: "Output",
    target: Shaped[Tensor, "M N *k"],
    distortion: Function | None = None,
    blocks: Sequence[int] = (),
) -> Terms:
    """D and R of a mini-batch: the inner mean over its N examples in (17), for each β.

    Args:
        distortion: the system's; `hvib.distortions.default.distortion` if None.
        blocks: how many features each of several devices sends, as the system's `blocks` says.

    Raises:
        ValueError: the predictions are not (M, N, k), or the targets do not go with them.
    """
    shape = tuple(output.prediction.shape)
    flat = shape[:-1] == output.mean.shape[:-1]
    require(flat, "predictions", shape, "end the network in k numbers an example, (N, k)")
    distortions = as_distortion(distortion)(output.prediction, target).mean(-1)
    if not blocks:
        return Terms(distortions, output.rates.sum(-1).mean(-1))
    parts = [block.sum(-1).mean(-1) for block in output.rates.split(list(blocks), -1)]
    of_devices = torch.stack(parts, -1)  # (M, J)
    return Terms(distortions, of_devices.sum(-1), of_devices)


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
