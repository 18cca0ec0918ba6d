"""Anchors without a network: ranges by classical estimators, a position from two of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.check import require
from hvib.ranging.anchors import HALL, Positions, Room, position_bound, simulate_anchors
from hvib.ranging.bounds import known_shape_bound
from hvib.ranging.estimators import directed, inverse_fft, phase_slope
from hvib.ranging.simulate import BLUETOOTH, SPEED_OF_LIGHT
from hvib.tasks.anchors import SEEDS


def trilaterated(room: Room, distance_m: Float[np.ndarray, "N 2"]) -> Positions:
    """Compute positions from the distances to two anchors on one wall.

    The difference of the squared distances gives the place along the wall, and either distance
    then gives the distance from the wall. Both are clipped to the room.

    Raises:
        ValueError: the room has another number of anchors.
    """
    require(room.anchors == 2, "room.anchors", room.anchors, "give two")
    (first, _), (second, _) = room.places_m
    squared = distance_m**2
    along = (squared[:, 0] - squared[:, 1] + second**2 - first**2) / (2 * (second - first))
    away = np.sqrt(np.maximum(squared[:, 0] - (along - first) ** 2, 0))
    return np.stack(
        [np.clip(along, 0, room.length_m), np.clip(away, room.clearance_m, room.width_m)], 1
    )


class Baseline(NamedTuple):
    """Squared errors of positions in m², over the tags of a test set."""

    mean: float
    median: float


def baselines(count: int = 10_000) -> dict[str, Baseline]:
    """The squared error of trilateration on the first `count` test tags, by estimator.

    The last entry is the Cramér–Rao bound for anchors that are told the shape of their channels,
    all but the delay.
    """
    scene = simulate_anchors(HALL, count, SEEDS["test"])

    def errors(estimator) -> Float[np.ndarray, " N"]:  # type: ignore[no-untyped-def]
        delays = [estimator(directed(one), BLUETOOTH.spacing_hz) for one in scene.measured]
        position = trilaterated(HALL, SPEED_OF_LIGHT * np.stack(delays, 1))
        return ((position - scene.position_m) ** 2).sum(1)

    found = {"phase slope": errors(phase_slope), "inverse FFT": errors(inverse_fft)}
    channels = [one.paths for one in scene.measured if one.paths is not None]
    deviation = [known_shape_bound(paths, BLUETOOTH, 20.0) for paths in channels]
    bound = position_bound(HALL, scene.position_m, SPEED_OF_LIGHT * np.stack(deviation, 1))
    found["bound, channel's shape known"] = bound
    return {name: Baseline(float(e.mean()), float(np.median(e))) for name, e in found.items()}
