"""Figures of searches for β: what each has found at what cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.figures.page import table
from hvib.book.figures.style import metric_axis
from hvib.book.figures.tasks import task_axes
from hvib.book.search import SEARCHES, Courses, Found, at_end, seeds_to_grid
from hvib.tasks import TASKS, Metric


def _search_panel(axes: Axes, courses: Courses, metric: Metric, cost: str) -> None:
    """The test metric at the best β so far over a cost: median of the seeds and their range."""

    def reached(course: Sequence[Found], spent: float) -> float:
        return [f.test for f in course if getattr(f, cost) <= spent or f is course[0]][-1]

    for key, seeds in courses.items():
        color, label = SEARCHES[key].style.color, SEARCHES[key].label
        starts = [getattr(course[0], cost) for course in seeds]
        at = np.unique([getattr(f, cost) for course in seeds for f in course])
        at = at[at >= max(starts)] if max(map(len, seeds)) > 1 else np.array([np.median(starts)])
        found = metric.factor * np.array([[reached(course, x) for x in at] for course in seeds])
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
        courses: as `hvib.book.search.course` gives them.
        metric: of the task.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True)
    for axes, cost in zip(panels, ("runs", "seconds"), strict=True):
        _search_panel(axes, courses, metric, cost)
    metric_axis(panels[0], metric)
    panels[0].set_ylabel(f"test {metric.name} at the best β so far ({metric.unit})")
    panels[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def searches_of_tasks(tasks: Mapping[str, Courses]) -> Figure:
    """The test metric at the best β so far over VIB runs, as `search_courses`, a panel a task."""
    figure, panels = task_axes(tasks, 6.8)
    for axes, (task, courses) in zip(panels, tasks.items(), strict=True):
        metric = TASKS.find(task).metric
        _search_panel(axes, courses, metric, "runs")
        metric_axis(axes, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def search_table(courses: Courses, metric: Metric) -> Markdown:
    """What each search costs and finds, median over seeds, and when each seed rivals the grid.

    Args:
        courses: as of `search_courses`; the grid's among them.
        metric: of the task.
    """
    runs, seconds, test = (at_end(courses, name) for name in ("runs", "seconds", "test"))
    until = seeds_to_grid(courses, metric)

    def told(count: float) -> str:
        return f"{count:.1f}" if np.isfinite(count) else "never"

    return table(
        {
            "search": SEARCHES[key].label,
            "epochs (VIB runs)": f"{runs[key]:.1f}",
            "time (s)": f"{seconds[key]:.0f}",
            f"test {metric.name} ({metric.unit})": f"{metric.factor * test[key]:.{metric.digits}f}",
            "to the grid's best, each seed": " / ".join(map(told, until[key])),
        }
        for key in courses
    )


def search_rows(courses: Courses, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Every point of the courses, by search and seed: the data behind their figure.

    Args:
        seeds: of the courses of each search, in their order.
    """
    return [
        {"search": SEARCHES[key].label, "seed": seed} | found._asdict()
        for key, per_seed in courses.items()
        for seed, course in zip(seeds, per_seed, strict=True)
        for found in course
    ]
