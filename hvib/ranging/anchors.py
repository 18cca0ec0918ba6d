"""Several anchors that range one tag: a room, simulated responses, and a bound on the position.

Each anchor at a known place on one wall of a room measures its own channel to the tag, and the
network infers where the tag is. Names end in their units: metres, nanoseconds, dB.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from hvib.check import require
from hvib.checks.numbers import count as whole
from hvib.checks.numbers import finite
from hvib.data import Split
from hvib.ranging.simulate import (
    BLUETOOTH,
    CHUNK,
    SPEED_OF_LIGHT,
    Link,
    Measurements,
    Multipath,
    Paths,
    draw_paths,
    examples,
    measure,
)

Positions = Float[np.ndarray, "N 2"]
"""along the anchors' wall and away from it, in metres"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """A room of a floor's two dimensions, whose first wall carries all anchors.

    The first coordinate runs along that wall and the second away from it. The mirror image of a
    tag at the wall has the same distances to all anchors. It lies outside the room, so the
    distances determine the position.

    Raises:
        ValueError: a field is out of its range.
    """

    length_m: float = 20.0
    """length of the wall with the anchors"""
    width_m: float = 10.0
    """distance to the wall opposite"""
    clearance_m: float = 1.0
    """least distance of a tag from the anchors' wall"""
    anchors: int = 2
    """J, the number of anchors"""

    def __post_init__(self) -> None:
        for name in ("length_m", "width_m", "clearance_m"):
            value = finite(name, getattr(self, name), "metres")
            require(value > 0, name, value, "give metres > 0")
        mend = f"give less than width_m = {self.width_m!r}"
        require(self.clearance_m < self.width_m, "clearance_m", self.clearance_m, mend)
        whole("anchors", self.anchors)
        mend = "give at least 2: one distance leaves a circle of positions"
        require(self.anchors >= 2, "anchors", self.anchors, mend)

    @property
    def places_m(self) -> Float[np.ndarray, "J 2"]:
        """The positions of the anchors, each in the middle of one of J equal parts of the wall."""
        along = (np.arange(self.anchors) + 0.5) * self.length_m / self.anchors
        return np.stack([along, np.zeros(self.anchors)], 1)

    @property
    def moments_m(self) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
        """The mean and the standard deviation of the uniform position, by coordinate."""
        low, high = np.array([0.0, self.clearance_m]), np.array([self.length_m, self.width_m])
        return (low + high) / 2, (high - low) / math.sqrt(12)

    def draw(self, count: int, rng: np.random.Generator) -> Positions:
        """Draw uniform positions of tags.

        Args:
            count: N, the number of positions.
            rng: source of chance.
        """
        return rng.uniform((0.0, self.clearance_m), (self.length_m, self.width_m), (count, 2))

    def distances_m(self, position_m: Positions) -> Float[np.ndarray, "N J"]:
        """Compute the distance of each tag from each anchor."""
        return np.linalg.norm(position_m[:, None] - self.places_m, axis=-1)


HALL = Room()
"""a room of 20 m × 10 m with two anchors"""

INDOORS = Multipath()
"""the statistics of the ranging tasks' channels"""


@dataclass(frozen=True)
class Scene:
    """N tags, each measured by all J anchors."""

    room: Room
    position_m: Positions
    """true positions"""
    measured: tuple[Measurements, ...]
    """for each of the J anchors the N responses, with their channels"""

    def __len__(self) -> int:
        return len(self.position_m)


def at_distances(paths: Paths, distance_m: Float[np.ndarray, " N"]) -> Paths:
    """Move channels to other lengths of the first path, and leave all excess delays as they are.

    Args:
        distance_m: the length of each channel's first path.
    """
    first = distance_m[:, None] / SPEED_OF_LIGHT
    excess = paths.delay_ns - paths.delay_ns[:, :1]
    return Paths(first + excess, paths.gain, paths.sine)


def simulate_anchors(
    room: Room,
    count: int,
    seed: int,
    *,
    link: Link = BLUETOOTH,
    multipath: Multipath = INDOORS,
    snr_db: float = 20.0,
) -> Scene:
    """Simulate what J anchors measure of tags at random positions, all from one seed.

    The channels of the anchors are independent, except that their first paths have the lengths
    that belong to one position. `multipath` says how they are distributed; its two distances are
    not used, for the room determines them.

    Args:
        count: N, the number of tags.
        seed: determines every value. The first n tags of a longer simulation are not those of a
            shorter one, unless both are multiples of `CHUNK`.
        snr_db: SNR of each measurement in dB.

    Raises:
        ValueError: a value is out of range.
    """
    whole("count", count)
    require(seed >= 0, "seed", seed, "give 0 or more")

    def chunk(begin: int) -> tuple[Positions, list[tuple[Paths, np.ndarray]]]:
        # The last entry keeps these streams apart from those of `simulate`, which have two.
        rng = np.random.default_rng([seed, begin, 0])
        place = room.draw(min(CHUNK, count - begin), rng)
        parts = []
        for j, distance in enumerate(room.distances_m(place).T):
            own = np.random.default_rng([seed, begin, 1 + j])
            paths = at_distances(draw_paths(multipath, len(place), own), distance)
            parts.append((paths, measure(paths, link, snr_db, own)))
        return place, parts

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        places, parts = zip(*pool.map(chunk, range(0, count, CHUNK)), strict=True)
    measured = tuple(_joined(link, one) for one in zip(*parts, strict=True))
    return Scene(room, np.concatenate(places), measured)


def _joined(link: Link, parts: Sequence[tuple[Paths, np.ndarray]]) -> Measurements:
    """Join the chunks of one anchor."""
    most = max(paths.gain.shape[1] for paths, _ in parts)

    def padded(name: str) -> np.ndarray:
        arrays = [getattr(paths, name) for paths, _ in parts]
        # Absent paths have the gain 0, whatever their other entries are.
        return np.concatenate([np.pad(a, ((0, 0), (0, most - a.shape[1]))) for a in arrays])

    paths = Paths(padded("delay_ns"), padded("gain"), padded("sine"))
    responses = np.concatenate([response for _, response in parts])
    return Measurements(link, responses, paths.delay_ns[:, 0], paths)


def anchor_examples(scene: Scene) -> Split:
    """Convert a scene to a network's examples.

    x is (N, J, 2, tones), or (N, J, 2, antennas, tones): for each anchor the real and imaginary
    part, each response divided by its own root mean square as in `simulate.examples`. y is (N, 2),
    the position in metres. Both are float32.
    """
    x = torch.stack([examples(one).x for one in scene.measured], 1)
    return Split(x, torch.from_numpy(scene.position_m.astype(np.float32)))


def position_bound(
    room: Room, position_m: Positions, deviation_m: float | Float[np.ndarray, "N J"]
) -> Float[np.ndarray, " N"]:
    """Compute the Cramér–Rao bound on the squared position error from bounds on the distances.

    An anchor whose distance has the standard deviation σ_j informs only along the unit vector g_j
    from it to the tag, with the matrix g_j g_jᵀ / σ_j². The anchors' noise is independent, so
    these add, and the bound is the trace of the inverse of the sum. For two anchors that is
    (σ_1² + σ_2²) / sin²α with α the angle between both directions.

    Args:
        position_m: true positions.
        deviation_m: σ_j, smallest standard deviation of each distance in metres, as one of the
            bounds of `hvib.ranging.bounds` times `SPEED_OF_LIGHT`.

    Returns:
        The smallest mean squared error of an unbiased estimate in m²; infinite where all
        directions agree. It holds for errors that are small against the room.

    Raises:
        ValueError: the deviations are no positive numbers, or not one for each tag and anchor.
    """
    away = position_m[:, None] - room.places_m  # (N, J, 2)
    unit = away / np.linalg.norm(away, axis=-1, keepdims=True)
    deviation = np.asarray(deviation_m, dtype=float)
    require(bool((deviation > 0).all()), "deviation_m", deviation_m, "give metres > 0")
    shape = unit.shape[:2]
    fits = deviation.shape in ((), shape)
    require(fits, "deviation_m.shape", deviation.shape, f"give one number, or {shape}")
    weight = np.broadcast_to(deviation, shape) ** -2.0
    xx, xy, yy = (
        (weight * unit[..., i] * unit[..., k]).sum(1) for i, k in ((0, 0), (0, 1), (1, 1))
    )
    determinant = xx * yy - xy**2
    # Rounding leaves a tiny determinant of either sign where the directions agree.
    singular = determinant <= 1e-14 * (xx + yy) ** 2
    return np.where(singular, np.inf, (xx + yy) / np.where(singular, 1.0, determinant))
