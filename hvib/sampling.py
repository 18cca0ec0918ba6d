"""How draws of β are laid over a mini-batch, and the variance of the gradient of (17) that follows.

All layouts cost the same: N passes of one example at one β.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hvib import objective
from hvib.config import require
from hvib.data import Split, reals
from hvib.hyper import at
from hvib.models import System
from hvib.train import draw_noise


@dataclass(frozen=True)
class Layout:
    """M draws of β for the N passes of one step."""

    draws: int
    """M"""
    stratified: bool = False
    """one draw in each of M equal parts of the range of log β, rather than M independent ones"""
    reuse: bool = False
    """every draw sees the same N/M examples, as (17) reads, rather than its own N/M"""

    def betas(
        self, beta_min: float, beta_max: float, generator: torch.Generator
    ) -> Float[Tensor, " M"]:
        """The draws of one step, uniform in log β over the range."""
        if self.stratified:
            return objective.draw_betas(beta_min, beta_max, self.draws, generator)
        u = torch.rand(self.draws, generator=generator)
        return beta_min * (beta_max / beta_min) ** u

    def examples(self, count: int, passes: int, generator: torch.Generator) -> Int[Tensor, "M K"]:
        """Which of `count` examples meet which draw, independent and uniform.

        Raises:
            ValueError: the N passes do not divide into M shares.
        """
        require(passes % self.draws == 0, "passes", passes, f"give a multiple of M = {self.draws}")
        share = passes // self.draws
        if self.reuse:
            return torch.randint(count, (share,), generator=generator).expand(self.draws, share)
        return torch.randint(count, (self.draws, share), generator=generator)


def layouts(passes: int, draws: int = 8) -> dict[str, Layout]:
    """The layouts that the book compares, by name."""
    return {
        "one β a step": Layout(1),
        f"{draws} β, the same examples": Layout(draws, reuse=True),
        f"{draws} β, a share each": Layout(draws),
        f"{draws} β, stratified": Layout(draws, stratified=True),
        "one β an example": Layout(passes),
        "one β an example, stratified": Layout(passes, stratified=True),
    }


class Spread(NamedTuple):
    """An estimator's mean and its variance, summed over all components."""

    mean: Float[Tensor, " P"]
    variance: float
    """tr Cov"""
    error: float
    """standard error of `variance`"""


def spread(samples: Float[Tensor, "R P"]) -> Spread:
    """Mean and total variance of R independent samples of a vector."""
    count = len(samples)
    mean = samples.mean(0)
    squares = (samples - mean).square().sum(1).double() * count / (count - 1)
    return Spread(mean, float(squares.mean()), float(squares.std()) / math.sqrt(count))


def gradients(
    model: System,
    split: Split,
    layout: Layout,
    *,
    passes: int,
    repeats: int,
    betas: tuple[float, float] = (1e-6, 1.0),
    seed: int = 0,
) -> Float[Tensor, "R P"]:
    """Independent estimates of ∇C_H for a gated model, each from one step's draws.

    Args:
        passes: N, one example at one β each.
        repeats: R, the number of estimates.
        betas: the range of β.
        seed: seed of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())

    def one() -> Iterator[Tensor]:
        beta = layout.betas(*betas, generator)
        index = layout.examples(len(split), passes, generator)
        draws, share = index.shape
        noise = draw_noise(draws, share, model.features, generator)
        with at(beta):
            output = model(reals(split.x[index]), noise)
        loss = objective.terms(output, split.y[index]).objective(beta).mean()
        yield from (g.flatten() for g in torch.autograd.grad(loss, parameters))

    return torch.stack([torch.cat(list(one())) for _ in range(repeats)])


class Parts(NamedTuple):
    """Total variance of one pass's gradient, split by its source."""

    beta: float
    """V_β: variance over β of the mean gradient at β"""
    example: float
    """V_ω: mean over β of the variance over examples and noise"""


def separate(spreads: Mapping[str, Spread], passes: int) -> Parts:
    """V_β and V_ω from two layouts: V_β + V_ω/N for one β a step, (V_β + V_ω)/N for N."""
    one, all_ = spreads["one β a step"].variance, spreads["one β an example"].variance
    beta = (one - all_) / (1 - 1 / passes)
    return Parts(beta, passes * all_ - beta)
