"""Features as digits: a uniform quantiser, an index of b bits, and no noise behind it."""

import torch
from jaxtyping import Float
from torch import Tensor

from hvib.channel import Channel, Received
from hvib.check import require
from hvib.checks.numbers import count, finite


class Quantised(Channel):
    """Each feature is sent as the index of one of 2^b cells, which arrives without error.

    The cells are equal parts of [−span, span], and the outermost reach to ∓∞. ẑ is the middle of a
    cell. Backwards the gradient passes as if nothing had been rounded (straight-through).

    The rate of a feature is exact: the KL divergence of the index from the index of a prior
    N(0, 1), KL( P(k | x) ‖ P(k) ) in nats. It is less than that of z, and at most that of the
    rarest cell. A code for the prior's index (`prior_bits` long on average for a feature of the
    prior) is what a digital link would send.

    Args:
        bits: b, 1 to 16.
        snr_db: what the state says; an error-free link adds no noise.
        span: where the outermost cells begin to be cut.

    Raises:
        ValueError: b is no whole number from 1 to 16, or the span is not positive.
    """

    def __init__(self, bits: int, snr_db: float = 20.0, span: float = 3.0) -> None:
        super().__init__(snr_db)
        self.bits, self.span = count("bits", bits), finite("span", span, "deviations")
        require(self.bits <= 16, "bits", bits, "give at most 16")
        require(self.span > 0, "span", span, "give a span > 0")

    @property
    def step(self) -> float:
        """Width of a cell."""
        return 2 * self.span / 2**self.bits

    def index(self, z: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The index k, 0 to 2^b − 1, as a real number."""
        return ((z + self.span) / self.step).floor().clamp(0, 2**self.bits - 1)

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        middle = (self.index(z) + 0.5) * self.step - self.span
        # Its rounding errors are about uniform over a cell.
        return Received(z + (middle - z).detach(), self.step**2 / 12)

    def rates(
        self,
        mean: Float[Tensor, "M N n"],
        variance: Float[Tensor, "M N n"],
        received: Received,
    ) -> Float[Tensor, "M N n"]:
        log_p = self.log_probabilities(mean, variance)  # (cells, M, N, n)
        zero, one = mean.new_zeros(1), mean.new_ones(1)
        log_q = self.log_probabilities(zero, one).view(-1, *[1] * mean.dim())
        return (log_p.exp() * (log_p - log_q)).sum(0)

    def log_probabilities(
        self, mean: Float[Tensor, "*batch"], variance: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "cells *batch"]:
        """Log P(k) of each index for z ~ N(mean, variance)."""
        edges = torch.linspace(-self.span, self.span, 2**self.bits + 1, device=mean.device)[1:-1]
        edges = edges.to(mean).view(-1, *[1] * mean.dim())
        # A deviation far below a cell's width changes no probability, and would overflow.
        deviation = variance.sqrt().clamp(min=1e-3 * self.step)
        at = (edges - mean) / deviation  # (cells − 1, …)
        return _log_cells(at)

    @property
    def prior_bits(self) -> float:
        """Entropy in bits of the index of a feature of the prior."""
        log_q = self.log_probabilities(torch.zeros(1).double(), torch.ones(1).double())
        return float(-(log_q.exp() * log_q).sum() / torch.tensor(2.0).log())

    def extra_repr(self) -> str:
        return f"bits={self.bits}, span={self.span:g}"


def _log_cells(at: Float[Tensor, "edges *batch"]) -> Float[Tensor, "edges+1 *batch"]:
    """Log of the standard normal's probability of each cell between ascending edges.

    In the upper half a difference of Φ would be one of numbers near 1: there it is mirrored.
    """
    infinite = torch.full_like(at[:1], torch.inf)
    low, high = torch.cat([-infinite, at]), torch.cat([at, infinite])
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    less, more = torch.special.ndtr(low), torch.special.ndtr(high)
    return (more - less).clamp(min=1e-30).log()
