"""A smooth curve through measured points that rises and falls where they do: cubic, monotone.

The slopes are those of Fritsch and Butland (1984), which `scipy.interpolate.PchipInterpolator` has
too; serving needs no SciPy.
"""

import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "..."]


def finer(axis: Float[np.ndarray, " n"], times: int) -> Float[np.ndarray, " f"]:
    """An axis with `times` equal steps for each of its own; its own points exactly among them."""
    count = len(axis)
    return np.interp(np.arange((count - 1) * times + 1) / times, np.arange(count), axis)


def monotone(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, "*rows n"], at: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "*rows m"]:
    """The curve through (x, y) at places between; each row of y is a curve of its own.

    Args:
        x: ascending.
        at: inside the range of x.
    """
    if len(x) < 2:
        return np.repeat(y, len(at), -1)
    steps = np.diff(x)
    slopes = _slopes(steps, np.diff(y) / steps)
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h, t = steps[k], (at - x[k]) / steps[k]
    # Hermite's four polynomials on [0, 1]
    start, end = (1 + 2 * t) * (1 - t) ** 2, t**2 * (3 - 2 * t)
    leaving, arriving = t * (1 - t) ** 2, t**2 * (t - 1)
    curve = start * y[..., k] + end * y[..., k + 1]
    return curve + h * (leaving * slopes[..., k] + arriving * slopes[..., k + 1])


def _slopes(steps: Float[np.ndarray, " n-1"], chords: Array) -> Array:
    """The curve's slope at each point: 0 at a turn, else a harmonic mean of those beside it."""
    if len(steps) == 1:
        return np.repeat(chords, 2, -1)
    before, behind = chords[..., :-1], chords[..., 1:]
    w_before, w_behind = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    same = before * behind > 0
    one = np.where(same, before, 1), np.where(same, behind, 1)  # no division by 0
    inner = (w_before + w_behind) / (w_before / one[0] + w_behind / one[1])
    inner = np.where(same, inner, 0.0)
    first = _end(steps[0], steps[1], chords[..., 0], chords[..., 1])
    last = _end(steps[-1], steps[-2], chords[..., -1], chords[..., -2])
    return np.concatenate([first[..., None], inner, last[..., None]], -1)


def _end(step: float, next_step: float, chord: Array, next_chord: Array) -> Array:
    """The slope at an end: that of the parabola through three points, kept from turning."""
    slope = ((2 * step + next_step) * chord - step * next_chord) / (step + next_step)
    slope = np.where(slope * chord <= 0, 0.0, slope)
    steep = (chord * next_chord < 0) & (np.abs(slope) > 3 * np.abs(chord))
    return np.where(steep, 3 * chord, slope)
