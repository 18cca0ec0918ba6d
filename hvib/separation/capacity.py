"""What the channel delivers: bits, outages and seconds of ideal codes for real channel uses.

A channel use is one real number at unit power; the noise has variance 10^(−SNR/10). Under block
fading the power gain g, of mean 1, is one for all uses of a block and the receiver knows it. It is
the squared modulus of a complex Gaussian h with a direct path of power K/(K + 1), as in
`hvib.channels.fading.Faded`; Rayleigh fading is K = 0, −∞ dB. Two uses are one complex symbol.

No code of finite length reaches capacity. `capacity` therefore favours the separate design, and
`finite_length` says what the best code of so few uses delivers.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import integrate, optimize, special

from hvib.check import require
from hvib.checks.numbers import count, finite

Array = Float[np.ndarray, "..."]


def _linear(snr_db: ArrayLike) -> Array:
    """The SNR as a ratio of powers.

    Raises:
        ValueError: one is no finite number.
    """
    values = np.asarray(snr_db)
    numbers = np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)
    good = numbers and values.size > 0 and bool(np.isfinite(values).all())
    require(good, "snr_db", snr_db, "give finite numbers of dB")
    return 10 ** (values.astype(float) / 10)


def _share(name: str, value: float) -> float:
    number = finite(name, value, "a probability")
    require(0 < number < 1, name, value, "give a probability between 0 and 1, both excluded")
    return number


def _rician(k_db: float) -> float:
    """K as a ratio of powers."""
    if k_db == -math.inf:
        return 0.0
    return 10 ** (finite("k_db", k_db, "dB, or −inf for Rayleigh") / 10)


def capacity(snr_db: ArrayLike, uses: int = 1) -> Array:
    """The capacity of additive white Gaussian noise, n/2 · log₂(1 + SNR).

    Source: Cover and Thomas, Elements of Information Theory, section 9.1.

    Args:
        snr_db: (…), in dB.
        uses: n, real channel uses of a block.

    Returns:
        (…), bits a block.

    Raises:
        ValueError: an SNR is not finite, or there is no use.
    """
    return count("uses", uses) * 0.5 * np.log2(1 + _linear(snr_db))


def finite_length(snr_db: ArrayLike, uses: int, error: float) -> Array:
    """The normal approximation to the bits of the best code of n uses, at a block error rate.

    n·C − √(n·V)·Q⁻¹(ε) + ½ log₂ n with the dispersion V = SNR(SNR + 2) / (2(SNR + 1)²) · log₂² e.
    It is an approximation, good from about a hundred uses; at fewer it is a guide.

    Source: Polyanskiy, Poor and Verdú, Channel coding rate in the finite blocklength regime, IEEE
    Transactions on Information Theory 56(5), 2010, theorem 54.

    Args:
        snr_db: (…), in dB.
        error: ε, the probability that a block is decoded wrongly.

    Returns:
        (…), bits a block, at least 0 and at most `capacity`.

    Raises:
        ValueError: an SNR is not finite, there is no use, or ε is no probability.
    """
    snr, uses, error = _linear(snr_db), count("uses", uses), _share("error", error)
    dispersion = snr * (snr + 2) / (2 * (snr + 1) ** 2) * math.log2(math.e) ** 2
    lost = np.sqrt(uses * dispersion) * -special.ndtri(error)
    most = capacity(snr_db, uses)
    # The logarithmic term would exceed capacity where little is sent.
    return np.clip(most - lost + 0.5 * math.log2(uses), 0, most)


def small_code_error(snr_db: ArrayLike, uses: int, messages: int) -> Array:
    """The error rate of a code that can be built: a few equally likely messages in n uses.

    Its codewords are a simplex, where the uses allow it: m messages in m − 1 dimensions. Otherwise
    they are m/2 orthogonal ones and their opposites. All have the energy n · SNR, and the receiver
    takes the nearest.

    Source: Proakis and Salehi, Digital Communications, 5th edition, section 4.4.

    Args:
        snr_db: (…), in dB.
        messages: m.

    Returns:
        (…), the probability that another message is decoded.

    Raises:
        ValueError: an SNR is not finite, or the uses are too few for so many messages.
    """
    snr, uses, m = _linear(snr_db), count("uses", uses), count("messages", messages)
    require(m >= 2, "messages", messages, "give at least 2")
    most = max(uses + 1, 2 * uses)
    require(m <= most, "messages", messages, f"give at most {most} for {uses} channel uses")
    simplex = m <= uses + 1
    # A simplex errs as orthogonal codewords of m/(m − 1) times its energy do.
    energy = uses * snr[..., None] * (m / (m - 1) if simplex else 1)
    # An odd number of messages leaves one codeword of a pair unused, which errs no more.
    t = np.linspace(-10, 10, 4001) + (0 if simplex else np.sqrt(energy))
    if simplex:
        t = t + np.sqrt(energy)
        others = special.ndtr(t) ** (m - 1)
    else:
        others = np.where(t > 0, 2 * special.ndtr(t) - 1, 0) ** (-(-m // 2) - 1)
    density = np.exp(-((t - np.sqrt(energy)) ** 2) / 2) / math.sqrt(2 * math.pi)
    right = integrate.trapezoid(density * others * (t > (-np.inf if simplex else 0)), t)
    return np.clip(1 - right, 0, 1)


def _mean(of: Callable[[float], float], k: float, start: float = 0.0) -> float:
    """∫ of(g) p(g) dg over the power gains g from `start`."""

    def weighted(g: float) -> float:
        # With the scaled Bessel function nothing overflows.
        near = math.exp(-((math.sqrt((1 + k) * g) - math.sqrt(k)) ** 2))
        return of(g) * (1 + k) * near * float(special.ive(0, 2 * math.sqrt(k * (1 + k) * g)))

    # Beyond `end` the density is below 1e-30; the pieces keep a narrow peak from being missed.
    end = max(start, (math.sqrt(k) + 8.5) ** 2 / (1 + k))
    peak = k / (1 + k)
    width = max(1.0, math.sqrt(2 * k)) / (1 + k)
    inner = [peak - 4 * width, peak - width, peak + width, peak + 4 * width]
    edges = [start, *sorted(x for x in inner if start < x < end), end]
    pieces = itertools.pairwise(edges)
    return math.fsum(
        integrate.quad(weighted, *piece, epsabs=1e-13, limit=200)[0] for piece in pieces
    )


def ergodic_capacity(snr_db: ArrayLike, uses: int = 1, k_db: float = -math.inf) -> Array:
    """The mean over the fading of n/2 · log₂(1 + g·SNR): the receiver knows g, the sender need not.

    A code reaches it over many blocks. It is also the mean of what a sender that knows g, and
    keeps its power, sends in single blocks. For Rayleigh fading it is n/2 · log₂ e · exp(1/SNR) ·
    E₁(1/SNR); otherwise it is integrated.

    Source: Goldsmith, Wireless Communications, section 4.2.

    Args:
        snr_db: (…), mean SNR in dB.
        k_db: K in dB, the power of the direct path over all others'; −∞ for Rayleigh.

    Returns:
        (…), bits a block.

    Raises:
        ValueError: an SNR is not finite, there is no use, or K is no number.
    """
    snr, uses, k = _linear(snr_db), count("uses", uses), _rician(k_db)
    if k == 0:
        # U(1, 1, x) = exp(x) E₁(x), which does not overflow at small SNR.
        return uses * 0.5 * math.log2(math.e) * special.hyperu(1, 1, 1 / snr)
    one = [_mean(lambda g, s=s: 0.5 * math.log2(1 + g * s), k) for s in snr.ravel()]  # type: ignore[misc]
    return uses * np.reshape(one, snr.shape)


def water_filling_capacity(snr_db: ArrayLike, uses: int = 1, k_db: float = -math.inf) -> Array:
    """The ergodic capacity where the sender knows g too, and saves power in bad blocks for good.

    n/2 · E log₂(g/g₀) over g > g₀, where E (1/g₀ − 1/g) over g > g₀ is the SNR.

    Source: Goldsmith and Varaiya, Capacity of fading channels with channel side information, IEEE
    Transactions on Information Theory 43(6), 1997.

    Args:
        snr_db: (…), mean SNR in dB.
        k_db: K in dB, the power of the direct path over all others'; −∞ for Rayleigh.

    Returns:
        (…), bits a block.

    Raises:
        ValueError: an SNR is not finite, there is no use, or K is no number.
    """
    snr, uses, k = _linear(snr_db), count("uses", uses), _rician(k_db)

    def one(snr: float) -> float:
        def excess(cutoff: float) -> float:
            return _mean(lambda g: 1 / cutoff - 1 / g, k, cutoff) - snr

        # The mean power falls with the cutoff, and is below 1/g₀.
        high = low = 1 / snr
        while excess(low) <= 0:
            low /= 2
        cutoff = optimize.brentq(excess, low, high, xtol=1e-14)
        return _mean(lambda g: 0.5 * math.log2(g / cutoff), k, cutoff)

    return uses * np.reshape([one(s) for s in snr.ravel()], snr.shape)


def outage(snr_db: ArrayLike, uses: int, bits: ArrayLike, k_db: float = -math.inf) -> Array:
    """The probability that a block cannot carry its bits: that n/2 · log₂(1 + g·SNR) is below them.

    It is the error rate of an ideal code whose sender does not know g.

    Source: Tse and Viswanath, Fundamentals of Wireless Communication, section 5.4.1.

    Args:
        snr_db: (…), mean SNR in dB.
        bits: (…), bits a block.
        k_db: K in dB, the power of the direct path over all others'; −∞ for Rayleigh.

    Returns:
        (…), in [0, 1].

    Raises:
        ValueError: an SNR is not finite, there is no use, bits are negative, or K is no number.
    """
    snr, uses, k = _linear(snr_db), count("uses", uses), _rician(k_db)
    needed = np.asarray(bits, dtype=float)
    require(bool((needed >= 0).all()), "bits", bits, "give numbers of bits ≥ 0")
    with np.errstate(over="ignore"):
        gain = np.expm1(2 * needed / uses * math.log(2)) / snr
    # 2(1 + K)g is noncentral χ² of two degrees of freedom.
    return np.asarray(special.chndtr(2 * (1 + k) * np.minimum(gain, 1e6), 2, 2 * k))


def outage_capacity(snr_db: ArrayLike, uses: int, error: float, k_db: float = -math.inf) -> Array:
    """The most bits a block that fail with a given probability, where the sender does not know g.

    Args:
        snr_db: (…), mean SNR in dB.
        error: the probability of an outage.
        k_db: K in dB, the power of the direct path over all others'; −∞ for Rayleigh.

    Returns:
        (…), bits a block.

    Raises:
        ValueError: an SNR is not finite, there is no use, `error` is no probability, or K is no
            number.
    """
    snr, uses, k = _linear(snr_db), count("uses", uses), _rician(k_db)
    gain = special.chndtrix(_share("error", error), 2, 2 * k) / (2 * (1 + k))
    return uses * 0.5 * np.log2(1 + gain * snr)


def seconds(uses: ArrayLike, bandwidth_hz: float) -> Array:
    """How long real channel uses take: a band of B Hz has 2B of them a second.

    Source: the sampling theorem; a real system needs a little more.

    Args:
        uses: (…), real channel uses.
        bandwidth_hz: B.

    Returns:
        (…), in s.

    Raises:
        ValueError: the band has no width, or uses are negative.
    """
    width, n = finite("bandwidth_hz", bandwidth_hz, "Hz"), np.asarray(uses, dtype=float)
    require(width > 0, "bandwidth_hz", bandwidth_hz, "give a width > 0 in Hz")
    require(bool((n >= 0).all()), "uses", uses, "give numbers of channel uses ≥ 0")
    return n / (2 * width)


def uses_for(bits: ArrayLike, snr_db: ArrayLike) -> Array:
    """The least whole number of channel uses whose `capacity` holds the bits.

    Args:
        bits: (…), of a block.
        snr_db: (…), in dB.

    Returns:
        (…), whole numbers.

    Raises:
        ValueError: bits are negative, or an SNR is not finite.
    """
    needed = np.asarray(bits, dtype=float)
    require(bool((needed >= 0).all()), "bits", bits, "give numbers of bits ≥ 0")
    # Bits that fill n uses up to rounding need no further one.
    return np.ceil(needed / capacity(snr_db) * (1 - 1e-12))
