"""Figures of curves over β, for one task or for several."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.curves import VIB, Curve, Groups, Name, label_of, task_label
from hvib.book.figures.style import (
    PALETTE,
    beta_axis,
    change_axis,
    draw_interval,
    end_of,
    label_directly,
    legend_handles,
    line,
    log_axis,
    method_style,
    metric_axis,
)
from hvib.book.statistics import Interval, excess, over_seeds, shared_betas
from hvib.book.text import beta_text
from hvib.methods import Style


def over_beta(
    curves: Groups,
    column: str,
    ylabel: str,
    *,
    factor: float = 1,
    floor: float | None = None,
) -> Figure:
    """A column of the test curves over β: mean and 95% interval over seeds.

    Args:
        column: of the records' curves.
        factor: from the column to the unit that `ylabel` names.
        floor: draw on a logarithmic axis from here; what is less leaves it below.
    """
    figure, axes = plt.subplots()
    beta_axis(axes, curves)
    if floor is not None:
        axes.set_yscale("log")
    ends = []
    for name, group in curves.items():
        values = over_seeds(group, column)
        draw_interval(axes, method_style(name), group[0].betas, values, factor)
        ends.append(end_of(name, factor * values.mean[-1]))
    axes.set_ylabel(ylabel)
    axes.set_ylim(bottom=floor)
    label_directly(axes, ends)
    return figure


def metric_over_beta(curves: Groups) -> Figure:
    """The test metric over β, whole range beside the region of the best; β selected ringed."""
    figure, (whole, best) = plt.subplots(1, 2, figsize=(9.5, 4.0), width_ratios=(1, 1))
    metric = next(iter(curves.values()))[0].metric
    is_accuracy, factor = metric.higher_is_better, metric.factor
    peaks, ends = [], []
    for axes in (whole, best):
        beta_axis(axes, curves)
    for name, group in curves.items():
        values = over_seeds(group, "metric")
        for axes in (whole, best):
            draw_interval(axes, method_style(name), group[0].betas, values, factor)
            _ring_selected(axes, name, group)
        ends.append(end_of(name, factor * values.mean[-1]))
        peaks.append(factor * float(values.mean.max() if is_accuracy else values.mean.min()))
    whole.set_ylabel(f"test {metric.name} ({metric.unit})")
    whole.set_title("whole range")
    best.set_title("near the best" + " (rings: β selected on validation)")
    if is_accuracy:
        best.set_ylim(min(peaks) - 1.5, max(peaks) + 0.5)
    else:
        log_axis(whole)
        best.set_ylim(0.9 * min(peaks), 1.15 * max(peaks))
    label_directly(best, [end_of(name, best.get_ylim()[0]) for name in curves])
    return figure


Tasks = Mapping[str, Groups]
"""The curves of each task, by its name."""


def task_axes(tasks: Iterable[str], height: float) -> tuple[Figure, list[Axes]]:
    """A panel for each task, in two rows, with its name."""
    names = list(tasks)
    figure, panels = plt.subplots(2, -(-len(names) // 2), figsize=(7.4, height), squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        axes.set_title(task_label(name))
    for axes in panels.flat[len(names) :]:
        axes.remove()
    return figure, list(panels.flat[: len(names)])


def row_of_axes(tasks: Iterable[str], *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A panel for each task, all in one row, with its name."""
    names = list(tasks)
    size = (9.5 if len(names) > 1 else 7.0, 4.0)
    figure, panels = plt.subplots(1, len(names), figsize=size, sharey=sharey, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=True):
        axes.set_title(task_label(name))
    return figure, list(panels.flat)


def _task_panels(tasks: Tasks, draw: Callable[[Axes, Groups], None]) -> Figure:
    """A panel for each task that `draw` fills, and one legend of all methods above."""
    figure, panels = task_axes(tasks, 6.2)
    for axes, curves in zip(panels, tasks.values(), strict=True):
        draw(axes, curves)
    names = dict.fromkeys(name for curves in tasks.values() for name in curves)
    handles = legend_handles({name: method_style(name) for name in names})
    columns = min(len(names), 3 if len(names) > 4 else 4)  # as many as long names leave room for
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def metric_of_tasks(tasks: Tasks) -> Figure:
    """The test metric over β, a panel for each task, as the paper's Fig. 4; β selected ringed."""

    def draw(axes: Axes, curves: Groups) -> None:
        beta_axis(axes, curves)
        for name, group in curves.items():
            factor = group[0].metric.factor
            draw_interval(
                axes, method_style(name), group[0].betas, over_seeds(group, "metric"), factor
            )
            _ring_selected(axes, name, group)
        metric_axis(axes, group[0].metric)

    return _task_panels(tasks, draw)


def information_plane(tasks: Tasks) -> Figure:
    """The test metric over the rate, a panel for each task: a point for each β, mean over seeds."""

    def draw(axes: Axes, curves: Groups) -> None:
        axes.set_xscale("log")
        axes.set_xlabel("rate (bits per inference)")
        least = np.inf
        for name, group in curves.items():
            bits = over_seeds(group, "rate_nats").mean / np.log(2)
            least = min(least, bits.min())
            metric = group[0].metric.factor * over_seeds(group, "metric").mean
            line(axes, method_style(name), bits, metric, ls="" if name == VIB else "-")
        axes.set_xlim(left=max(0.8 * least, 0.3))  # what sends less sends nothing
        metric_axis(axes, group[0].metric)

    return _task_panels(tasks, draw)


def excess_of_tasks(tasks: Tasks) -> Figure:
    """Relative excess over VIB on test data over β, a panel for each task.

    The axis is linear within ±10% and logarithmic beyond.
    """

    def draw(axes: Axes, curves: Groups) -> None:
        beta_axis(axes, curves)
        ours = {name: group for name, group in curves.items() if name != VIB}
        _draw_excesses(axes, ours, curves[VIB], "test")
        change_axis(axes)
        axes.set_ylabel("excess (% of VIB's objective)")

    return _task_panels(tasks, draw)


def _draw_excesses(
    axes: Axes, ours: Groups, vib: Sequence[Curve], split: str
) -> list[tuple[str, Style, float]]:
    """Relative excess of each method against VIB in %; gives where each curve ends."""
    axes.axhline(0, color="#0072B2", lw=1.2)
    ends = [end_of(VIB, 0.0)]
    for name, group in ours.items():
        values = excess(group, vib, split)
        draw_interval(axes, method_style(name), shared_betas(group, vib), values, 100)
        ends.append(end_of(name, 100 * values.mean[-1]))
    return ends


def _ring_selected(axes: Axes, name: Name, group: Sequence[Curve]) -> None:
    """A ring at the β that validation selects, for each seed."""
    for curve in group:
        k, factor = curve.selected, curve.metric.factor
        where = (curve.betas[k], factor * curve.column("metric", "test")[k])
        axes.plot(*where, "o", markersize=9, fillstyle="none", color=method_style(name).color)


def excess_over_beta(curves: Groups, *, wide: bool = False) -> Figure:
    """Relative excess over VIB over β, on training and on test data: mean and interval.

    Args:
        wide: draw on an axis that is linear within ±10% and logarithmic beyond.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.0), sharey=True)
    ours = {name: group for name, group in curves.items() if name != VIB}
    for axes, split in zip(panels, ("train", "test"), strict=True):
        beta_axis(axes, curves)
        ends = _draw_excesses(axes, ours, curves[VIB], split)
        axes.set_title(f"{split} objective")
    if wide:
        change_axis(panels[0])
        panels[0].autoscale(axis="y")  # which the ticks had widened
    panels[0].set_ylabel("excess over VIB (%)")
    label_directly(panels[1], ends)
    return figure


def by_class_over_beta(curves: Groups, names: Sequence[str]) -> Figure:
    """Test accuracy of each class over β, mean over seeds, a panel for each method.

    Args:
        names: of the classes; the best on average over all panels is drawn on top.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(9.5, 4.0), sharey=True, layout="compressed", squeeze=False
    )
    means = {name: over_seeds(group, "by_class").mean for name, group in curves.items()}
    order = np.argsort(-np.mean(list(means.values()), axis=(0, 1)), kind="stable")
    for axes, (name, group) in zip(panels[0], curves.items(), strict=True):
        image = axes.imshow(100 * means[name].T[order], vmin=0, vmax=100, cmap="cividis")
        axes.grid(False)
        axes.set_title(label_of(name))
        axes.set_xlabel("trade-off β")
        ticks = range(0, len(group[0].betas), 4)
        axes.set_xticks(ticks, [beta_text(group[0].betas[k]) for k in ticks])
        axes.set_yticks(range(len(order)), [names[k] for k in order])
    figure.colorbar(image, ax=panels, label="test accuracy (%)")
    return figure


def survivors(
    images: np.ndarray, classes: Sequence[str], survived: Sequence[int], betas: np.ndarray
) -> Figure:
    """Pictures in two rows, first those that survive longest, with the last β that does.

    Args:
        images: (2·k, C, H, W) in [0, 1], the first row's, then the second's.
        classes: name of each picture's class.
        survived: how many β each survives, as `hvib.book.statistics.survived` counts.
        betas: the β, ascending.
    """
    figure, panels = plt.subplots(2, len(images) // 2, figsize=(9.5, 2.9))
    for axes, image, name, count in zip(panels.flat, images, classes, survived, strict=True):
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray")
        axes.set_axis_off()
        end = f"to {beta_text(betas[count - 1])}" if count else "never"
        axes.set_title(f"{name}\n{end}", fontsize=8, loc="center")
    return figure


_SPLITS = {"test": Style(PALETTE[0], "o"), "train": Style(PALETTE[5], "o")}
"""how figures of one method draw test and training data"""


def over_epochs(tasks: Tasks) -> Figure:
    """The metric at one β over the epochs of a run, on training and on test data, task by task.

    A point for each number of epochs: mean over its seeds, however many, and 95% interval.
    """
    figure, panels = row_of_axes(tasks)
    for axes, curves in zip(panels, tasks.values(), strict=True):
        groups = sorted(curves.values(), key=lambda group: group[0].epochs)
        metric = groups[0][0].metric
        epochs = np.array([group[0].epochs for group in groups])
        ends = []
        for split, style in _SPLITS.items():
            found = [over_seeds(group, "metric", split) for group in groups]
            values = Interval(*(np.concatenate(part) for part in zip(*found, strict=True)))
            draw_interval(axes, style, epochs, values, metric.factor)
            ends.append((split, style, metric.factor * float(values.mean[-1])))
        axes.set_xscale("log", base=2)
        axes.set_xticks(epochs, [str(count) for count in epochs])
        axes.set_xlabel("epochs")
        axes.set_ylim(bottom=0)
        label_directly(axes, ends)
    panels[0].set_ylabel(f"{metric.name} ({metric.unit})")
    return figure


def excess_by_split(tasks: Tasks, name: Name) -> Figure:
    """One method's relative excess over VIB over β, on training and on test data, by task.

    Each task has an axis of its own, because their intervals differ too much for one.
    """
    figure, panels = row_of_axes(tasks)
    for axes, curves in zip(panels, tasks.values(), strict=True):
        beta_axis(axes, curves)
        axes.axhline(0, color="#555555", lw=1.2)
        ends = []
        for split, style in _SPLITS.items():
            values = excess(curves[name], curves[VIB], split)
            betas = shared_betas(curves[name], curves[VIB])
            draw_interval(axes, style, betas, values, 100)
            ends.append((split, style, 100 * float(values.mean[-1])))
        label_directly(axes, ends)
    panels[0].set_ylabel("excess over VIB (%)")
    return figure


def open_features(
    betas: np.ndarray,
    counts: Mapping[Any, Sequence[np.ndarray]],
    exact: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """How many features carry a rate, over β: mean of the seeds.

    Args:
        exact: β, and how many the best response has open there.
    """
    figure, axes = plt.subplots()
    if exact is not None:
        axes.plot(*exact, color="#0072B2", lw=6, alpha=0.3, label="best response")
    for name, seeds in counts.items():
        line(axes, method_style(name), betas, np.mean(seeds, 0), label=label_of(name))
    axes.set(xscale="log", xlabel="trade-off β", ylabel="open features")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
