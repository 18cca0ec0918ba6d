"""The wireless channel as a layer without parameters: z → ẑ in the chain (2)."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from hvib.checks.numbers import finite


class AWGN(nn.Module):
    """Additive white Gaussian noise: ẑ = z + ε, ε ~ N(0, σ²I).

    The noise variance is σ² = 10^(−SNR/10): the SNR is that of a feature of unit power, which is
    the power of the prior N(0, I). Nothing limits the power that a device really transmits;
    `evaluate` reports it as `tx_power`.

    Args:
        snr_db: signal-to-noise ratio in dB.

    Raises:
        ValueError: `snr_db` is not finite.
    """

    def __init__(self, snr_db: float) -> None:
        super().__init__()
        self.snr_db = finite("snr_db", snr_db, "dB")

    @property
    def variance(self) -> float:
        """σ², the noise variance of each feature component."""
        return 10 ** (-self.snr_db / 10)

    def forward(
        self, z: Float[Tensor, "*batch n"], noise: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n"]:
        """Send z.

        Args:
            noise: standard normals. The caller draws them, so that a seed determines a whole run.
        """
        return z + math.sqrt(self.variance) * noise

    def extra_repr(self) -> str:
        return f"snr_db={self.snr_db:g}"
