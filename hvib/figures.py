"""Every figure and table of the book, from curves alone, in one style."""

import base64
import csv
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from myst_nb import glue

from hvib.claims import (
    PAPER_SECONDS,
    Comparison,
    Curve,
    Interval,
    Verdict,
    above,
    at_rate,
    at_selected,
    best_response,
    best_response_alone,
    beta_text,
    compare,
    over_seeds,
    regret,
    runs_of,
    shared_betas,
    training_seconds,
)
from hvib.config import Metric, Parameters
from hvib.estimators import one_way
from hvib.ranging import Measurements
from hvib.search import Courses, Found

# Okabe and Ito's colours, which the common kinds of colour blindness keep apart, and a purple.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#AA4499")

STYLES: dict[str, dict[str, Any]] = {
    "VIB": {"color": "#0072B2", "marker": "o"},
    "Hyper-VIB": {"color": "#D55E00", "marker": "s"},
    "Hyper-VIB, 2× epochs": {"color": "#AA4499", "marker": "D"},
    "VIB, batched grid": {"color": "#56B4E9", "marker": "^"},
    "Hyper-VIB, log": {"color": "#E69F00", "marker": "v"},
    "Hyper-VIB, free": {"color": "#009E73", "marker": "P"},
    "Hyper-VIB, ordered": {"color": "#222222", "marker": "X"},
    "Hyper-VIB, ordered, 2× epochs": {"color": "#777777", "marker": "d"},
    "Hyper-VIB, tuned": {"color": "#CC79A7", "marker": "^"},
    "grid": {"color": "#0072B2", "marker": "o"},
    "random": {"color": "#999999", "marker": "v"},
    "Bayesian": {"color": "#000000", "marker": "s"},
    "successive halving": {"color": "#CC79A7", "marker": "^"},
    "batched grid": {"color": "#56B4E9", "marker": "^"},
    "warm-started grid": {"color": "#E69F00", "marker": "v"},
    "train": {"color": "#56B4E9", "marker": "o"},
    "test": {"color": "#0072B2", "marker": "o"},
    "phase slope": {"color": "#999999", "marker": "v"},
    "inverse FFT": {"color": "#CC79A7", "marker": "^"},
    "MUSIC": {"color": "#E69F00", "marker": "s"},
    "bound": {"color": "#000000", "marker": "", "ls": "--"},
    "trained at 20 dB": {"color": "#009E73", "marker": "P"},
    "trained at 0 to 40 dB": {"color": "#0072B2", "marker": "o"},
}
"""Colour and marker of each name that a figure draws."""

plt.rcParams.update(
    {
        "figure.figsize": (7.0, 4.0),
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }
)
try:  # sharp at twice the zoom where a notebook shows it
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
except (ImportError, AttributeError):
    pass  # no notebook


def _style(label: str) -> dict[str, Any]:
    return STYLES.get(label, {"color": "#555555", "marker": "."})


def _line(axes: Axes, name: str, x: Sequence[float] | np.ndarray, y: Any, **more: Any) -> None:
    """A curve in the style of its name, its markers edged in white."""
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot(x, y, **{**edge, **_style(name), **more})


def _draw(axes: Axes, label: str, betas: np.ndarray, values: Interval, scale: float = 1) -> None:
    style = _style(label)
    _line(axes, label, betas, scale * values.mean)
    axes.fill_between(
        betas, scale * values.low, scale * values.high, color=style["color"], alpha=0.18, lw=0
    )


def _label_directly(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Names beside the right end of their curves, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    placed: list[float] = []
    for label, y in sorted(ends, key=lambda end: end[1]):
        height = float(to_axes.transform((x, np.clip(y, low, high)))[1])
        height = max(height, placed[-1] + 0.075 if placed else 0.0)
        placed.append(height)
        color = _style(label)["color"]
        axes.text(1.015, height, label, color=color, transform=axes.transAxes, va="center")


def _beta_axis(axes: Axes, curves: Mapping[str, Sequence[Curve]]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("trade-off β")
    betas = next(iter(curves.values()))[0].betas
    if len(betas) > 1:
        axes.set_xlim(betas[0] / 1.3, betas[-1] * 1.3)


def over_beta(
    curves: Mapping[str, Sequence[Curve]],
    name: str,
    ylabel: str,
    *,
    scale: float = 1,
    floor: float | None = None,
) -> Figure:
    """A column of the test curves over β: mean and 95% interval over seeds.

    Args:
        name: the column.
        scale: factor to the unit that `ylabel` names.
        floor: draw on a logarithmic axis from here; what is less leaves it below.
    """
    figure, axes = plt.subplots()
    _beta_axis(axes, curves)
    if floor is not None:
        axes.set_yscale("log")
    ends = []
    for label, group in curves.items():
        values = over_seeds(group, name)
        _draw(axes, label, group[0].betas, values, scale)
        ends.append((label, scale * float(values.mean[-1])))
    axes.set_ylabel(ylabel)
    axes.set_ylim(bottom=floor)
    _label_directly(axes, ends)
    return figure


def metric_over_beta(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """The test metric over β, whole range beside the region of the best; β selected ringed."""
    figure, (whole, best) = plt.subplots(1, 2, figsize=(9.5, 4.0), width_ratios=(1, 1))
    metric = next(iter(curves.values()))[0].metric
    is_accuracy, scale = metric.higher_is_better, metric.scale
    peaks, ends = [], []
    for axes in (whole, best):
        _beta_axis(axes, curves)
    for label, group in curves.items():
        values = over_seeds(group, "metric")
        for axes in (whole, best):
            _draw(axes, label, group[0].betas, values, scale)
            _ring_selected(axes, label, group)
        ends.append((label, scale * float(values.mean[-1])))
        peaks.append(scale * float(values.mean.max() if is_accuracy else values.mean.min()))
    whole.set_ylabel(f"test {metric.name} ({metric.unit})")
    whole.set_title("whole range")
    best.set_title("near the best" + " (rings: β selected on validation)")
    if is_accuracy:
        best.set_ylim(min(peaks) - 1.5, max(peaks) + 0.5)
    else:
        _log_axis(whole)
        best.set_ylim(0.9 * min(peaks), 1.15 * max(peaks))
    _label_directly(best, [(label, best.get_ylim()[0]) for label, _ in ends])
    return figure


Tasks = Mapping[str, Mapping[str, Sequence[Curve]]]
"""The curves of each task, by its name."""


def _task_axes(tasks: Iterable[str], height: float) -> tuple[Figure, list[Axes]]:
    """A panel for each task, in two rows, with its name."""
    names = list(tasks)
    figure, panels = plt.subplots(2, -(-len(names) // 2), figsize=(7.4, height), squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        axes.set_title(name)
    for axes in panels.flat[len(names) :]:
        axes.remove()
    return figure, list(panels.flat[: len(names)])


def _task_panels(
    tasks: Tasks, draw: Callable[[Axes, Mapping[str, Sequence[Curve]]], None]
) -> Figure:
    """A panel for each task that `draw` fills, and one legend of all methods above."""
    figure, panels = _task_axes(tasks, 6.2)
    for axes, curves in zip(panels, tasks.values(), strict=True):
        draw(axes, curves)
    labels = dict.fromkeys(label for curves in tasks.values() for label in curves)
    handles = [plt.Line2D([], [], label=label, **_style(label)) for label in labels]
    columns = min(len(labels), 4)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _metric_axis(axes: Axes, metric: Metric) -> None:
    axes.set_ylabel(f"test {metric.name} ({metric.unit})")
    if not metric.higher_is_better:
        _log_axis(axes)


def _log_axis(axes: Axes) -> None:
    """A logarithmic axis of errors, with 0.2, 0.5 and 1 at its ticks, not powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def metric_of_tasks(tasks: Tasks) -> Figure:
    """The test metric over β, a panel for each task, as the paper's Fig. 4; β selected ringed."""

    def draw(axes: Axes, curves: Mapping[str, Sequence[Curve]]) -> None:
        _beta_axis(axes, curves)
        for label, group in curves.items():
            scale = group[0].metric.scale
            _draw(axes, label, group[0].betas, over_seeds(group, "metric"), scale)
            _ring_selected(axes, label, group)
        _metric_axis(axes, group[0].metric)

    return _task_panels(tasks, draw)


def information_plane(tasks: Tasks) -> Figure:
    """The test metric over the rate, a panel for each task: a point for each β, mean over seeds."""

    def draw(axes: Axes, curves: Mapping[str, Sequence[Curve]]) -> None:
        axes.set_xscale("log")
        axes.set_xlabel("rate (bits per inference)")
        least = np.inf
        for label, group in curves.items():
            bits = over_seeds(group, "rate_nats").mean / np.log(2)
            least = min(least, bits.min())
            metric = group[0].metric.scale * over_seeds(group, "metric").mean
            _line(axes, label, bits, metric, ls="" if label == "VIB" else "-")
        axes.set_xlim(left=max(0.8 * least, 0.3))  # what sends less sends nothing
        _metric_axis(axes, group[0].metric)

    return _task_panels(tasks, draw)


def _changes(ticks: Sequence[int], plus: str = "+") -> list[str]:
    """Ticks of an axis of changes: −10, 0, +10; without a `plus` where there is no room."""
    return [f"{tick:{plus}d}".replace("-", "−") if tick else "0" for tick in ticks]


def regret_of_tasks(tasks: Tasks) -> Figure:
    """Relative regret against VIB on test data over β, a panel for each task.

    The axis is linear within ±10% and logarithmic beyond.
    """

    def draw(axes: Axes, curves: Mapping[str, Sequence[Curve]]) -> None:
        _beta_axis(axes, curves)
        ours = {label: group for label, group in curves.items() if label != "VIB"}
        _draw_regrets(axes, ours, curves["VIB"], "test")
        axes.set_yscale("symlog", linthresh=10)
        ticks = (-30, -10, 0, 10, 30, 100, 300)
        axes.set_yticks(ticks, _changes(ticks))
        axes.set_ylabel("regret (% of VIB's objective)")

    return _task_panels(tasks, draw)


def _draw_regrets(
    axes: Axes, ours: Mapping[str, Sequence[Curve]], vib: Sequence[Curve], split: str
) -> list[tuple[str, float]]:
    """Relative regret of each method against VIB in %; gives where each curve ends."""
    axes.axhline(0, color="#0072B2", lw=1.2)
    ends = [("VIB", 0.0)]
    for label, group in ours.items():
        values = regret(group, vib, split)
        _draw(axes, label, shared_betas(group, vib), values, 100)
        ends.append((label, 100 * float(values.mean[-1])))
    return ends


def _ring_selected(axes: Axes, label: str, group: Sequence[Curve]) -> None:
    """A ring at the β that validation selects, for each seed."""
    for curve in group:
        k, scale = curve.selected, curve.metric.scale
        where = (curve.betas[k], scale * curve.column("metric", "test")[k])
        axes.plot(*where, "o", markersize=9, fillstyle="none", color=_style(label)["color"])


def regret_over_beta(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Relative regret against VIB over β, on training and on test data: mean and interval."""
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.0), sharey=True)
    ours = {label: group for label, group in curves.items() if label.startswith("Hyper")}
    for axes, split in zip(panels, ("train", "test"), strict=True):
        _beta_axis(axes, curves)
        ends = _draw_regrets(axes, ours, curves["VIB"], split)
        axes.set_title(f"{split} objective")
    panels[0].set_ylabel("regret against VIB (%)")
    _label_directly(panels[1], ends)
    return figure


def by_class_over_beta(curves: Mapping[str, Sequence[Curve]], names: Sequence[str]) -> Figure:
    """Test accuracy of each class over β, mean over seeds, a panel for each method.

    Args:
        names: of the classes; the best on average over all panels is drawn on top.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(9.5, 4.0), sharey=True, layout="compressed", squeeze=False
    )
    means = {label: over_seeds(group, "by_class").mean for label, group in curves.items()}
    order = np.argsort(-np.mean(list(means.values()), axis=(0, 1)), kind="stable")
    for axes, (label, group) in zip(panels[0], curves.items(), strict=True):
        image = axes.imshow(100 * means[label].T[order], vmin=0, vmax=100, cmap="cividis")
        axes.grid(False)
        axes.set_title(label)
        axes.set_xlabel("trade-off β")
        ticks = range(0, len(group[0].betas), 4)
        axes.set_xticks(ticks, [beta_text(group[0].betas[k]) for k in ticks])
        axes.set_yticks(range(len(order)), [names[k] for k in order])
    figure.colorbar(image, ax=panels, label="test accuracy (%)")
    return figure


def _search_panel(axes: Axes, courses: Courses, metric: Metric, cost: str) -> None:
    """The test metric at the best β so far over a cost: median of the seeds and their range."""

    def reached(course: Sequence[Found], spent: float) -> float:
        return [f.test for f in course if getattr(f, cost) <= spent or f is course[0]][-1]

    for label, seeds in courses.items():
        color = _style(label)["color"]
        starts = [getattr(course[0], cost) for course in seeds]
        at = np.unique([getattr(f, cost) for course in seeds for f in course])
        at = at[at >= max(starts)] if max(map(len, seeds)) > 1 else np.array([np.median(starts)])
        found = metric.scale * np.array([[reached(course, x) for x in at] for course in seeds])
        middle = np.median(found, 0)
        if len(at) > 1:
            axes.step(at, middle, where="post", color=color, label=label)
            axes.fill_between(
                at, found.min(0), found.max(0), step="post", color=color, alpha=0.15, lw=0
            )
        else:
            spread = np.abs(np.array([found.min(0), found.max(0)]) - middle)
            axes.errorbar(at, middle, spread, fmt="o", color=color, capsize=3, label=label)
    unit = "VIB runs" if cost == "runs" else "s"
    axes.set(xscale="log", xlabel=f"training ({unit})")
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))


def search_courses(courses: Courses, metric: Metric) -> Figure:
    """The test metric at the best β so far, over VIB runs and over seconds of training.

    Median of the seeds and their range; a search of one run is a point.

    Args:
        courses: as `hvib.search.course` gives them.
        metric: of the task.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True)
    for axes, cost in zip(panels, ("runs", "seconds"), strict=True):
        _search_panel(axes, courses, metric, cost)
    _metric_axis(panels[0], metric)
    panels[0].set_ylabel(f"test {metric.name} at the best β so far ({metric.unit})")
    panels[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def searches_of_tasks(tasks: Mapping[str, Courses], metrics: Sequence[Metric]) -> Figure:
    """The test metric at the best β so far over VIB runs, as `search_courses`, a panel a task.

    Args:
        metrics: of the tasks, in their order.
    """
    figure, panels = _task_axes(tasks, 6.8)
    for axes, courses, metric in zip(panels, tasks.values(), metrics, strict=True):
        _search_panel(axes, courses, metric, "runs")
        _metric_axis(axes, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _by_choice(
    panels: Sequence[Axes], groups: Mapping[str, Mapping[str, Comparison]]
) -> list[tuple[str, str, float]]:
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


def ablation_regrets(groups: Mapping[str, Mapping[str, Comparison]]) -> Figure:
    """Mean and largest regret of each variant on test data, by what it varies.

    The first of each group is Hyper-VIB as the paper has it, drawn in its colour.
    """
    count = sum(map(len, groups.values())) + len(groups)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 0.6 + 0.27 * count))
    for group, name, y in _by_choice((left, right), groups):
        found, first = groups[group][name], name == next(iter(groups[group]))
        color = _style("Hyper-VIB")["color"] if first else "#555555"
        left.plot([100 * found.test.low, 100 * found.test.high], [y, y], color=color, lw=1.2)
        left.plot(100 * found.test.mean, y, "o", color=color, label=name)
        right.plot(100 * found.worst, y, "o", color=color, label=name)
    left.set(title="mean over β", xlabel="test regret against VIB (%)")
    right.set(title="largest over β", xlabel="test regret against VIB (%)")
    return figure


def ablation_changes(tasks: Mapping[str, Mapping[str, Mapping[str, Comparison]]]) -> Figure:
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
        axes.set_title(task)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xticks(ticks, _changes(ticks, plus=""), fontsize="small")
        axes.set_xlim(-100, max(axes.get_xlim()[1], 100))  # an objective falls by no more
    figure.supxlabel("change of the test objective (%)", fontsize="medium")
    return figure


def survivors(
    images: np.ndarray, classes: Sequence[str], survived: Sequence[int], betas: np.ndarray
) -> Figure:
    """Pictures in two rows, first those that survive longest, with the last β that does.

    Args:
        images: (2·k, C, H, W) in [0, 1], the first row's, then the second's.
        classes: name of each picture's class.
        survived: how many β each survives, as `hvib.claims.survived` counts.
        betas: the β, ascending.
    """
    figure, panels = plt.subplots(2, len(images) // 2, figsize=(9.5, 2.9))
    for axes, image, name, count in zip(panels.flat, images, classes, survived, strict=True):
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray")
        axes.set_axis_off()
        end = f"to {beta_text(betas[count - 1])}" if count else "never"
        axes.set_title(f"{name}\n{end}", fontsize=8, loc="center")
    return figure


def error_cdfs(errors: Mapping[str, np.ndarray], unit: str = "m") -> Figure:
    """Distribution of the absolute error of each estimator, the best median first.

    Args:
        errors: absolute errors by name; those that `STYLES` lacks are drawn in shades of green.
        unit: of the errors.
    """
    figure, axes = plt.subplots()
    axes.set_xscale("log")
    others = [label for label in errors if label not in STYLES]
    shades = dict(
        zip(others, plt.get_cmap("Greens")(np.linspace(0.9, 0.45, len(others))), strict=True)
    )
    for label in sorted(errors, key=lambda name: float(np.median(errors[name]))):
        values = np.sort(errors[label])
        level = (np.arange(len(values)) + 0.5) / len(values)
        style = {"color": shades.get(label, _style(label)["color"]), "ls": _style(label).get("ls")}
        axes.plot(values, level, label=f"{label}: {np.median(values):.2g} {unit}", **style)
    axes.set_xlim(3e-3, 30)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"absolute error ({unit})")
    axes.set_ylabel("share of the test set")
    axes.legend(title="median error", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def over_snr(
    snr_db: Sequence[float], errors: Mapping[str, Sequence[float]], ylabel: str = "RMSE (m)"
) -> Figure:
    """An error of each estimator over the measurement's SNR, on a logarithmic axis."""
    figure, axes = plt.subplots()
    axes.set_yscale("log")
    for label, values in errors.items():
        _line(axes, label, snr_db, values)
    axes.set_xlabel("measurement SNR (dB)")
    axes.set_ylabel(ylabel)
    axes.margins(x=0.02)
    _label_directly(axes, [(label, values[-1]) for label, values in errors.items()])
    return figure


def over_epochs(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """The metric at one β over the epochs of a run, on training and on test data.

    A point for each number of epochs: mean over its seeds, however many, and 95% interval.
    """
    figure, axes = plt.subplots()
    groups = sorted(curves.values(), key=lambda group: group[0].records[0].epochs)
    metric = groups[0][0].metric
    epochs = np.array([group[0].records[0].epochs for group in groups])
    ends = []
    for split in ("test", "train"):
        found = [over_seeds(group, "metric", split) for group in groups]
        values = Interval(*(np.concatenate(part) for part in zip(*found, strict=True)))
        _draw(axes, split, epochs, values, metric.scale)
        ends.append((split, metric.scale * float(values.mean[-1])))
    axes.set_xscale("log", base=2)
    axes.set_xticks(epochs, [str(count) for count in epochs])
    axes.set_xlabel("epochs")
    axes.set_ylabel(f"{metric.name} ({metric.unit})")
    axes.set_ylim(bottom=0)
    _label_directly(axes, ends)
    return figure


def delay_profiles(scene: Measurements, index: int) -> Figure:
    """Power over delay of one measured response, by the inverse FFT of its tones.

    A two-way product is drawn beside its root, several antennas beside each other; lines
    mark the line of sight, and for a product twice its delay.
    """
    figure, axes = plt.subplots()
    link, delay = scene.link, float(scene.delay_ns[index])
    measured = scene.response[index : index + 1]
    if link.two_way:
        parts = {"product, both ways": measured[0], "its root, one way": one_way(measured)[0]}
        marks = {"τ": delay, "2τ": 2 * delay}
    else:
        parts = {f"antenna {k + 1}": part for k, part in enumerate(measured[0])}
        marks = {"τ": delay}
    length = 32 * link.tones
    delays = np.arange(length) / (length * link.spacing_hz) * 1e9
    kept = delays <= 250
    for (label, part), color in zip(parts.items(), PALETTE, strict=False):
        power = np.abs(np.fft.ifft(part, length)) ** 2
        level = 10 * np.log10(power / power.max())
        axes.plot(delays[kept], level[kept], label=label, color=color)
    for label, at in marks.items():
        axes.axvline(at, color="#555555", lw=1, ls="--")
        axes.annotate(label, (at, 1), (3, 0), textcoords="offset points", color="#555555")
    axes.set_ylim(-35, 4)
    axes.set_xlabel("delay (ns)")
    axes.set_ylabel("power (dB of its peak)")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def regret_of_known(
    x: np.ndarray, regret: Mapping[str, Sequence[np.ndarray]], xlabel: str
) -> Figure:
    """Relative regret against a known minimum: each seed thin, their mean thick."""
    figure, axes = plt.subplots()
    ends = []
    for label, seeds in regret.items():
        mean = 100 * np.mean(seeds, 0)
        for one in seeds:
            axes.plot(x, 100 * one, color=_style(label)["color"], lw=0.7, alpha=0.5)
        _line(axes, label, x, mean)
        ends.append((label, float(mean[0])))
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="regret (% of the minimum)")
    axes.set_ylim(bottom=0.01)
    apart = 10 ** (0.055 * np.ptp(np.log10(axes.get_ylim())))
    below = 0.0
    for label, height in sorted(ends, key=lambda end: end[1]):
        below = max(height, below * apart)
        axes.annotate(
            label,
            (x[0], below),
            (-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=_style(label)["color"],
        )
    axes.set_xlim(x[0] * (x[0] / x[-1]) ** 0.38, x[-1] * 1.3)
    return figure


def open_features(
    betas: np.ndarray,
    counts: Mapping[str, Sequence[np.ndarray]],
    exact: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """How many features carry a rate, over β: mean of the seeds.

    Args:
        exact: β, and how many the best response has open there.
    """
    figure, axes = plt.subplots()
    if exact is not None:
        axes.plot(*exact, color="#0072B2", lw=6, alpha=0.3, label="best response")
    for label, seeds in counts.items():
        _line(axes, label, betas, np.mean(seeds, 0), label=label)
    axes.set(xscale="log", xlabel="trade-off β", ylabel="open features")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def download(rows: Sequence[Mapping[str, Any]], name: str) -> HTML:
    """A link that saves the rows behind a figure as `<name>.csv`, held in the page itself."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = base64.b64encode(text.getvalue().encode()).decode()
    return HTML(
        f'<a class="hvib-data" download="{escape(name)}.csv" '
        f'href="data:text/csv;base64,{data}">Data of this figure (CSV, {len(rows)} rows)</a>'
    )


def table(rows: Iterable[Mapping[str, Any]]) -> Markdown:
    """Rows of ready text as a table; the first row's keys are the columns."""
    rows = list(rows)
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return Markdown("\n".join(lines))


def with_interval(values: Interval, scale: float = 1, digits: int = 2) -> str:
    """`98.91 ± 0.05`: mean and half the 95% interval."""
    text = f"{scale * float(values.mean):z.{digits}f}".replace("-", "−")  # and no -0
    half = scale * float(values.high - values.mean)
    return text if np.isnan(half) else f"{text} ± {half:.{digits}f}"


def percent(share: float, digits: int = 0) -> str:
    """`+15%`: a change."""
    return f"{share:+z.{digits}%}".replace("-", "−")


def best_metric(curves: Sequence[Curve]) -> str:
    """The test metric at the β selected, with its interval, in the metric's unit and digits."""
    metric = curves[0].metric
    return with_interval(at_selected(curves), metric.scale, metric.digits)


def _selected(curves: Sequence[Curve]) -> dict[str, str]:
    """`best_metric` as a cell of its row in a table."""
    metric = curves[0].metric
    return {f"test {metric.name} at the β selected ({metric.unit})": best_metric(curves)}


def regret_cells(found: Comparison) -> dict[str, str]:
    """The regret of a variant against VIB, as cells of its row in a table."""
    return {
        "mean regret, training (%)": with_interval(found.train, 100, 1),
        "mean regret, test (%)": with_interval(found.test, 100, 1),
        "largest, test": f"{percent(found.worst, 1)} at β = {beta_text(found.worst_beta)}",
    }


def regret_table(curves: Mapping[str, list[Curve]], vib: list[Curve]) -> Markdown:
    """The regret of each method against VIB, and its test metric at the β selected."""
    return table(
        {"method": label} | regret_cells(compare(group, vib)) | _selected(group)
        for label, group in curves.items()
    )


def beta_table(curves: Mapping[str, Sequence[Curve]]) -> Markdown:
    """The test metric of each method at every β that all of them answer for."""

    def cell(group: Sequence[Curve], beta: float) -> str:
        metric, k = group[0].metric, group[0].betas.tolist().index(beta)
        return with_interval(over_seeds(group, "metric").at(k), metric.scale, metric.digits)

    unit = next(iter(curves.values()))[0].metric.unit
    betas = functools.reduce(np.intersect1d, [group[0].betas for group in curves.values()])
    return table(
        {"β": beta_text(beta)} | {f"{label} ({unit})": cell(g, beta) for label, g in curves.items()}
        for beta in betas.tolist()
    )


def cost_table(curves: Mapping[str, Sequence[Curve]]) -> Markdown:
    """Time and parameters for the whole curve over β, as the paper's Table I, and the best β.

    The power is E‖z‖²/n on test data; the noise level assumes 1.
    """
    grid = training_seconds(curves["VIB"])
    return table(
        {
            "method": label,
            "training runs": len(group[0].records),
            "epochs a run": group[0].records[0].epochs,
            "time for all β (s)": f"{training_seconds(group):,.0f}",
            "grid time / time": f"{grid / training_seconds(group):.1f}",
            "parameters of one system": f"{group[0].parameters:,}",
            "power at the smallest β": f"{over_seeds(group, 'tx_power').mean[0]:.2f}",
            **_selected(group),
            "seeds": len(group),
        }
        for label, group in curves.items()
    )


def table_one(tasks: Tasks) -> Markdown:
    """Parameters and time of each method on each task, beside the paper's Table I."""
    rows = []
    for task, curves in tasks.items():
        grid = training_seconds(curves["VIB"])
        paper = PAPER_SECONDS[curves["VIB"][0].records[0].config.task]
        printed = {"VIB": paper[0], "Hyper-VIB": paper[1]}
        for label, group in curves.items():
            seconds = training_seconds(group)
            theirs = printed.get(label)
            rows.append(
                {
                    "task": task,
                    "method": label,
                    "parameters": f"{group[0].parameters:,}",
                    "time for all β (s)": f"{seconds:,.0f}",
                    "grid / this": f"{grid / seconds:.1f}",
                    "paper: time (s)": f"{theirs:,}" if theirs else "",
                    "paper: grid / this": f"{paper[0] / theirs:.1f}" if theirs else "",
                }
            )
    return table(rows)


def best_response_table(tasks: Tasks) -> Markdown:
    """Whether each Hyper-VIB of each task is a best response for every β, and at what cost."""
    rows = []
    for task, curves in tasks.items():
        vib = list(curves["VIB"])
        for label in curves:
            if not label.startswith("Hyper"):
                continue
            ours = list(curves[label])
            found, runs = compare(ours, vib), runs_of(ours, vib)
            rows.append(
                {"task": task, "method": label}
                | regret_cells(found)
                | {
                    "time (VIB runs)": f"{runs:.2f}",
                    "best response": f"**{best_response(found, runs)}**",
                    "seeds alone": best_response_alone(ours, vib),
                }
            )
    return table(rows)


def rate_table(tasks: Tasks, bits: Sequence[float] = (8, 16, 64)) -> Markdown:
    """The test metric of each method on each task at equal rates, in bits per inference."""

    def cell(group: Sequence[Curve], rate: float) -> str:
        value, metric = at_rate(group, rate * np.log(2)), group[0].metric
        if np.isnan(value.mean):
            return "beyond its curve"
        return with_interval(value, metric.scale, metric.digits)

    return table(
        {"task": task, "method": label} | {f"{rate:g} bits": cell(group, rate) for rate in bits}
        for task, curves in tasks.items()
        for label, group in curves.items()
    )


def quoted(curves: Mapping[str, Sequence[Curve]]) -> dict[str, str]:
    """What a page's prose quotes of each method, as `<method>-<what>`.

    `best`: the test metric at the β selected, with its interval; `seconds`: training time of
    the whole curve; `runs`: the same in VIB runs; `speedup`: the grid's time over it; `bits` and
    `power`: rate and transmitted power at the smallest β; `end`: the objective at the largest. Of
    each Hyper-VIB also its test regret: `regret`, the mean over β; `worst` and `worst-beta`, the
    largest and where it is; `end-regret`, at the largest β.
    """
    grid = training_seconds(curves["VIB"])
    facts = {"seeds": str(len(curves["VIB"]))}
    for label, group in curves.items():
        name = (
            label.lower().replace("hyper-vib", "hyper").replace(", ", "-").replace("× epochs", "x")
        )
        seconds = training_seconds(group)
        facts |= {
            f"{name}-best": best_metric(group),
            f"{name}-seconds": f"{seconds:,.0f}",
            f"{name}-runs": f"{runs_of(group, curves['VIB']):.1f}",
            f"{name}-speedup": f"{grid / seconds:.1f}",
            f"{name}-bits": f"{over_seeds(group, 'rate_nats').mean[0] / np.log(2):.0f}",
            f"{name}-power": f"{over_seeds(group, 'tx_power').mean[0]:.2f}",
            f"{name}-end": f"{over_seeds(group, 'objective').mean[-1]:.2f}",
            f"{name}-parameters": f"{group[0].parameters:,}",
        }
        if label.startswith("Hyper"):
            vib = list(curves["VIB"])
            found = compare(list(group), vib)
            facts |= {
                f"{name}-regret": above(float(found.test.mean)),
                f"{name}-worst": above(found.worst),
                f"{name}-worst-beta": beta_text(found.worst_beta),
                f"{name}-end-regret": above(float(regret(group, vib, "test").mean[-1])),
            }
    machine = curves["VIB"][0].records[0].environment
    facts["machine"] = (
        f"{machine['name']}, {machine['threads']} "
        f"thread{'s' * (machine['threads'] > 1)}, {machine['products']} products"
    )
    return facts


def rerun_note(
    parameters: Parameters, dataset: str, seeds: tuple[int, ...] = ()
) -> Markdown | None:
    """What tells a rerun from the page as it is committed; nothing for that.

    Args:
        parameters: of this execution.
        dataset, seeds: the page's own; the others are the same on all pages.
    """
    own = {"dataset": dataset, "profile": "full", "seeds": seeds, "snr_db": 20.0}
    own |= {"beta_min": 1e-6, "beta_max": 1.0}
    changed = {name: getattr(parameters, name) for name, value in own.items()}
    changed = {name: value for name, value in changed.items() if value != own[name]}
    if not changed:
        return None
    told = ", ".join(f"`{name} = {value}`" for name, value in changed.items())
    return Markdown(
        f"**A rerun with {told}.** Its figures, tables and numbers are of these settings; the "
        "sentences around them were written for the recorded ones, and name their β, epochs and "
        "seeds. A number within a sentence stands here as {glue:text} and its name; the last cell "
        "lists them all."
    )


def quote(page: str, facts: Mapping[str, Any]) -> Markdown:
    """Make facts quotable in a page's sentences as `page-name`, and list them."""
    for name, value in facts.items():
        glue(f"{page}-{name}", value, display=False)
    return table({"name": f"{page}-{name}", "number": value} for name, value in facts.items())


def verdict_table(verdicts: Iterable[Verdict]) -> Markdown:
    """Claims, tests, measurements and outcomes."""
    return table(
        {
            "claim": v.claim,
            "holds if": v.test,
            "measured": v.measured,
            "verdict": f"**{v.outcome}**",
            "seeds alone": v.agreement,
        }
        for v in verdicts
    )
