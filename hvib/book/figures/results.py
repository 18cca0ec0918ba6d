"""Tables of the results page and the front page: all claims, all searches, each on every task."""

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.display import Markdown

from hvib.book.claims import Ended
from hvib.book.curves import Key, label_of, task_label
from hvib.book.figures.page import table
from hvib.book.figures.tasks import Tasks
from hvib.book.search import SEARCHES, Courses, at_end, runs_to_grid, than_grid
from hvib.book.statistics import compare
from hvib.book.text import percent, with_interval
from hvib.book.verdicts import tally
from hvib.tasks import TASKS


def ten_claims_table(once: Sequence[Ended], twice: Sequence[Ended]) -> Markdown:
    """All claims of the paper, with Hyper-VIB at a VIB run's epochs and at twice as many.

    Args:
        once, twice: as `hvib.book.claims.in_order` gives them.
    """
    return table(
        {
            "no.": one.number,
            "claim of the paper": one.claim,
            "at equal epochs": f"**{one.outcome}**",
            "at twice VIB's epochs": f"**{other.outcome}**",
        }
        for one, other in zip(once, twice, strict=True)
    )


def mean_excess_table(tasks: Tasks, keys: Sequence[Key]) -> Markdown:
    """The mean over β of each method's test excess over VIB, with its interval, task by task."""
    return table(
        {"method": label_of(key)}
        | {
            f"{task_label(task)} (%)": with_interval(
                compare(curves[key], curves["vib", 1]).test, 100, 0
            )
            for task, curves in tasks.items()
        }
        for key in keys
    )


def tally_table(tasks: Tasks, keys: Sequence[Key]) -> Markdown:
    """On how many tasks each method passes the test of a best response, and parts of it."""
    found = {key: tally(tasks, key) for key in keys}
    return table(
        {
            "method": label_of(key),
            "tasks with mean excess at most 0": len(one.below),
            "and its interval below 0": len(one.surely),
            "largest excess on any task": percent(one.worst),
            "tasks that pass the whole test": len(one.passed),
            "fail by the time alone": ", ".join(map(task_label, one.but_for_price)) or "none",
        }
        for key, one in found.items()
    )


def _why_not(key: str) -> str:
    """Why a task has no course of a search."""
    return "no stack" if SEARCHES[key].one_stack else "not run"


def searches_table(tasks: Mapping[str, Courses]) -> Markdown:
    """Each search's test metric on each task, and after how much training it rivals the grid.

    A cell has the median test metric of the seeds; in brackets, in VIB runs, the training until
    the validation metric rivals the whole grid's, of the training that the search does.
    """
    metrics = {task: TASKS.find(task).metric for task in tasks}
    near = {task: runs_to_grid(courses, metrics[task]) for task, courses in tasks.items()}

    def cell(task: str, key: str) -> str:
        if key not in tasks[task]:
            return _why_not(key)
        metric, courses = metrics[task], tasks[task]
        test, runs = (at_end(courses, name)[key] for name in ("test", "runs"))
        until = f"{near[task][key]:.1f}" if np.isfinite(near[task][key]) else "never"
        return f"{metric.factor * test:.{metric.digits}f} ({until} of {runs:.1f})"

    head = {t: f"{task_label(t)}, test {m.name} ({m.unit})" for t, m in metrics.items()}
    return table(
        {"search": search.label} | {head[task]: cell(task, key) for task in tasks}
        for key, search in SEARCHES.items()
    )


def than_grid_table(tasks: Mapping[str, Courses], keys: Sequence[str]) -> Markdown:
    """How the test metric of some searches ends against the whole grid's, on each task."""

    def cell(task: str, key: str) -> str:
        courses = tasks[task]
        return than_grid(courses, key, TASKS.find(task).metric) if key in courses else _why_not(key)

    return table(
        {"search": SEARCHES[key].label} | {task_label(task): cell(task, key) for task in tasks}
        for key in keys
    )
