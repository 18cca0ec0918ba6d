"""Block fading: one complex gain for all features of an example, drawn anew for each example.

Two real features are one complex symbol, as a receiver sees it: y = h z + ε, with h of mean power
1. The carrier's phase is always recovered, so that y / h = z + ε / h and only a, the modulus of h,
matters to the rates.
"""

import math

from jaxtyping import Float
from torch import Tensor

from hvib.channel import Channel, Received
from hvib.check import require
from hvib.checks.numbers import finite


class Steady(Channel):
    """Additive white Gaussian noise, received at unit power: ẑ = (z + ε) / √(1 + σ²)."""

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        variance = self.noise_variance(snr_db)
        gain = (1 + variance) ** -0.5
        value = gain * (z + variance**0.5 * noise[..., : z.shape[-1]])
        return Received(value, gain**2 * variance, gain)


class Faded(Steady):
    """Rician block fading, Rayleigh for K = 0: y = a z + ε, with one a for each example.

    The state of an example is the SNR that it meets, SNR · a². Both ends can read it through
    gates (`hvib.gates.state`).

    Args:
        snr_db: mean SNR in dB, that of a = 1.
        k_db: K in dB, the power of the direct path over that of all others; −∞ for Rayleigh.
        equalised: the receiver scales each example to unit power, which takes a. Otherwise it
            scales all examples by one factor, by which one at `snr_db` has unit power, so that a
            strong example is received large. The rate is in both cases that of a receiver which
            knows a: exact for it, and an upper bound for one that does not.

    Raises:
        ValueError: `snr_db` is not finite, or K is neither finite nor −∞.
    """

    chances = 2

    def __init__(self, snr_db: float, k_db: float = -math.inf, *, equalised: bool = True) -> None:
        super().__init__(snr_db)
        self.k_db = k_db if k_db == -math.inf else finite("k_db", k_db, "dB, or −inf for Rayleigh")
        self.equalised = equalised

    def state(
        self, snr_db: Float[Tensor, "M #N 1"], chances: Float[Tensor, "M N c"]
    ) -> Float[Tensor, "M N 1"]:
        return snr_db + 10 * self.power(chances).log10()

    def power(self, chances: Float[Tensor, "M N c"]) -> Float[Tensor, "M N 1"]:
        """a² from two standard normals: of mean 1, not central χ² with 2 degrees of freedom."""
        k = 10 ** (self.k_db / 10)
        # h = √(K / (K + 1)) + (a + ib) / √(2 (K + 1))
        direct, other = math.sqrt(k / (k + 1)), math.sqrt(0.5 / (k + 1))
        real, imaginary = (other * chances[..., :2]).split(1, -1)
        # A gain of exactly 0 would have no SNR in dB.
        return ((direct + real).square() + imaginary.square()).clamp(min=1e-12)

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        require(snr_db is not None, "snr_db", None, "pass the state that `state` returns")
        assert snr_db is not None  # for mypy
        received = super().forward(z, noise, snr_db)
        if self.equalised:
            return received
        power, usual = 10 ** (snr_db / 10), 10 ** (self.snr_db / 10)
        return received._replace(value=received.value * ((1 + power) / (1 + usual)).sqrt())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k_db={self.k_db:g}, equalised={self.equalised}"
