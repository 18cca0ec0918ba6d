"""A lower bound on the objective of several devices, by branch and bound.

Where the objective of `hvib.theory.distributed` is not convex, descents may end in a minimum that
is not the least. This bound says by how much at most. It is for devices that observe one number
each.
"""

import heapq
from collections.abc import Iterator
from itertools import count, product
from typing import NamedTuple

import numpy as np

from hvib.check import require
from hvib.theory.distributed import OneOrEach, PerDevice, Sources, distributed_response, price
from hvib.theory.linear import Vector, positive


def _relaxed(
    data: Sources, slope: PerDevice, low: PerDevice, high: PerDevice
) -> tuple[float, Vector]:
    """Bound E(y − Σ t_j u_j)² + Σ slope_j t_j from below, over low ≤ t ≤ high.

    Coordinate descent finds a point near the minimum. The function is convex, so its tangent
    there is below it, and the least value of the tangent over the box is a valid bound however
    near the point is.

    Returns:
        The bound, and the point.
    """
    linear = 2 * data.cross - slope
    t = np.clip(np.zeros_like(low), low, high)
    for _ in range(200):
        before = t.copy()
        for j in range(len(t)):
            rest = linear[j] / 2 - data.correlation[j] @ t + t[j]
            t[j] = min(max(rest, low[j]), high[j])
        if np.abs(t - before).max() <= 1e-13 * np.sqrt(data.power):
            break
    gradient = 2 * data.correlation @ t - linear
    value = data.power + t @ data.correlation @ t - linear @ t
    tangent = np.minimum(gradient * (low - t), gradient * (high - t)).sum()
    return float(value + tangent), t


class Box(NamedTuple):
    """Gains between two ends, none of which changes its sign inside."""

    bound: float
    """below the objective at all gains of the box"""
    order: int
    """parts boxes of one bound, so that a heap never compares arrays"""
    low: PerDevice
    high: PerDevice
    point: Vector
    """gains near the minimum of the relaxed problem"""
    excess: PerDevice
    """by how much each price is above its chord at the point"""


def _box(
    data: Sources, settings: tuple[PerDevice, PerDevice], low: Vector, high: Vector, order: int
) -> Box:
    """Bound the objective over a box, with the chord of each price in its place.

    Args:
        settings: β_j and σ_j².
    """
    # Within a box no gain changes its sign, and so |t| is linear between its ends.
    ends = [price(np.abs(t), *settings).cost for t in (low, high)]
    slope = (ends[1] - ends[0]) / np.maximum(high - low, 1e-300)
    value, t = _relaxed(data, slope, low, high)
    excess = price(np.abs(t), *settings).cost - ends[0] - slope * (t - low)
    return Box(value + float((ends[0] - slope * low).sum()), order, low, high, t, excess)


def _halves(box: Box) -> Iterator[tuple[Vector, Vector]]:
    """Yield the ends of both parts of a box, cut where a chord is furthest below its price."""
    j = int(np.argmax(box.excess))
    width = box.high[j] - box.low[j]
    cut = np.clip(box.point[j], box.low[j] + 0.1 * width, box.high[j] - 0.1 * width)
    for lower, upper in ((box.low[j], cut), (cut, box.high[j])):
        low, high = box.low.copy(), box.high.copy()
        low[j], high[j] = lower, upper
        yield low, high


def certified_bound(
    data: Sources,
    betas: OneOrEach,
    noise_variances: OneOrEach,
    tolerance: float = 1e-6,
    boxes: int = 20_000,
) -> float:
    """Bound the minimum of D + Σ_j β_j R_j from below, to a tolerance.

    In a box of gains that have one sign each, the concave price of a device is above its chord,
    and with chords in place of prices the problem is convex. The box with the lowest bound is
    halved until it is close to the best system found. The result is the minimum less what is
    left: at most the tolerance, or more where the number of boxes did not suffice.

    Args:
        betas: β_j, or one for all devices.
        noise_variances: σ_j², or one for all devices.
        tolerance: of the difference, relative to E y².
        boxes: how many are looked at, at most.

    Raises:
        ValueError: a device observes several numbers, the correlation is singular, or a parameter
            is out of its range.
    """
    require(data.scalar, "data.scalar", False, "give devices that observe one number each")
    least = float(np.linalg.eigvalsh(data.correlation)[0])
    require(least > 1e-9, "least eigenvalue of data.correlation", least, "give independent views")
    positive("tolerance", tolerance)
    best = distributed_response(data, betas, noise_variances).objective
    each = np.ones(data.devices)
    settings = each * np.asarray(betas), each * np.asarray(noise_variances)
    # A system that is no worse than silence has E(y − Σ t_j u_j)² ≤ E y², an ellipsoid of gains.
    inverse = np.linalg.inv(data.correlation)
    centre = inverse @ data.cross
    reach = np.abs(centre) + np.sqrt(np.diag(inverse) * (data.cross @ centre))
    order = count()
    heap: list[Box] = []
    for signs in product((-1, 1), repeat=data.devices):
        ends = np.array(signs) * reach
        low, high = np.minimum(ends, 0), np.maximum(ends, 0)
        heapq.heappush(heap, _box(data, settings, low, high, next(order)))
    for _ in range(boxes // 2):
        if heap[0].bound >= best - tolerance * data.power:
            break
        for low, high in _halves(heapq.heappop(heap)):
            heapq.heappush(heap, _box(data, settings, low, high, next(order)))
    return min(best, heap[0].bound)
