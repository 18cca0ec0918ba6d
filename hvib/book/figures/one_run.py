"""The table of all methods of one training run, and how far each is above the others' envelope."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Markdown
from matplotlib.figure import Figure

from hvib.book.curves import VIB, Curve, Curves, Key, label_of, task_label
from hvib.book.figures.page import table
from hvib.book.figures.style import (
    beta_axis,
    change_axis,
    draw_interval,
    legend_handles,
    method_style,
)
from hvib.book.figures.tasks import task_axes
from hvib.book.one_run import WORDS, Standing, Step, lowest_at, price
from hvib.book.optimum import envelope, excess_over_envelope
from hvib.book.statistics import Interval
from hvib.book.text import beta_text, percent, with_interval


def words_table(keys: Sequence[Key]) -> Markdown:
    """What each method trains, has to know beforehand, and can do when it is finished."""
    return table(
        {
            "method": label_of(key),
            "trains": WORDS[key].trains,
            "has to know": WORDS[key].knows,
            "finished, it answers": WORDS[key].deployed,
        }
        for key in keys
    )


def cost_by_method(
    tasks: Mapping[str, Curves],
    steps: Mapping[tuple[str, Key], Step],
    device: Mapping[tuple[str, Key], float],
) -> Markdown:
    """Parameters, time, work and memory of each method on some tasks; work in VIB's steps.

    Args:
        steps: a training step of each, by task and method.
        device: the share of the parameters that are the device's, likewise.
    """

    def count(curves: Sequence[Curve]) -> int:
        return curves[0].parameters

    def cells(task: str, key: Key) -> dict[str, str]:
        own, vib, curves = steps[task, key], steps[task, VIB], tasks[task]
        return {
            "parameters (% of VIB's)": f"{100 * count(curves[key]) / count(curves[VIB]):.1f}",
            "of them at the device": f"{device[task, key]:.0%}",
            "time (VIB runs)": f"{price(curves[key], curves[VIB]):.2f}",
            "products of a step": f"{own.products / vib.products:.2f}",
            "operator calls of a step": f"{own.calls / vib.calls:.1f}",
            "memory of a step (MB)": f"{own.megabytes:.1f}",
        }

    return table(
        {"task": task_label(task), "method": label_of(key)} | cells(task, key)
        for task, curves in tasks.items()
        for key in WORDS
        if key in curves
    )


def _stretch(betas: Sequence[float], grid: Sequence[float]) -> str:
    """Values of a grid as prose has them: 10⁻⁶ to 10⁻⁴, 0.1."""
    parts: list[list[float]] = []
    for k, beta in enumerate(grid):
        if beta not in betas:
            continue
        if parts and parts[-1][-1] == grid[k - 1]:
            parts[-1].append(beta)
        else:
            parts.append([beta])
    told = [" to ".join(map(beta_text, dict.fromkeys((part[0], part[-1])))) for part in parts]
    return ", ".join(told) or "nowhere"


def lowest_table(tasks: Mapping[str, Curves]) -> Markdown:
    """At which β each method's test objective is the lowest of all methods of one run.

    Args:
        tasks: the curves of each, of methods of one run alone.
    """
    found = {task: lowest_at(curves) for task, curves in tasks.items()}
    grids = {task: next(iter(curves.values()))[0].betas.tolist() for task, curves in tasks.items()}
    keys = [key for key in WORDS if any(key in one for one in found.values())]

    def cell(task: str, key: Key) -> str:
        return _stretch(found[task][key], grids[task]) if key in found[task] else "not run"

    return table(
        {"method": label_of(key)} | {task_label(task): cell(task, key) for task in tasks}
        for key in keys
    )


def excess_over_others(tasks: Mapping[str, Curves], keys: Sequence[Key]) -> Figure:
    """The test objective of each method over the lower envelope of all on record, task by task.

    Args:
        tasks: every method's curves, with the same seeds.
        keys: of the methods drawn; one that a task has not on record is left out there.
    """
    figure, panels = task_axes(tasks, 6.6)
    for axes, curves in zip(panels, tasks.values(), strict=True):
        beta_axis(axes, curves)
        lowest = envelope(curves)
        axes.axhline(0, color="#222222", lw=1.2)
        for key in (key for key in keys if key in curves):
            values = excess_over_envelope(curves[key], lowest)
            draw_interval(axes, method_style(key), curves[key][0].betas, values, 100)
        change_axis(axes, (0, 3, 10, 30, 100, 300))
        axes.yaxis.set_minor_locator(plt.NullLocator())
        axes.set(ylim=(-2, None), ylabel="above the envelope (%)")
    handles = legend_handles({key: method_style(key) for key in keys})
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def excess_rows(tasks: Mapping[str, Curves], keys: Sequence[Key]) -> list[dict[str, Any]]:
    """The data behind `excess_over_others`, with the method that makes the envelope."""
    rows = []
    for task, curves in tasks.items():
        lowest = envelope(curves)
        for key in (key for key in keys if key in curves):
            over: Interval = excess_over_envelope(curves[key], lowest)
            for k, beta in enumerate(curves[key][0].betas):
                told = {"task": task_label(task), "method": label_of(key), "beta": float(beta)}
                ends = {"low": float(over.low[k]), "high": float(over.high[k])}
                best = {"envelope": label_of(lowest.keys[k])}
                rows.append(told | {"above the envelope": float(over.mean[k])} | ends | best)
    return rows


def standing_table(found: Mapping[tuple[str, Key], Standing]) -> Markdown:
    """Each method against VIB and against the envelopes of all others, at its price.

    A cell has the mean over β, the worst β, and how the test ends.
    """
    rivals = {
        "vib": "over VIB (%)",
        "equal": "over all others at equal epochs (%)",
        "others": "over all others at any epochs (%)",
    }

    def cell(one: Standing, rival: str) -> str:
        mean, worst, beta = getattr(one, rival)
        return (
            f"{with_interval(mean, 100, 1)}; worst {percent(worst, 1)} at β = {beta_text(beta)}: "
            f"**{one.against(rival)}**"
        )

    return table(
        {
            "task": task_label(task),
            "method": label_of(key),
            "time (VIB runs)": f"{one.runs:.2f}",
        }
        | {head: cell(one, rival) for rival, head in rivals.items()}
        for (task, key), one in found.items()
    )
