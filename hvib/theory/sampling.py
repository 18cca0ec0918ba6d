"""Layouts of the β drawn for a mini-batch, and the variance of the gradient of (17) under each.

A step makes N passes, each of one example at one β, in every layout. The layouts therefore cost
the same and differ in variance alone.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hvib import objective
from hvib.check import require
from hvib.data import Split, reals
from hvib.hyper import at
from hvib.system import System, draw_noise


@dataclass(frozen=True)
class Layout:
    """A layout says how M drawn β share the N passes of one step."""

    count: int
    """M, the number of β drawn in a step"""
    stratified: bool = False
    """whether one β falls in each of M equal parts of the range of log β, or all are independent"""
    reuse: bool = False
    """whether all β see the same N/M examples, as (17) reads, or each its own N/M"""

    def betas(
        self, beta_min: float, beta_max: float, generator: torch.Generator
    ) -> Float[Tensor, " M"]:
        """Draw the β of one step, uniform in log β over the range."""
        if self.stratified:
            return objective.draw_betas(beta_min, beta_max, self.count, generator)
        u = torch.rand(self.count, generator=generator)
        return beta_min * (beta_max / beta_min) ** u

    def examples(self, count: int, passes: int, generator: torch.Generator) -> Int[Tensor, "M K"]:
        """Draw the examples of one step by index, independent and uniform.

        Args:
            count: number of examples to choose from.
            passes: N.

        Returns:
            Indices of the K = N/M examples for each β.

        Raises:
            ValueError: the N passes do not divide into M shares.
        """
        require(passes % self.count == 0, "passes", passes, f"give a multiple of M = {self.count}")
        share = passes // self.count
        if self.reuse:
            return torch.randint(count, (share,), generator=generator).expand(self.count, share)
        return torch.randint(count, (self.count, share), generator=generator)


def layouts(passes: int, draws: int = 8) -> dict[str, Layout]:
    """Return the layouts that the book compares, by name.

    Args:
        passes: N, the passes of one step.
        draws: M of the three layouts whose names begin with it.
    """
    return {
        "one β a step": Layout(1),
        f"{draws} β, the same examples": Layout(draws, reuse=True),
        f"{draws} β, a share each": Layout(draws),
        f"{draws} β, stratified": Layout(draws, stratified=True),
        "one β an example": Layout(passes),
        "one β an example, stratified": Layout(passes, stratified=True),
    }


class Spread(NamedTuple):
    """The mean of a random vector, and its variance summed over all components."""

    mean: Float[Tensor, " P"]
    variance: float
    """tr Cov, the trace of the covariance"""
    error: float
    """standard error of `variance`"""


def spread(samples: Float[Tensor, "R P"]) -> Spread:
    """Estimate the mean and the total variance of a vector from R independent samples."""
    count = len(samples)
    mean = samples.mean(0)
    # R / (R − 1), because the mean is estimated from the same samples.
    squares = (samples - mean).square().sum(1).double() * count / (count - 1)
    # The total variance is a mean over R samples, so its error is their deviation over √R.
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
    """Estimate the gradient of the objective (15) of a gated model, R times independently.

    Each estimate draws its own β, examples and noise for one step of (17).

    Args:
        layout: how the drawn β share the passes.
        passes: N, each of one example at one β.
        repeats: R, the number of estimates.
        betas: the smallest and the largest β.
        seed: determines every draw.

    Returns:
        One gradient a row, over all P parameters of the model.

    Raises:
        ValueError: the N passes do not divide into the layout's M shares.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())

    def one() -> Iterator[Tensor]:
        beta = layout.betas(*betas, generator)
        index = layout.examples(len(split), passes, generator)  # (M, K)
        draws, share = index.shape
        noise = draw_noise(draws, share, model.features, generator)  # (2, M, K, n)
        with at(beta):
            output = model(reals(split.x[index]), noise)
        # Shares are of equal length, so the mean over shares is the mean over passes of (17).
        found = objective.terms(output, split.y[index], model.distortion)
        loss = found.objective(beta).mean()
        yield from (g.flatten() for g in torch.autograd.grad(loss, parameters))

    return torch.stack([torch.cat(list(one())) for _ in range(repeats)])


class Parts(NamedTuple):
    """The total variance of the gradient of one pass, split by its source."""

    beta: float
    """V_β, the variance over β of the mean gradient at β"""
    example: float
    """V_ω, the mean over β of the variance over examples and noise"""


def separate(spreads: Mapping[str, Spread], passes: int) -> Parts:
    """Solve for V_β and V_ω from the variances of two layouts.

    By the book's lemma on the variance at equal cost, one β a step gives the variance
    V_β + V_ω/N, and one β an example gives (V_β + V_ω)/N.

    Args:
        spreads: by the names that `layouts` gives.
        passes: N.
    """
    one, all_ = spreads["one β a step"].variance, spreads["one β an example"].variance
    # Subtracting the two equations removes V_ω.
    beta = (one - all_) / (1 - 1 / passes)
    return Parts(beta, passes * all_ - beta)
