"""Channels beside the paper's: fading, limits of power, digits, and losses.

All of them, but for `hvib.channel.AWGN`, scale what they receive to unit power: a feature of unit
power, sent with no knowledge of x, is then received as the prior N(0, 1) at every SNR, and costs no
rate. A fixed gain changes no mutual information. On the paper's channel the received power of such
a feature is 1 + σ², which is 1.01 at 20 dB, but 4.2 at −5 dB.
"""

from collections.abc import Callable

from hvib.channel import AWGN, Channel
from hvib.channels.digital import Quantised
from hvib.channels.erasure import Erasure
from hvib.channels.fading import Faded, Steady
from hvib.channels.limits import Limited

RICIAN_K_DB = 6.0
"""K of the Rician channel in `CHANNELS`: the direct path has four times the power of all others."""

CHANNELS: dict[str, Callable[[float, int], Channel]] = {
    "awgn": lambda snr_db, n: Steady(snr_db),
    "rayleigh": lambda snr_db, n: Faded(snr_db),
    "rayleigh-unknown": lambda snr_db, n: Faded(snr_db, equalised=False),
    "rician": lambda snr_db, n: Faded(snr_db, k_db=RICIAN_K_DB),
    "rician-unknown": lambda snr_db, n: Faded(snr_db, k_db=RICIAN_K_DB, equalised=False),
    "average-power": lambda snr_db, n: Limited(snr_db, average=1.0),
    "peak-power": lambda snr_db, n: Limited(snr_db, peak=2.0),
    "loses-devices-of-2": lambda snr_db, n: Erasure(Steady(snr_db), 0.2, n, n // 2),
    "loses-devices-of-3": lambda snr_db, n: Erasure(Steady(snr_db), 0.2, n, n // 3),
    "erasure": lambda snr_db, n: Erasure(Steady(snr_db), 0.1, n),
    "four-bit": lambda snr_db, n: Quantised(4, snr_db),
}
"""Channels by the names that a `Run` has for them, made from the SNR in dB and n."""

__all__ = ["AWGN", "CHANNELS", "Channel", "Erasure", "Faded", "Limited", "Quantised", "Steady"]
