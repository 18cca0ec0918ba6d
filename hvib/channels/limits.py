"""Limits of the transmitted power that are enforced on every z that is sent."""

import math

from jaxtyping import Float
from torch import Tensor

from hvib.channel import Channel, Received
from hvib.channels.fading import Steady
from hvib.check import require
from hvib.checks.numbers import finite
from hvib.objective import feature_kl


class Limited(Steady):
    """A transmitter of limited power in front of additive white Gaussian noise.

    What it does to z depends on z, so that ẑ is no longer Gaussian. Its rates bound what z tells of
    x, and what passes through a limiter and a channel tells no more: I(X; Ẑ) ≤ I(X; Z).

    Args:
        snr_db: of the noise against unit power, in dB.
        average: the most power ‖z‖²/n of an example; one above it is scaled down whole.
        peak: the most power z_i² of a feature; one above it is clipped.

    Raises:
        ValueError: neither limit is given, or one is not positive.
    """

    def __init__(
        self, snr_db: float, *, average: float | None = None, peak: float | None = None
    ) -> None:
        super().__init__(snr_db)
        limits = {"average": average, "peak": peak}
        mend = "give `average` or `peak`, in units of the prior's power"
        require(any(limit is not None for limit in limits.values()), "limits", limits, mend)
        for name, limit in limits.items():
            above = limit is None or finite(name, limit, "power") > 0
            require(above, name, limit, "give a power > 0")
        self.average, self.peak = average, peak

    def limited(self, z: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """What is sent of z."""
        if self.peak is not None:
            z = z.clamp(-math.sqrt(self.peak), math.sqrt(self.peak))
        if self.average is not None:
            power = z.square().mean(-1, keepdim=True)
            z = z * (self.average / power.clamp(min=self.average)).sqrt()
        return z

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        return super().forward(self.limited(z), noise, snr_db)

    def rates(
        self,
        mean: Float[Tensor, "M N n"],
        variance: Float[Tensor, "M N n"],
        received: Received,
    ) -> Float[Tensor, "M N n"]:
        return feature_kl(mean, variance)

    def extra_repr(self) -> str:
        return f"{Channel.extra_repr(self)}, average={self.average}, peak={self.peak}"
