"""Figures of what one changed choice does."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.ablations import Outcomes
from hvib.book.curves import PAPER, task_label
from hvib.book.figures.page import table
from hvib.book.figures.style import change_ticks, method_style
from hvib.book.figures.tables import excess_cells
from hvib.book.statistics import Comparison
from hvib.book.text import with_interval
from hvib.tasks import Metric


def _by_choice(panels: Sequence[Axes], groups: Outcomes) -> list[tuple[str, str, float]]:
    """Group, variant and height of each row, with the groups' names above their rows."""
    rows: list[tuple[str, str, float]] = []
    height = 0.0
    for group, variants in groups.items():
        panels[0].text(
            *(0, height - 1.35, group),
            transform=panels[0].get_yaxis_transform(),
            fontweight="bold",
        )
        for name in variants:
            height -= 2 if name == next(iter(variants)) else 1
            rows.append((group, name, height))
    for axes in panels:
        axes.axvline(0, color="#0072B2", lw=1.2, zorder=0)
        axes.set_yticks([y for *_, y in rows], [name for _, name, _ in rows])
        axes.set_ylim(height - 1, -0.6)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    return rows


def ablation_excesses(groups: Outcomes) -> Figure:
    """Mean and largest excess of each variant on test data, by what it varies.

    The first of each group is Hyper-VIB as the paper has it, drawn in its colour.
    """
    count = sum(map(len, groups.values())) + len(groups)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 0.6 + 0.27 * count))
    for group, name, y in _by_choice((left, right), groups):
        found, first = groups[group][name], name == next(iter(groups[group]))
        color = method_style(PAPER).color if first else "#555555"
        left.plot([100 * found.test.low, 100 * found.test.high], [y, y], color=color, lw=1.2)
        left.plot(100 * found.test.mean, y, "o", color=color, label=name)
        right.plot(100 * found.worst, y, "o", color=color, label=name)
    left.set(title="mean over β", xlabel="test excess over VIB (%)")
    right.set(title="largest over β", xlabel="test excess over VIB (%)")
    return figure


def ablation_changes(tasks: Mapping[str, Outcomes]) -> Figure:
    """How each variant changes the test objective of each task, by what it varies.

    The axis is linear within ±10% and logarithmic beyond.

    Args:
        tasks: by task and choice the variants against Hyper-VIB as the paper has it; all tasks
            with the same choices.
    """
    groups = next(iter(tasks.values()))
    count = sum(map(len, groups.values())) + len(groups)
    figure, row = plt.subplots(
        1, len(tasks), figsize=(9.5, 0.6 + 0.27 * count), sharey=True, squeeze=False
    )
    panels = list(row[0])
    for group, name, y in _by_choice(panels, groups):
        for axes, found in zip(panels, tasks.values(), strict=True):
            test = found[group][name].test
            style = {"color": "#555555", "mfc": "#555555" if test.has_a_sign else "white"}
            axes.plot([100 * test.low, 100 * test.high], [y, y], color="#555555", lw=1.2)
            axes.plot(100 * test.mean, y, "o", label=name, **style)
    ticks = (-50, 0, 10, 100, 1000)
    for axes, task in zip(panels, tasks, strict=True):
        axes.set_title(task_label(task))
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xticks(ticks, change_ticks(ticks, plus=""), fontsize="small")
        axes.set_xlim(-100, max(axes.get_xlim()[1], 100))  # an objective falls by no more
    figure.supxlabel("change of the test objective (%)", fontsize="medium")
    return figure


def ablation_table(groups: Outcomes, metric: Metric) -> Markdown:
    """The excess of each variant against VIB, its test metric at the β selected, and its size."""
    column = f"test {metric.name} ({metric.unit})"
    return table(
        {
            "choice": group,
            "variant": name,
            **excess_cells(found),
            column: f"{metric.factor * found.metric:.{metric.digits}f}",
            "parameters": f"{found.parameters:,}",
        }
        for group, variants in groups.items()
        for name, found in variants.items()
    )


def changes_table(tasks: Mapping[str, Outcomes]) -> Markdown:
    """How each variant changes the test objective of each task, as `ablation_changes` draws it.

    In bold where the 95% interval leaves out 0.
    """

    def cell(found: Comparison) -> str:
        told = with_interval(found.test, 100, 0)
        return f"**{told}**" if found.test.has_a_sign else told

    return table(
        {"choice": group, "variant": name}
        | {f"{task_label(task)} (%)": cell(found[group][name]) for task, found in tasks.items()}
        for group, variants in next(iter(tasks.values())).items()
        for name in variants
    )


def outcome_rows(groups: Outcomes) -> list[dict[str, Any]]:
    """Every number of the variants with its choice: the data behind a figure of them."""
    return [
        {"choice": group, "variant": name}
        | found._asdict()
        | {"train": float(found.train.mean), "test": float(found.test.mean)}
        for group, variants in groups.items()
        for name, found in variants.items()
    ]
