"""Wireless ranging: Bluetooth two-way and WiFi channel responses, simulated from a seed.

A device measures the frequency response of a multipath channel, and the network infers the
propagation time of the line of sight. Units are in the names: hertz, metres, nanoseconds, dB.
"""

import math
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Shaped

from hvib.config import require
from hvib.data import LOADERS, Data, Split

SPEED_OF_LIGHT = 0.299792458
"""metres per nanosecond"""


@dataclass(frozen=True, kw_only=True)
class Link:
    """Which frequencies, antennas and directions a response is measured on."""

    name: str
    first_hz: float
    """frequency of the first tone"""
    spacing_hz: float
    tones: int
    antennas: int = 1
    antenna_spacing_m: float = 0.0
    """of a uniform linear array at the receiver"""
    two_way: bool = False
    """the response is the product of both directions', in which the oscillators' phases cancel"""

    @property
    def offsets_hz(self) -> Float[np.ndarray, " K"]:
        """The tones' frequencies above the first."""
        return self.spacing_hz * np.arange(self.tones)

    @property
    def frequencies_hz(self) -> Float[np.ndarray, " K"]:
        return self.first_hz + self.offsets_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """(antennas, tones), or (tones,) where there is one antenna."""
        return (self.antennas, self.tones)[self.antennas == 1 :]

    @property
    def unambiguous_ns(self) -> float:
        """The delays that tones so far apart tell apart: 1/spacing, halved where two-way."""
        return 1e9 / self.spacing_hz / (2 if self.two_way else 1)

    @property
    def steering(self) -> float:
        """Cycles of phase from one antenna to the next, for a path at 90° to broadside."""
        return self.antenna_spacing_m * self.first_hz / (1e9 * SPEED_OF_LIGHT)


BLUETOOTH = Link(name="bluetooth", first_hz=2.402e9, spacing_hz=1e6, tones=80, two_way=True)
"""Bluetooth Channel Sounding's tones, measured in both directions :cite:`tariq2024reduced`."""

WIFI = Link(
    name="wifi", first_hz=5.63e9, spacing_hz=1.25e6, tones=30, antennas=3, antenna_spacing_m=0.026
)
"""The subcarriers and antennas that SpotFi reads from an Intel 5300 :cite:`kotaru2015spotfi`.

SpotFi subtracts a line from the phase over the subcarriers, because two unsynchronised clocks
add an unknown delay. That delay and the propagation time are one slope: who subtracts the one
subtracts the other, the target here. So nothing is subtracted, and the clocks are taken as one.
"""


@dataclass(frozen=True, kw_only=True)
class Multipath:
    """Statistics of an indoor channel: a first path and reflections that arrive at random."""

    min_distance_m: float = 1.0
    max_distance_m: float = 30.0
    """the line of sight is uniform between the two"""
    k_factor_db: float = 6.0
    """Rician K: power of the first path over the mean power of all reflections"""
    arrivals_per_ns: float = 0.1
    """rate of the Poisson process of reflections after the first path"""
    decay_ns: float = 20.0
    """the reflections' mean power falls by e in this time"""
    max_excess_ns: float = 100.0
    """later reflections are left out"""
    obstructed: float = 0.0
    """share of responses whose first path is obstructed"""
    obstruction_db: float = 10.0
    """power the first path then loses"""

    def __post_init__(self) -> None:
        for name in ("min_distance_m", "decay_ns", "max_excess_ns"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, name, value, "give a finite value > 0")
        rate, loss = self.arrivals_per_ns, self.obstruction_db
        require(math.isfinite(rate) and rate >= 0, "arrivals_per_ns", rate, "give 0 or more")
        require(0 <= loss <= 100, "obstruction_db", loss, "give 0 to 100 dB")
        require(
            self.min_distance_m <= self.max_distance_m < math.inf,
            "max_distance_m",
            self.max_distance_m,
            f"give at least min_distance_m = {self.min_distance_m!r}",
        )
        k = self.k_factor_db
        require(k >= -100, "k_factor_db", k, "give at least -100 dB, inf for no reflections")
        share = self.obstructed
        require(0 <= share <= 1, "obstructed", share, "give a share between 0 and 1")

    @property
    def first_power(self) -> float:
        """Power of an unobstructed first path; with the reflections' mean power it makes 1."""
        return 1.0 if self.arrivals_per_ns == 0 else 1 / (1 + 10 ** (-self.k_factor_db / 10))

    def mean_power(self, excess_ns: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Mean power of one reflection that arrives so long after the first path.

        Campbell's theorem: over the Poisson arrivals it integrates to 1 − `first_power`.
        """
        kept = -math.expm1(-self.max_excess_ns / self.decay_ns)
        total = self.arrivals_per_ns * self.decay_ns * kept
        scale = (1 - self.first_power) / total if total else 0.0
        return scale * np.exp(-excess_ns / self.decay_ns)


ONE_PATH = Multipath(arrivals_per_ns=0.0)
"""Free space: the line of sight alone."""


@dataclass(frozen=True)
class Paths:
    """The paths of N channels, the first path first; a path of gain 0 is none."""

    delay_ns: Float[np.ndarray, "N P"]
    gain: Complex[np.ndarray, "N P"]
    sine: Float[np.ndarray, "N P"]
    """of the angle of arrival to broadside"""

    def __len__(self) -> int:
        return len(self.delay_ns)

    def __getitem__(self, index: slice) -> "Paths":
        return Paths(self.delay_ns[index], self.gain[index], self.sine[index])


def draw_paths(multipath: Multipath, count: int, rng: np.random.Generator) -> Paths:
    """Channels by chance.

    The first path has the power that K leaves it and a uniform phase. Reflections arrive as a
    Poisson process, their gains complex normal with exponentially decaying mean power: one
    cluster of :cite:`saleh1987statistical`. Once the arrival times are given, the envelope at
    any tone is Rician. Angles are uniform.
    """
    low, high = (d / SPEED_OF_LIGHT for d in (multipath.min_distance_m, multipath.max_distance_m))
    first = rng.uniform(low, high, (count, 1))
    mean = multipath.arrivals_per_ns * multipath.max_excess_ns
    arrivals = rng.poisson(mean, count)
    most = int(arrivals.max(initial=0))
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    excess = rng.random((count, most), dtype=np.float32) * multipath.max_excess_ns
    normal = rng.standard_normal((count, most, 2), dtype=np.float32).view(np.complex64)[..., 0]
    power = multipath.mean_power(excess) * (np.arange(most) < arrivals[:, None])
    reflected = normal * np.sqrt(power / 2)
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
    """exp(−j2π·turns) as complex64; the whole turns are taken off in the precision given."""
    angle = ((turns - np.rint(turns)) * (-2 * math.pi)).astype(np.float32)
    result = np.empty(angle.shape, np.complex64)
    result.real, result.imag = np.cos(angle), np.sin(angle)
    return result


def response(paths: Paths, link: Link) -> Complex[np.ndarray, "N *shape"]:
    """H_k = Σ_p a_p exp(−j2π f_k τ_p), one way, and antenna by antenna where there are several.

    From each tone to the next a path turns by exp(−j2π Δf τ_p): two exponentials for each path.
    Sums run in one order, in no matrix product, so threads do not change a bit. Single precision
    is off by about 10⁻⁵ of the amplitude, 100 dB down.
    """
    seconds = paths.delay_ns.T * 1e-9  # (P, N)
    across = link.steering * np.arange(link.antennas)[:, None, None]
    turning = paths.gain.T.astype(np.complex64) * _phasor(link.first_hz * seconds)
    turning = turning * _phasor(across * paths.sine.T)  # (A, P, N)
    step = _phasor(link.spacing_hz * seconds)
    result = np.empty((link.tones, link.antennas, len(paths)), np.complex64)
    for tone in result:
        turning.sum(1, out=tone)
        turning *= step
    return np.ascontiguousarray(result.transpose(2, 1, 0)).reshape(-1, *link.shape)


@dataclass(frozen=True)
class Measurements:
    """N measured responses and the delays they should give."""

    link: Link
    response: Complex[np.ndarray, "N *shape"]
    delay_ns: Float[np.ndarray, " N"]
    """propagation time of the line of sight"""
    paths: Paths | None = None
    """the channels behind simulated responses"""

    def __len__(self) -> int:
        return len(self.delay_ns)

    def __getitem__(self, index: slice) -> "Measurements":
        paths = self.paths and self.paths[index]
        return Measurements(self.link, self.response[index], self.delay_ns[index], paths)


def _noise(
    shape: tuple[int, ...], snr_db: float | Float[np.ndarray, " N"], rng: np.random.Generator
) -> Complex[np.ndarray, "*shape"]:
    """Complex white noise of variance 10^(−SNR/10), real and imaginary part half each."""
    std = np.sqrt(np.asarray(10 ** (-np.asarray(snr_db) / 10) / 2, dtype=np.float32))
    normal = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return normal * std.reshape(-1, *[1] * (len(shape) - 1))


def measure(
    paths: Paths, link: Link, snr_db: float | Float[np.ndarray, " N"], rng: np.random.Generator
) -> Complex[np.ndarray, "N *shape"]:
    """What a receiver reads of these channels.

    One way: H plus noise. Two-way: each tone is sent both ways between two oscillators that
    differ by an unknown phase θ_k, so the two ends read H e^{jθ} and H e^{−jθ}, each with noise
    of its own; in the product θ cancels and H² is left.

    Args:
        snr_db: mean received power of an unobstructed channel (1) over the noise power of
            one tone, in each direction.
    """
    ok = bool(np.all(np.asarray(snr_db) > -math.inf))
    require(ok, "snr_db", snr_db, "give a number of dB, inf for no noise")
    h = response(paths, link)
    if not link.two_way:
        return h + _noise(h.shape, snr_db, rng)
    theta = _phasor(rng.random(h.shape, dtype=np.float32))
    there = h * theta + _noise(h.shape, snr_db, rng)
    back = h * theta.conj() + _noise(h.shape, snr_db, rng)
    return there * back


CHUNK = 1_000
"""channels simulated at once by one thread, from a random stream of their own"""


def simulate(
    link: Link,
    count: int,
    seed: int,
    *,
    multipath: Multipath = Multipath(),
    snr_db: float | tuple[float, float] = 20.0,
) -> Measurements:
    """`count` measured responses, all from one seed.

    Args:
        snr_db: measurement SNR; a pair draws it uniformly between the two for each response.

    Raises:
        ValueError: a value is out of range.
    """
    require(count >= 1, "count", count, "give at least 1")
    require(seed >= 0, "seed", seed, "give 0 or more")
    if isinstance(snr_db, tuple):
        low, high = snr_db
        require(-math.inf < low <= high < math.inf, "snr_db", snr_db, "give two dB, lower first")

    def chunk(begin: int) -> tuple[Paths, np.ndarray]:
        rng = np.random.default_rng([seed, begin])
        paths = draw_paths(multipath, min(CHUNK, count - begin), rng)
        snr = rng.uniform(*snr_db, len(paths)) if isinstance(snr_db, tuple) else snr_db
        return paths, measure(paths, link, snr, rng)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths, responses = zip(*pool.map(chunk, range(0, count, CHUNK)), strict=True)
    most = max(part.gain.shape[1] for part in paths)

    def joined(name: str) -> np.ndarray:
        parts = [getattr(part, name) for part in paths]
        return np.concatenate([np.pad(p, ((0, 0), (0, most - p.shape[1]))) for p in parts])

    whole = Paths(joined("delay_ns"), joined("gain"), joined("sine"))
    return Measurements(link, np.concatenate(responses), whole.delay_ns[:, 0], whole)


def error_m(measured: Measurements, delay_ns: Float[np.ndarray, "*M N"]) -> np.ndarray:
    """Absolute errors of estimated delays, as distances in metres."""
    return np.abs(delay_ns - measured.delay_ns) * SPEED_OF_LIGHT


def examples(measured: Measurements) -> Split:
    """Responses as a network's input: `(2, *shape)`, real and imaginary part, unit mean power.

    Each response is divided by its own root mean square, as a receiver's gain control does:
    a path's strength says little of its length indoors, and other receivers have other gains.
    """
    h = measured.response
    over = tuple(range(1, h.ndim))
    power = np.mean(h.real**2 + h.imag**2, axis=over, keepdims=True)
    h = h / np.sqrt(np.where(power > 0, power, 1))
    x = np.stack([h.real, h.imag], 1).astype(np.float32)
    y = measured.delay_ns.astype(np.float32)[:, None]
    return Split(torch.from_numpy(x), torch.from_numpy(y))


def load_measurements(path: str | Path, link: Link) -> Measurements:
    """A reader's own responses, from an `.npz` or a `.csv` file. Names say their units.

    `.npz`: arrays `response`, complex, (N, tones) or (N, antennas, tones), and `delay_ns`, (N,).
    `.csv`: a header and a row for each response; columns `delay_ns` and, for tone k = 0, 1, …,
    `h_re_k` and `h_im_k`, or for antenna a of several `h_re_a_k` and `h_im_a_k`, in any order.
    Either may also have `first_hz` and `spacing_hz`, which must be the link's.

    A two-way response is the product of both directions', a delay one way.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the content is not as above; the message says which and how to mend it.
    """
    path = Path(path)
    require(path.suffix in (".npz", ".csv"), "path", str(path), "give an .npz or a .csv file")
    found = _read_npz(path) if path.suffix == ".npz" else _read_csv(path, link)
    known = ("response", "delay_ns", "first_hz", "spacing_hz")
    for name in found:
        unit = next((full for full in known if full.startswith(f"{name}_")), None)
        mend = f"say the unit, as {unit}" if unit else f"unknown; {path.name} can have {known}"
        require(name in known, "name", name, mend)
    for name in known[:2]:
        require(name in found, name, None, f"missing in {path.name}")
    for name in known[2:]:
        ours = getattr(link, name)
        value = found.get(name, np.array(ours))
        require(bool(np.all(value == ours)), name, value, f"the link has {ours!r}")
    h, delay = found["response"], found["delay_ns"]
    right = h.ndim > 0 and len(h) > 0 and h.shape[1:] == link.shape and np.iscomplexobj(h)
    shape = ", ".join(map(str, ("N", *link.shape)))
    require(right, "response", f"{h.dtype} {h.shape}", f"give complex numbers, ({shape})")
    require(delay.shape == h.shape[:1], "delay_ns", delay.shape, f"give {len(h)}, one a response")
    for at in np.argwhere(~np.isfinite(h)):
        require(False, f"response{at.tolist()}", complex(h[tuple(at)]), "give finite numbers")
    for i in np.flatnonzero(~h.reshape(len(h), -1).any(1)):
        require(False, f"response[{i}]", 0, "nothing but 0 was measured; leave it out")
    for i in np.flatnonzero(~((delay >= 0) & (delay < link.unambiguous_ns))):
        mend = f"give nanoseconds from 0 to {link.unambiguous_ns:g}, what the tones tell apart"
        require(False, f"delay_ns[{i}]", float(delay[i]), mend)
    return Measurements(link, h.astype(np.complex64), delay.astype(float))


def _read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            return dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"path = {str(path)!r}: no npz file of plain arrays ({error})") from error


def _read_csv(path: Path, link: Link) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The columns by name, those of the response joined."""
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    require(len(lines) > 1, "path", str(path), "give a header and a row for each response")
    header = [name.strip() for name in lines[0].split(",")]
    for name in header:
        require(header.count(name) == 1, "name", name, f"given twice in {path.name}")
    try:
        rows = np.loadtxt(lines[1:], delimiter=",", ndmin=2, comments=None)
        columns = dict(zip(header, rows.T, strict=True))
    except ValueError as error:
        message = f"path = {str(path)!r}: give a number in each cell, as many as names ({error})"
        raise ValueError(message) from error

    def part(name: str) -> Float[np.ndarray, "N *shape"]:
        wanted = ["_".join(map(str, (name, *at))) for at in np.ndindex(link.shape)]
        for column in wanted:
            require(column in columns, column, None, f"missing; the link has {link.shape}")
        return np.stack([columns.pop(column) for column in wanted], 1).reshape(-1, *link.shape)

    h = part("h_re").astype(complex)
    h.imag = part("h_im")
    return {"response": h, **columns}


TRAIN, HELD_OUT = 200_000, 10_000
"""responses to train on; for validation and for test each"""

SEEDS = {"train": 0, "validation": 1, "test": 2}
"""each split's own"""


def dataset(link: Link, **scene: object) -> Callable[[], Data]:
    """A loader of simulated data, the splits from seeds of their own.

    Args:
        scene: `multipath` and `snr_db` of `simulate`.
    """

    def load() -> Data:
        sizes = {"train": TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
        parts = {
            name: examples(simulate(link, count, SEEDS[name], **scene))  # type: ignore[arg-type]
            for name, count in sizes.items()
        }
        return Data(**parts)

    return load


LINKS = {link.name: link for link in (BLUETOOTH, WIFI)}
"""The simulated links by name."""

for _link in LINKS.values():
    LOADERS[_link.name] = dataset(_link)
    LOADERS[f"{_link.name}-any-snr"] = dataset(_link, snr_db=(0.0, 40.0))
