"""Figures of the distance from the optimum, for several tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.curves import VIB, Curve, Curves, Key, label_of, task_label
from hvib.book.figures.page import table
from hvib.book.figures.style import (
    PALETTE,
    beta_axis,
    change_axis,
    draw_interval,
    legend_handles,
    method_style,
)
from hvib.book.optimum import Bounds, Envelope, gap
from hvib.book.statistics import Interval, excess, over_seeds, shared_betas
from hvib.book.text import beta_text
from hvib.theory.linear import joint_response
from hvib.theory.spectrum import general_response

_ENVELOPE: dict[str, Any] = {"color": "#222222", "lw": 2.6, "alpha": 0.75}
_SIMPLE: dict[str, Any] = {"color": "#009E73", "lw": 1.6, "ls": ":"}
_ASSUMED: dict[str, Any] = {"color": "#555555", "lw": 1.1, "ls": "--"}
_CERTIFIED: dict[str, Any] = {"color": "#bbbbbb", "lw": 8, "alpha": 0.6}


def _handles(keys: Sequence[Key], more: Mapping[str, Mapping[str, Any]]) -> list[plt.Line2D]:
    """Legend entries of methods, and of further lines."""
    further = [plt.Line2D([], [], label=label, **style) for label, style in more.items()]
    return legend_handles({key: method_style(key) for key in keys}) + further


def water_filling(
    eigenvalues: np.ndarray, betas: np.ndarray, noise_variance: float, found: np.ndarray
) -> Figure:
    """The general linear case over β: each eigenvalue's distortion, and the least objective.

    Args:
        eigenvalues: λ_j, of as many features.
        betas: where the minimiser was started.
        found: the lowest C − D_min that it found there.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.0))
    fine = np.geomspace(betas[0], betas[-1], 400)
    exact = general_response(eigenvalues, fine, noise_variance, len(eigenvalues))
    for one, color in zip(exact.features, PALETTE, strict=False):
        power = float(one.distortion.max())
        left.plot(fine, one.distortion, color=color)
        limit = 2 * power * noise_variance
        below = joint_response(power, limit, noise_variance).distortion
        if limit > fine[0]:
            left.plot([limit], [below], "|", color=color, markersize=11)
        left.annotate(
            f"$\\lambda$ = {power:.2g}",
            (fine[-1], power),
            (4, 0),
            textcoords="offset points",
            color=color,
            va="center",
        )
    left.plot(fine, fine / 2, color="#999999", lw=5, alpha=0.4, zorder=0)
    left.set(yscale="log", ylabel="distortion $D_j$ of an eigenvalue", title="water-filling")
    left.set_ylim(top=2 * eigenvalues.max())
    right.plot(fine, exact.objective, color=PALETTE[0], label="formula")
    right.plot(betas, found, "o", color=PALETTE[1], label="numerical minimiser")
    right.set(yscale="log", ylabel="$\\min C - D_{\\min}$", title="the sum")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="trade-off β")
    return figure


def objective_and_bounds(
    tasks: Mapping[str, Curves],
    bounds: Mapping[str, Bounds],
    envelopes: Mapping[str, Envelope],
    keys: Sequence[Key] = (VIB,),
) -> Figure:
    """The test objective over β above the bounds, a panel for each task.

    The certified bound is the upper edge of the shaded area, the assumed bound a thin line.

    Args:
        keys: of the methods drawn; a method that a task has not on record is left out there.
    """
    figure, panels = plt.subplots(2, -(-len(tasks) // 2), figsize=(9.5, 6.2), squeeze=False)
    for axes, (task, curves) in zip(panels.flat, tasks.items(), strict=False):
        beta_axis(axes, curves)
        axes.set(yscale="log", title=task_label(task), ylabel="test objective")
        bound, lowest = bounds[task], envelopes[task]
        floor = 0.3 * bound.assumed.min()
        axes.fill_between(bound.betas, floor, bound.certified, color="#bbbbbb", alpha=0.6, lw=0)
        axes.plot(bound.betas, bound.assumed, **_ASSUMED)
        axes.plot(bound.betas, bound.simple, **_SIMPLE)
        axes.plot(lowest.betas, lowest.objective.mean, **_ENVELOPE)
        for key in (key for key in keys if key in curves):
            values = over_seeds(curves[key], "objective")
            draw_interval(axes, method_style(key), curves[key][0].betas, values)
        axes.set_ylim(bottom=floor)
    for axes in panels.flat[len(tasks) :]:
        axes.remove()
    more = {
        "envelope of all methods": _ENVELOPE,
        "simple system on one feature": _SIMPLE,
        "assumed bound": _ASSUMED,
        "certified bound": _CERTIFIED,
    }
    figure.legend(handles=_handles(keys, more), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _factor(values: Interval) -> Interval:
    """A relative gap as a multiple of its reference."""
    return Interval(*(1 + part for part in values))


def _certified(axes: Axes, curves: Curves, bound: Bounds, lowest: Envelope) -> None:
    """Each method's objective as a multiple of the certified bound."""
    axes.plot(lowest.betas, lowest.objective.mean / bound.certified, **_ENVELOPE)
    for key, group in curves.items():
        values = gap(group, bound.betas, bound.certified)
        draw_interval(axes, method_style(key), group[0].betas, _factor(values))
    axes.set(yscale="log", ylabel="over certified (factor)")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _assumed(axes: Axes, curves: Curves, bound: Bounds, lowest: Envelope) -> None:
    """Each method's relative gap to the assumed bound, and that of the simple system."""
    axes.plot(lowest.betas, 100 * (lowest.objective.mean / bound.assumed - 1), **_ENVELOPE)
    for key, group in curves.items():
        values = gap(group, bound.betas, bound.assumed)
        draw_interval(axes, method_style(key), group[0].betas, values, 100)
    top = axes.get_ylim()[1]
    axes.plot(bound.betas, 100 * (bound.simple / bound.assumed - 1), **_SIMPLE)
    axes.set(ylim=(0, top), ylabel="over assumed (%)")


def _over_vib(axes: Axes, curves: Curves, lowest: Envelope, vib: Sequence[Curve]) -> None:
    """Each method's relative excess over VIB."""
    objective = over_seeds(vib, "objective").mean
    axes.plot(lowest.betas, 100 * (lowest.objective.mean / objective - 1), **_ENVELOPE)
    axes.axhline(0, color=method_style(VIB).color, lw=1.2)
    for key, group in curves.items():
        if key != VIB:
            values = excess(group, vib, "test")
            draw_interval(axes, method_style(key), shared_betas(group, vib), values, 100)
    change_axis(axes, (-30, -10, 0, 10, 30, 100))
    axes.set_ylabel("over VIB (%)")


def gap_beside_excess(
    tasks: Mapping[str, Curves],
    bounds: Mapping[str, Bounds],
    envelopes: Mapping[str, Envelope],
    keys: Sequence[Key],
) -> Figure:
    """The test objective over both bounds, beside the excess over VIB, a row for each task.

    On the left is the objective as a multiple of the certified bound, in the middle its relative
    gap to the assumed bound, on the right the relative excess over VIB.

    Args:
        tasks: the curves of each, VIB's among them.
        keys: of the methods drawn; a method that a task has not on record is left out there.
    """
    size = (9.5, 0.9 + 2.3 * len(tasks))
    figure, rows = plt.subplots(len(tasks), 3, figsize=size, squeeze=False)
    for row, (task, curves) in zip(rows, tasks.items(), strict=True):
        drawn = {key: curves[key] for key in keys if key in curves}
        for axes in row:
            beta_axis(axes, curves)
            axes.set_title(task_label(task))
        _certified(row[0], drawn, bounds[task], envelopes[task])
        _assumed(row[1], drawn, bounds[task], envelopes[task])
        _over_vib(row[2], drawn, envelopes[task], curves[VIB])
    more = {"envelope of all methods": _ENVELOPE, "simple system on one feature": _SIMPLE}
    figure.legend(handles=_handles(keys, more), loc="outside upper center", ncols=3, frameon=False)
    return figure


def gap_table(
    tasks: Mapping[str, Curves],
    bounds: Mapping[str, Bounds],
    envelopes: Mapping[str, Envelope],
    betas: Sequence[float],
) -> Markdown:
    """VIB's and the envelope's objective beside the bounds, at some β of each task."""

    def row(task: str, beta: float) -> dict[str, str]:
        bound, lowest, vib = bounds[task], envelopes[task], tasks[task][VIB]
        k = int(np.argmin(np.abs(np.log(bound.betas / beta))))
        own = over_seeds(vib, "objective").mean[k]
        least = lowest.objective.mean[k]
        return {
            "task": task_label(task),
            "β": beta_text(bound.betas[k]),
            "certified bound": f"{bound.certified[k]:.2g}",
            "assumed bound": f"{bound.assumed[k]:.2g}",
            "simple system": f"{bound.simple[k]:.2g}",
            "envelope": f"{least:.2g} ({label_of(lowest.keys[k])})",
            "VIB": f"{own:.2g}",
            "VIB / certified": f"{own / bound.certified[k]:.2f}",
            "VIB / assumed": f"{own / bound.assumed[k]:.2f}",
        }

    return table(row(task, beta) for task in tasks for beta in betas)


def gap_rows(
    tasks: Mapping[str, Curves],
    bounds: Mapping[str, Bounds],
    envelopes: Mapping[str, Envelope],
    keys: Sequence[Key],
) -> list[dict[str, object]]:
    """The data behind both figures: means over seeds at each β."""
    rows = []
    for task, curves in tasks.items():
        bound, lowest = bounds[task], envelopes[task]
        own = {label_of(k): over_seeds(curves[k], "objective").mean for k in keys if k in curves}
        columns = {
            "certified bound": bound.certified,
            "assumed bound": bound.assumed,
            "simple system": bound.simple,
            "envelope": lowest.objective.mean,
        }
        for k, beta in enumerate(bound.betas):
            told = {name: float(values[k]) for name, values in (columns | own).items()}
            best = {"lowest method": label_of(lowest.keys[k])}
            rows.append({"task": task_label(task), "beta": float(beta), **told, **best})
    return rows
