"""Which β: the best that a budget of bits allows, or the cheapest that gives what is wanted.

A surface is linear between its points along log β. The best β under a limit is therefore a point of
the grid or one where the limit is just met, and is found exactly, without a search.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from hvib.check import require
from hvib.serving.surface import COLUMNS, Array, Surface, along, position

ROUNDING = 1e-9
"""Two values that differ by less, relative to their size, count as equal."""


class Choice(NamedTuple):
    """The β chosen for each request, and what the surface says of them."""

    beta: Float[np.ndarray, " *K"]
    metric: Float[np.ndarray, " *K"]
    distortion: Float[np.ndarray, " *K"]
    bits: Float[np.ndarray, " *K"]


def choose(
    surface: Surface,
    snr_db: float | Float[np.ndarray, " *K"],
    *,
    bits: float | Float[np.ndarray, " *K"] | None = None,
    metric: float | Float[np.ndarray, " *K"] | None = None,
    betas: Sequence[float] | Float[np.ndarray, " C"] | None = None,
) -> Choice:
    """For each request the β with the best metric within its bits, or the cheapest good enough.

    Where several β are equally good, the cheapest of them. A budget is of the mean rate over the
    examples that the surface was measured on: single examples take more or less, and other examples
    a few percent more. Who must keep a budget gives a few percent less of it.

    Args:
        snr_db: of each request, in dB. Beyond the surface the nearer end is taken, with a warning.
        bits: the most bits that an inference may take; infinite for no limit.
        metric: in its place, the metric that is wanted.
        betas: only of these, such as those of the folded systems that a server holds.

    Returns:
        In the shape that SNR and limits have together.

    Raises:
        ValueError: bits and metric are both given or both missing, no number, or of shapes that do
            not go together; one of `betas` is beyond the surface; or no β fits a request. The
            message then says what there is.
    """
    mend = "give the most bits of an inference, or metric in their place"
    require((bits is None) != (metric is None), "bits", bits, mend)
    name, limit = ("metric", metric) if bits is None else ("bits", bits)
    snrs, limits = _together(snr_db, name, limit)
    rows = surface.over_beta(snrs.ravel())  # (K, B) each
    gain = surface.sign * rows["metric"]
    held = None if betas is None else _places(surface, betas)
    if name == "bits":
        found = _best(rows["bits"], limits.ravel(), -gain, rows["bits"], held)
    else:
        wanted = surface.sign * limits.ravel()
        found = _best(-gain, -wanted, rows["bits"], -gain, held)
    _require_found(found, rows, surface.sign, name, limits.ravel(), snrs.ravel(), held)
    index, weight = position(np.arange(len(surface.betas)), found)
    told = {column: along(values, index, weight) for column, values in rows.items()}
    made = Choice(_betas(surface, found, betas, held), **told)
    return Choice(*(part.reshape(snrs.shape) for part in made))


def choose_blind(surface: Surface, bits: float | Float[np.ndarray, " *K"]) -> Choice:
    """For each budget one β for all SNR: what is left to a sender that does not know the SNR.

    Its rate keeps the budget at every SNR of the surface, and its metric is the best on average
    over the range, each dB alike.

    Returns:
        Means over the SNR, but for the bits: the most at any SNR.

    Raises:
        ValueError: no β keeps a budget at every SNR.
    """
    _, limits = _together(0.0, "bits", bits)
    share = _weights(surface.snrs_db)
    rows = {name: np.tile(share @ getattr(surface, name), (limits.size, 1)) for name in COLUMNS}
    # Linear between the points, the largest rate is no less than any SNR's.
    rows["bits"] = np.tile(surface.bits.max(0), (limits.size, 1))  # (K, B)
    found = _best(rows["bits"], limits.ravel(), -surface.sign * rows["metric"], rows["bits"], None)
    least = _outward(float(surface.bits.max(0).min()), up=True)
    bad = limits.ravel()[np.isnan(found)].tolist()
    mend = f"no β takes less than {least} at every SNR: give at least that"
    require(not bad, "bits", bad[0] if bad else None, mend)
    where = position(np.arange(len(surface.betas)), found)
    told = {name: along(values, *where) for name, values in rows.items()}
    made = Choice(_betas(surface, found, None, None), **told)
    return Choice(*(part.reshape(limits.shape) for part in made))


def _together(snr_db: object, name: str, limit: object) -> tuple[Array, Array]:
    """SNR and limits as arrays of one shape."""
    mend = "give numbers, one, or one for each request"
    try:
        snrs, limits = np.broadcast_arrays(np.asarray(snr_db, float), np.asarray(limit, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} = {limit!r}: {mend} ({error})") from error
    require(not np.isnan(limits).any(), name, limit, mend)
    return snrs, limits


def _places(surface: Surface, betas: Sequence[float] | Array) -> Float[np.ndarray, " C"]:
    """Where along the grid given β are, as `_best` tells places."""
    given = np.asarray(betas, float).ravel()
    require(given.size > 0, "betas", [], "give at least one")
    surface.require_inside("betas", given)
    return np.interp(np.log(given), np.log(surface.betas), np.arange(len(surface.betas)))


def _best(
    used: Float[np.ndarray, "K B"],
    allowed: Float[np.ndarray, " K"],
    cost: Float[np.ndarray, "K B"],
    on_tie: Float[np.ndarray, "K B"],
    held: Float[np.ndarray, " C"] | None,
) -> Float[np.ndarray, " K"]:
    """Where along the grid the cost is least among all places that use what is allowed, at most.

    Args:
        on_tie: which decides between places of equal cost.
        held: only these places.

    Returns:
        Places in units of the grid's steps: 1.5 is half-way from the second to the third point. NaN
        where no place is allowed.
    """
    count, betas = used.shape
    if held is not None:
        places = np.tile(held, (count, 1))
    else:
        points = np.tile(np.arange(betas, dtype=float), (count, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (allowed[:, None] - used[:, :-1]) / np.diff(used)
        inside = (parts > 0) & (parts < 1)  # where what is used meets what is allowed
        crossings = np.where(inside, points[:, :-1] + parts, 0.0)  # elsewhere a point again
        places = np.concatenate([points, crossings], 1)  # (K, 2B − 1)
    index, weight = position(np.arange(betas), places)
    above = np.minimum(index + 1, betas - 1)

    def at(values: Array) -> Array:
        low = np.take_along_axis(values, index, 1)
        return low + weight * (np.take_along_axis(values, above, 1) - low)

    fits = _at_most(at(used), allowed[:, None])
    costs = np.where(fits, at(cost), np.inf)
    least = _at_most(costs, costs.min(1, keepdims=True)) & fits
    chosen = np.where(least, at(on_tie), np.inf).argmin(1)
    return np.where(fits.any(1), places[np.arange(count), chosen], np.nan)


def _at_most(values: Array, limit: Array) -> Bool[np.ndarray, "..."]:
    """Which are at most the limit, but for rounding."""
    finite = np.where(np.isfinite(limit), np.abs(limit), 0)
    return values <= limit + ROUNDING * (finite + ROUNDING)


def _betas(
    surface: Surface,
    places: Float[np.ndarray, " K"],
    given: Sequence[float] | Array | None,
    held: Float[np.ndarray, " C"] | None,
) -> Float[np.ndarray, " K"]:
    """The β at each place; one of the grid, or a given one, exactly, because a cache compares."""
    if given is not None and held is not None:
        return np.asarray(given, float).ravel()[np.abs(held - places[:, None]).argmin(1)]
    log_betas = np.log(surface.betas)
    between = np.exp(np.interp(places, np.arange(len(log_betas)), log_betas))
    on_point = places == places.round()
    return np.where(on_point, surface.betas[places.round().astype(int)], between)


def _weights(grid: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Each point's share of the mean of a piecewise linear function over a grid's range."""
    if len(grid) == 1:
        return np.ones(1)
    steps = np.diff(grid)
    return (np.append(steps, 0) + np.append(0, steps)) / (2 * steps.sum())


def _require_found(
    found: Float[np.ndarray, " K"],
    rows: Mapping[str, Float[np.ndarray, "K B"]],
    sign: int,
    name: str,
    limits: Float[np.ndarray, " K"],
    snrs: Float[np.ndarray, " K"],
    held: Float[np.ndarray, " C"] | None,
) -> None:
    """Refuse a request that no β fits: the first, with the most there is at its SNR."""
    missing = np.isnan(found)
    if not missing.any():
        return
    first = int(np.flatnonzero(missing)[0])
    row = rows[name][first]  # (B,)
    if held is not None:
        row = np.interp(held, np.arange(len(row)), row)
    of = f" ({missing.sum()} of {len(found)} requests)" if len(found) > 1 else ""
    where = f"no β fits at {snrs[first]:g} dB{of}"
    if name == "bits":
        mend = f"give at least {_outward(float(row.min()), up=True)} bits there"
    else:
        best = _outward(float(sign * (sign * row).max()), up=sign < 0)
        mend = f"ask for {'at most' if sign > 0 else 'at least'} {best} there"
    require(False, name, float(limits[first]), f"{where}: {mend}")


def _outward(value: float, up: bool) -> str:
    """A number of four digits that, given in place of the value, still fits."""
    if value == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return f"{(math.ceil if up else math.floor)(value / step) * step:.4g}"
