"""Simulate Bluetooth two-way and WiFi channel responses from a seed, for wireless ranging.

A device measures the frequency response of a multipath channel, and the network infers the
propagation time of the line of sight. Names end in their units: hertz, metres, nanoseconds, dB.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float

from hvib.check import require
from hvib.checks.numbers import count, finite
from hvib.data import Split

SPEED_OF_LIGHT = 0.299792458
"""in metres per nanosecond"""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link states the frequencies, antennas and directions on which a response is measured."""

    name: str
    first_hz: float
    """frequency of the first tone"""
    spacing_hz: float
    """distance between neighbouring tones"""
    tones: int
    """K, the number of tones"""
    antennas: int = 1
    """A, the number of antennas at the receiver"""
    antenna_spacing_m: float = 0.0
    """distance between neighbouring antennas, which form a uniform linear array"""
    two_way: bool = False
    """whether the response is the product of both directions', in which oscillator phases cancel"""

    def __post_init__(self) -> None:
        for name in ("first_hz", "spacing_hz"):
            value = finite(name, getattr(self, name), "hertz")
            require(value > 0, name, value, "give a frequency > 0")
        for name in ("tones", "antennas"):
            count(name, getattr(self, name))
        apart = finite("antenna_spacing_m", self.antenna_spacing_m, "metres")
        require(apart >= 0, "antenna_spacing_m", apart, "give 0 or more")

    @property
    def offsets_hz(self) -> Float[np.ndarray, " K"]:
        """The frequencies of the tones above the first tone, in Hz."""
        return self.spacing_hz * np.arange(self.tones)

    @property
    def frequencies_hz(self) -> Float[np.ndarray, " K"]:
        """The frequencies of the tones in Hz."""
        return self.first_hz + self.offsets_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one response: (antennas, tones), or (tones,) for a single antenna."""
        # A slice at True, which is 1, drops the axis of a single antenna.
        return (self.antennas, self.tones)[self.antennas == 1 :]

    @property
    def unambiguous_ns(self) -> float:
        """The range of delays in ns that the tones tell apart: 1/spacing, halved if two-way.

        A two-way product turns by twice the delay, which halves the range.
        """
        return 1e9 / self.spacing_hz / (2 if self.two_way else 1)

    @property
    def steering(self) -> float:
        """The cycles of phase between neighbouring antennas for a path at 90° to broadside."""
        return self.antenna_spacing_m * self.first_hz / (1e9 * SPEED_OF_LIGHT)


BLUETOOTH = Link(name="bluetooth", first_hz=2.402e9, spacing_hz=1e6, tones=80, two_way=True)
"""The tones of Bluetooth Channel Sounding, measured in both directions :cite:`tariq2024reduced`."""

WIFI = Link(
    name="wifi", first_hz=5.63e9, spacing_hz=1.25e6, tones=30, antennas=3, antenna_spacing_m=0.026
)
"""The subcarriers and antennas that SpotFi reads from an Intel 5300 :cite:`kotaru2015spotfi`.

SpotFi subtracts a line from the phase over the subcarriers, because two unsynchronised clocks
add an unknown delay. The propagation time is a slope of the phase too, so subtracting the line
would also remove the target of this task. Here nothing is subtracted, and the two clocks are
assumed to be synchronised.
"""


@dataclass(frozen=True, kw_only=True)
class Multipath:
    """The statistics of an indoor channel: a first path, and reflections at random delays.

    Raises:
        ValueError: a field is out of its range; the message names the field and the range.
    """

    min_distance_m: float = 1.0
    max_distance_m: float = 30.0
    """the length of the first path is uniform between the two distances"""
    k_factor_db: float = 6.0
    """Rician K: power of the first path over the mean power of all reflections"""
    arrivals_per_ns: float = 0.1
    """rate of the Poisson process of reflections that follows the first path"""
    decay_ns: float = 20.0
    """time in which the mean power of the reflections falls by a factor of e"""
    max_excess_ns: float = 100.0
    """longest delay of a reflection behind the first path; later reflections are left out"""
    obstructed: float = 0.0
    """share of the channels whose first path is obstructed"""
    obstruction_db: float = 10.0
    """power that an obstructed first path loses"""

    def __post_init__(self) -> None:
        for name in ("min_distance_m", "decay_ns", "max_excess_ns"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, name, value, "give a finite value > 0")
        rate, loss = self.arrivals_per_ns, self.obstruction_db
        require(math.isfinite(rate) and rate >= 0, "arrivals_per_ns", rate, "give 0 or more")
        require(0 <= loss <= 100, "obstruction_db", loss, "give 0 to 100 dB")
        high, mend = self.max_distance_m, f"give at least min_distance_m = {self.min_distance_m!r}"
        require(self.min_distance_m <= high < math.inf, "max_distance_m", high, mend)
        k = self.k_factor_db
        require(k >= -100, "k_factor_db", k, "give at least -100 dB, inf for no reflections")
        share = self.obstructed
        require(0 <= share <= 1, "obstructed", share, "give a share between 0 and 1")

    @property
    def first_power(self) -> float:
        """The power of an unobstructed first path, where all paths together have mean power 1."""
        return 1.0 if self.arrivals_per_ns == 0 else 1 / (1 + 10 ** (-self.k_factor_db / 10))

    def mean_power(self, excess_ns: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Compute the mean power of a reflection from its delay behind the first path.

        The powers are scaled so that all reflections together have the mean power
        1 − `first_power`. By Campbell's theorem that mean is the integral over the excess delay of
        `arrivals_per_ns` times this function.

        Args:
            excess_ns: delay behind the first path in ns.
        """
        # expm1 keeps its digits where hardly any of the exponential is kept.
        kept = -math.expm1(-self.max_excess_ns / self.decay_ns)
        total = self.arrivals_per_ns * self.decay_ns * kept
        scale = (1 - self.first_power) / total if total else 0.0
        return scale * np.exp(-excess_ns / self.decay_ns)


ONE_PATH = Multipath(arrivals_per_ns=0.0)
"""the statistics of free space: a line of sight without reflections"""


@dataclass(frozen=True)
class Paths:
    """The paths of N channels, with the first path first. A gain of 0 marks an absent path."""

    delay_ns: Float[np.ndarray, "N P"]
    """propagation times in ns"""
    gain: Complex[np.ndarray, "N P"]
    """complex amplitudes at the receiver"""
    sine: Float[np.ndarray, "N P"]
    """sines of the angles of arrival, measured from broadside"""

    def __len__(self) -> int:
        return len(self.delay_ns)

    def __getitem__(self, index: slice) -> "Paths":
        return Paths(self.delay_ns[index], self.gain[index], self.sine[index])


def draw_paths(multipath: Multipath, count: int, rng: np.random.Generator) -> Paths:
    """Draw the paths of random channels.

    The first path has the power `first_power` and a uniform phase. Reflections arrive as a
    Poisson process, with complex normal gains whose mean power decays exponentially: one cluster
    of :cite:`saleh1987statistical`. Given the arrival times, the envelope at any tone is Rician.
    Angles of arrival are uniform within 90° of broadside.

    Args:
        count: N, the number of channels.
        rng: source of chance, read in a fixed order.
    """
    # The order of the draws below fixes the simulated data, and with it every record. Changing it
    # makes all records stale.
    low, high = (d / SPEED_OF_LIGHT for d in (multipath.min_distance_m, multipath.max_distance_m))
    first = rng.uniform(low, high, (count, 1))
    mean = multipath.arrivals_per_ns * multipath.max_excess_ns
    arrivals = rng.poisson(mean, count)
    most = int(arrivals.max(initial=0))
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    excess = rng.random((count, most), dtype=np.float32) * multipath.max_excess_ns
    normal = rng.standard_normal((count, most, 2), dtype=np.float32).view(np.complex64)[..., 0]
    # Every channel has as many columns as the longest; those beyond its own arrivals get gain 0.
    power = multipath.mean_power(excess) * (np.arange(most) < arrivals[:, None])
    reflected = normal * np.sqrt(power / 2)
    # Drawn even if no path is obstructed, so that one seed gives the same channels either way.
    obstructed = rng.random((count, 1)) < multipath.obstructed
    loss = np.where(obstructed, 10 ** (-multipath.obstruction_db / 20), 1.0)
    amplitude = math.sqrt(multipath.first_power) * loss
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    sine = np.sin(rng.uniform(-np.pi / 2, np.pi / 2, (count, 1 + most)))
    return Paths(
        np.concatenate([first, first + excess], 1),
        np.concatenate([amplitude * np.exp(1j * phase), reflected], 1),
        sine,
    )


def _phasor(turns: Float[np.ndarray, "*n"]) -> Complex[np.ndarray, "*n"]:
    """Compute exp(−j2π·turns) as complex64.

    Whole turns are removed in the precision of the argument, before single precision begins.
    """
    # A path makes hundreds of turns at 2.4 GHz, whose fraction single precision would lose.
    angle = ((turns - np.rint(turns)) * (-2 * math.pi)).astype(np.float32)
    result = np.empty(angle.shape, np.complex64)
    result.real, result.imag = np.cos(angle), np.sin(angle)
    return result


def response(paths: Paths, link: Link) -> Complex[np.ndarray, "N *shape"]:
    """Compute the one-way responses H_k = Σ_p a_p exp(−j2π f_k τ_p) of N channels, without noise.

    With several antennas, path p turns by a further `link.steering` · sine_p cycles from each
    antenna to the next.

    Returns:
        complex64, (N, tones) or (N, antennas, tones). The error of single precision is about 10⁻⁵
        of the amplitude, which is 100 dB down.
    """
    seconds = paths.delay_ns.T * 1e-9  # (P, N)
    across = link.steering * np.arange(link.antennas)[:, None, None]  # (A, 1, 1)
    turning = paths.gain.T.astype(np.complex64) * _phasor(link.first_hz * seconds)  # (P, N)
    turning = turning * _phasor(across * paths.sine.T)  # (A, P, N)
    # From each tone to the next, path p turns by the same angle. Two exponentials for each path
    # therefore replace one for each path and tone.
    step = _phasor(link.spacing_hz * seconds)  # (P, N)
    result = np.empty((link.tones, link.antennas, len(paths)), np.complex64)  # (K, A, N)
    for tone in result:
        # A plain sum has one fixed order. A matrix product may add in another order with
        # another number of threads, which would change the last bits of the data.
        turning.sum(1, out=tone)
        turning *= step
    return np.ascontiguousarray(result.transpose(2, 1, 0)).reshape(-1, *link.shape)  # (N, A, K)


@dataclass(frozen=True)
class Measurements:
    """N measured responses, with the true delay of each."""

    link: Link
    response: Complex[np.ndarray, "N *shape"]
    """one-way responses or two-way products, as the link says"""
    delay_ns: Float[np.ndarray, " N"]
    """propagation times of the line of sight in ns, one way"""
    paths: Paths | None = None
    """the channels behind simulated responses; None for measured ones"""

    def __len__(self) -> int:
        return len(self.delay_ns)

    def __getitem__(self, index: slice) -> "Measurements":
        paths = self.paths and self.paths[index]
        return Measurements(self.link, self.response[index], self.delay_ns[index], paths)


def _noise(
    shape: tuple[int, ...], snr_db: float | Float[np.ndarray, " N"], rng: np.random.Generator
) -> Complex[np.ndarray, "*shape"]:
    """Draw complex white noise of variance 10^(−SNR/10), half of it in each of its two parts.

    Args:
        snr_db: one value for all responses, or one for each along the first axis of `shape`.
    """
    std = np.sqrt(np.asarray(10 ** (-np.asarray(snr_db) / 10) / 2, dtype=np.float32))
    normal = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return normal * std.reshape(-1, *[1] * (len(shape) - 1))


def measure(
    paths: Paths, link: Link, snr_db: float | Float[np.ndarray, " N"], rng: np.random.Generator
) -> Complex[np.ndarray, "N *shape"]:
    """Simulate what a receiver reads of given channels.

    On a one-way link that is H plus noise. On a two-way link each tone is sent both ways between
    two oscillators that differ by an unknown phase θ_k. The two ends read H e^{jθ} and H e^{−jθ},
    each with noise of its own, and the result is their product, in which θ cancels: H² plus
    noise.

    Args:
        snr_db: mean received power of an unobstructed channel, which is 1, over the noise power
            of one tone in each direction, in dB; infinite for no noise.
        rng: source of chance.

    Returns:
        complex64, (N, tones) or (N, antennas, tones).

    Raises:
        ValueError: an SNR is NaN or −∞.
    """
    ok = bool(np.all(np.asarray(snr_db) > -math.inf))
    require(ok, "snr_db", snr_db, "give a number of dB, inf for no noise")
    h = response(paths, link)
    if not link.two_way:
        return h + _noise(h.shape, snr_db, rng)
    # Independent at each tone, because the oscillators drift while the tones are hopped through.
    theta = _phasor(rng.random(h.shape, dtype=np.float32))
    there = h * theta + _noise(h.shape, snr_db, rng)
    back = h * theta.conj() + _noise(h.shape, snr_db, rng)
    return there * back


CHUNK = 1_000
"""number of channels that one thread simulates at once, from a random stream of their own"""


def simulate(
    link: Link,
    count: int,
    seed: int,
    *,
    multipath: Multipath = Multipath(),
    snr_db: float | tuple[float, float] = 20.0,
) -> Measurements:
    """Simulate measured responses of random channels, all from one seed.

    Args:
        count: N, the number of responses.
        seed: determines every value, whatever the number of threads.
        multipath: the statistics of the channels.
        snr_db: SNR of the measurement in dB. From a pair, each response gets an SNR of its own,
            uniform between the two.

    Raises:
        ValueError: a value is out of range.
    """
    require(count >= 1, "count", count, "give at least 1")
    require(seed >= 0, "seed", seed, "give 0 or more")
    if isinstance(snr_db, tuple):
        low, high = snr_db
        require(-math.inf < low <= high < math.inf, "snr_db", snr_db, "give two dB, lower first")

    def chunk(begin: int) -> tuple[Paths, np.ndarray]:
        # A stream for each chunk makes the data independent of how many threads share the work.
        rng = np.random.default_rng([seed, begin])
        paths = draw_paths(multipath, min(CHUNK, count - begin), rng)
        snr = rng.uniform(*snr_db, len(paths)) if isinstance(snr_db, tuple) else snr_db
        return paths, measure(paths, link, snr, rng)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths, responses = zip(*pool.map(chunk, range(0, count, CHUNK)), strict=True)
    most = max(part.gain.shape[1] for part in paths)

    def joined(name: str) -> np.ndarray:
        parts = [getattr(part, name) for part in paths]
        # Chunks differ in their largest number of paths; padding adds absent paths, of gain 0.
        return np.concatenate([np.pad(p, ((0, 0), (0, most - p.shape[1]))) for p in parts])

    whole = Paths(joined("delay_ns"), joined("gain"), joined("sine"))
    return Measurements(link, np.concatenate(responses), whole.delay_ns[:, 0], whole)


def error_m(measured: Measurements, delay_ns: Float[np.ndarray, "*M N"]) -> np.ndarray:
    """Convert the errors of estimated delays to distances.

    Args:
        delay_ns: estimates in ns, the last axis along the measurements.

    Returns:
        Absolute errors in metres, of the shape of `delay_ns`.
    """
    return np.abs(delay_ns - measured.delay_ns) * SPEED_OF_LIGHT


def examples(measured: Measurements) -> Split:
    """Convert measurements to a network's examples.

    x is (N, 2, tones) or (N, 2, antennas, tones): real and imaginary part, each response divided
    by its own root mean square. y is (N, 1), the delays in ns. Both are float32.
    """
    # Divided as a receiver's gain control does: indoors a path's strength says little about its
    # length, and other receivers have other gains.
    h = measured.response
    over = tuple(range(1, h.ndim))
    power = np.mean(h.real**2 + h.imag**2, axis=over, keepdims=True)
    h = h / np.sqrt(np.where(power > 0, power, 1))  # a silent response stays 0
    x = np.stack([h.real, h.imag], 1).astype(np.float32)
    y = measured.delay_ns.astype(np.float32)[:, None]
    return Split(torch.from_numpy(x), torch.from_numpy(y))


LINKS = {link.name: link for link in (BLUETOOTH, WIFI)}
"""the simulated links by name"""
