"""The wireless channel as a layer without parameters: z → ẑ in the chain (2).

`Channel` is what all channels are made of, and `AWGN` is the paper's. Others are in
`hvib.channels`.
"""

from contextvars import ContextVar
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from hvib.checks.numbers import finite
from hvib.objective import feature_kl

snr_db_now: ContextVar[Tensor | None] = ContextVar("snr_db", default=None)
"""The SNR in dB that `hvib.at` sets, or inside a `System` that of each example as gates read it."""


class Received(NamedTuple):
    """What a channel delivers, and what it did to each feature of each example.

    Given the channel's state, ẑ = gain · z + N(0, variance). The rate (9) is of this ẑ.
    """

    value: Float[Tensor, "M N n"]
    """ẑ, as the network gets it"""
    variance: Float[Tensor, "#M #N #n"] | float
    """of the noise that was added"""
    gain: Float[Tensor, "#M #N #n"] | float = 1.0
    """what z was multiplied by"""

    def without(self, kept: Float[Tensor, "#M #N n"]) -> "Received":
        """The same where `kept` is 1; where it is 0, a lost feature, as a prior of no gain."""
        return Received(self.value * kept, self.variance * kept + (1 - kept), self.gain * kept)


def gaussian_rates(
    mean: Float[Tensor, "M N n"], variance: Float[Tensor, "M N n"], received: Received
) -> Float[Tensor, "M N n"]:
    """The summand of the rate (9) of each feature in nats: KL( p(ẑ | x) ‖ N(0, 1) ).

    Args:
        mean, variance: of z.
    """
    gain = received.gain
    return feature_kl(gain * mean, gain**2 * variance + received.variance)


class Channel(nn.Module):
    """What every channel has. One of your own derives from it and has a `forward`.

    Args:
        snr_db: signal-to-noise ratio in dB of a feature of unit power, the power of the prior
            N(0, I). `hvib.at(beta, snr_db=…)` sets another for the passes under it.

    Raises:
        ValueError: `snr_db` is not finite.
    """

    chances = 0
    """how many more standard normals the channel takes for each example: its state's"""

    def __init__(self, snr_db: float) -> None:
        super().__init__()
        self.snr_db = finite("snr_db", snr_db, "dB")

    @property
    def variance(self) -> float:
        """σ² = 10^(−SNR/10), the noise variance of each feature."""
        return 10 ** (-self.snr_db / 10)

    def state(
        self, snr_db: Float[Tensor, "M #N 1"], chances: Float[Tensor, "M N c"]
    ) -> Float[Tensor, "M #N 1"]:
        """The SNR in dB that each example meets, from the mean SNR and standard normals."""
        return snr_db

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        """Send z.

        Args:
            noise: standard normals, one for each feature and behind them the state's `chances`. The
                caller draws them, so that a seed determines a whole run.
            snr_db: what each example meets, as `state` has it; None for the channel's own SNR.
        """
        raise NotImplementedError

    def rates(
        self,
        mean: Float[Tensor, "M N n"],
        variance: Float[Tensor, "M N n"],
        received: Received,
    ) -> Float[Tensor, "M N n"]:
        """What each ẑ tells of x at most, in nats; other than here where ẑ is not Gaussian."""
        return gaussian_rates(mean, variance, received)

    def noise_variance(self, snr_db: Float[Tensor, "M #N 1"] | None) -> Tensor | float:
        """σ² of each example."""
        return self.variance if snr_db is None else 10 ** (-snr_db / 10)

    def extra_repr(self) -> str:
        return f"snr_db={self.snr_db:g}"


class AWGN(Channel):
    """Additive white Gaussian noise: ẑ = z + ε, ε ~ N(0, σ²I).

    Nothing limits the power that a device really transmits; `evaluate` reports it as `tx_power`.
    """

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        variance = self.noise_variance(snr_db)
        return Received(z + variance**0.5 * noise, variance)
