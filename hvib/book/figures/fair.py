"""Figures and tables of VIB at its best."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.figure import Figure

from hvib.book.curves import ORDERED, PAPER, VIB, Curves, Key, label_of, task_label
from hvib.book.fair import AT_BEST, Leads, vib_at_best
from hvib.book.figures.page import table
from hvib.book.figures.style import (
    beta_axis,
    change_axis,
    draw_interval,
    legend_handles,
    line,
    method_style,
)
from hvib.book.figures.tasks import task_axes
from hvib.book.statistics import compare, excess, shared_betas
from hvib.book.text import beta_text, with_interval
from hvib.methods import Style

EPOCHS = {0.5: Style("#999999", "<"), 2.0: Style("#333333", ">")}
"""VIB at other epochs."""

BEST = Style("#56B4E9", "D")
"""VIB at its best."""


def _style(key: Key) -> Style:
    if key == AT_BEST:
        return BEST
    return EPOCHS.get(key.multiple, BEST) if key.method == "vib" else method_style(key)


def remedies_over_beta(curves: Curves) -> Figure:
    """The excess of VIB with each remedy over VIB without, on training and on test data."""
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.4), sharey=True)
    for axes, split in zip(panels, ("train", "test"), strict=True):
        beta_axis(axes, curves)
        axes.axhline(0, color="#0072B2", lw=1.2)
        axes.set_title(f"{split} objective")
        change_axis(axes, (-50, -30, -10, 0, 10, 30, 100, 300, 1000))
        axes.yaxis.set_minor_locator(plt.NullLocator())
        for key, group in curves.items():
            if key.method.startswith("vib") and key != VIB:
                values, betas = excess(group, curves[VIB], split), shared_betas(group, curves[VIB])
                line(axes, _style(key), betas, 100 * values.mean)
    panels[0].set_ylabel("excess over VIB (%)")
    drawn = {key: _style(key) for key in curves if key.method.startswith("vib") and key != VIB}
    figure.legend(handles=legend_handles(drawn), loc="outside lower center", ncols=3, frameon=False)
    return figure


def excess_at_best(tasks: Mapping[str, Curves]) -> Figure:
    """The test excess over plain VIB of VIB at its best and of the gated methods, task by task."""
    figure, panels = task_axes(tasks, 6.2)
    names = {AT_BEST: BEST, PAPER: method_style(PAPER), ORDERED: method_style(ORDERED)}
    for axes, curves in zip(panels, tasks.values(), strict=True):
        best = vib_at_best(curves).curves
        seeds = {curve.seed for curve in best}
        beta_axis(axes, curves)
        axes.axhline(0, color="#0072B2", lw=1.2)
        for key, group in {AT_BEST: best, PAPER: curves[PAPER], ORDERED: curves[ORDERED]}.items():
            own = [curve for curve in group if curve.seed in seeds]
            values = excess(own, curves[VIB], "test")
            draw_interval(axes, names[key], shared_betas(own, curves[VIB]), values, 100)
        change_axis(axes, (-30, -10, 0, 10, 30, 100))
        axes.set_ylabel("excess (% of VIB's objective)")
    figure.legend(handles=legend_handles(names), loc="outside upper center", ncols=3, frameon=False)
    return figure


def best_rows(tasks: Mapping[str, Curves]) -> list[dict[str, Any]]:
    """What VIB at its best is at each β, and its objective: the data behind a figure."""
    return [
        {
            "task": task_label(task),
            "beta": float(beta),
            "chosen": label_of(key),
            "seed": curve.seed,
            "test objective": float(objective),
        }
        for task, curves in tasks.items()
        for best in (vib_at_best(curves),)
        for curve in best.curves
        for beta, key, objective in zip(
            curve.betas, best.chosen, curve.column("objective", "test"), strict=True
        )
    ]


def chosen_table(tasks: Mapping[str, Curves]) -> Markdown:
    """How many β of each task end with which remedy or number of epochs, and among how many."""
    found = {task: Counter(vib_at_best(curves).chosen) for task, curves in tasks.items()}
    keys = sorted({key for counts in found.values() for key in counts})

    def cell(task: str, key: Key) -> int | str:
        return found[task][key] if key in tasks[task] else "not tried"

    return table(
        {"chosen by validation": label_of(key)} | {task_label(t): cell(t, key) for t in tasks}
        for key in keys
    )


def remedies_table(curves: Curves) -> Markdown:
    """Of VIB with each remedy: the mean excess over VIB without, and that at single β."""
    ours = {key: g for key, g in curves.items() if key.method.startswith("vib") and key != VIB}
    betas = [beta for beta in (1e-5, 1e-3, 1e-1, 1.0) if beta in curves[VIB][0].betas]

    def at(key: Key, beta: float) -> str:
        where = shared_betas(ours[key], curves[VIB]).tolist()
        if beta not in where:
            return "not tried"
        found = excess(ours[key], curves[VIB], "test")
        return with_interval(found.at(where.index(beta)), 100, 0)

    return table(
        {
            "VIB with": label_of(key),
            "mean excess, training (%)": with_interval(compare(group, curves[VIB]).train, 100, 0),
            "mean excess, test (%)": with_interval(compare(group, curves[VIB]).test, 100, 0),
        }
        | {f"at β = {beta_text(beta)} (%)": at(key, beta) for beta in betas}
        for key, group in ours.items()
    )


def averaged_table(tasks: Mapping[str, Curves]) -> Markdown:
    """What averaged weights change of each gated method: mean over β of the test objective."""
    return table(
        {"method": label_of(key)}
        | {
            f"{task_label(task)} (%)": with_interval(
                compare(curves[Key(f"{key.method}-averaged")], curves[key]).test, 100, 1
            )
            for task, curves in tasks.items()
        }
        for key in (PAPER, ORDERED)
    )


def leads_table(found: Mapping[tuple[str, Key], Leads]) -> Markdown:
    """What is left of each gated method's lead over VIB at middle β."""
    return table(
        {
            "task": task_label(task),
            "method": label_of(key),
            "lead over VIB (%)": with_interval(one.plain, 100, 1),
            "over VIB at its best (%)": with_interval(one.tended, 100, 1),
            "both at their best (%)": with_interval(one.both, 100, 1),
            "share of the lead that VIB makes up": f"{one.explained:.0%}"
            if np.isfinite(one.explained)
            else "no clear lead",
        }
        for (task, key), one in found.items()
    )
