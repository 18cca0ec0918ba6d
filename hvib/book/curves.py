"""Records as curves over β, each found by its method and its multiple of a VIB run's epochs."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.book.plan import plan, studies
from hvib.check import require
from hvib.ledger import Record, sweep
from hvib.methods import METHODS, Method
from hvib.tasks import TASKS, Metric
from hvib.tasks.task import ONE_RUN


class Key(NamedTuple):
    """What finds a curve among those of a task: `curves["hyper-vib", 2]`."""

    method: str
    multiple: float = 1
    """its epochs, as a multiple of a VIB run's"""


VIB, PAPER, ORDERED = Key("vib"), Key("hyper-vib"), Key("hyper-vib-ordered")
"""The curves that most pages compare, all at the epochs of a VIB run."""

FLEXIBLE, REFIT, ANSWER = map(Key, ONE_RUN)
"""Those of the methods that train a plain answer once."""


@dataclass(frozen=True)
class Curve:
    """One answer for every β: the records of one VIB grid, or the one of a Hyper-VIB run."""

    key: Key
    seed: int
    records: tuple[Record, ...]

    def column(self, name: str, split: str) -> Float[np.ndarray, " beta"]:
        """A column of the records' curves on one split, in ascending β."""
        rows = itertools.chain.from_iterable(record.rows(split) for record in self.records)
        return np.array([row[name] for row in sorted(rows, key=lambda row: row["beta"])])

    @property
    def method(self) -> Method:
        """What trained it."""
        return METHODS.find(self.key.method)

    @property
    def for_all_betas(self) -> bool:
        """Whether it is of one system that answers every β, as no VIB is."""
        return not self.method.fixed

    @property
    def betas(self) -> Float[np.ndarray, " beta"]:
        """The β it answers for, ascending."""
        return self.column("beta", "test")

    @property
    def epochs(self) -> int:
        """Epochs of one of its runs."""
        return self.records[0].epochs

    @property
    def seconds(self) -> float:
        """Training time of the whole curve."""
        return sum(record.seconds for record in self.records)

    @property
    def parameters(self) -> int:
        """Parameters of one trained system."""
        systems = len(self.betas) if self.method.one_system_each else 1
        return max(record.parameters for record in self.records) // systems

    @property
    def metric(self) -> Metric:
        """What `metric` is in the records."""
        return TASKS.find(self.records[0].config.task).metric

    @property
    def selected(self) -> int:
        """Index of the β with the best validation metric; the largest such β on a tie."""
        metric = self.column("metric", "validation") * (1 if self.metric.higher_is_better else -1)
        return int(np.flatnonzero(metric == metric.max())[-1])


Curves = Mapping[Key, Sequence[Curve]]
"""The curves of one task by method and epochs, each with one curve a seed."""

Groups = Mapping[Any, Sequence[Curve]]
"""Groups of curves that a figure or a table sets side by side, each by its `Name`."""

Name = Key | str
"""What a figure or a table calls a group of curves: by its key, or as its page says."""


def label_of(name: Name) -> str:
    """A group of curves as the book calls it: `Hyper-VIB, ordered, 2× epochs`."""
    if isinstance(name, str):
        return name
    method, multiple = name
    known = METHODS.all()
    label = known[method].label if method in known else method
    return label + f", {multiple:g}× epochs" * (multiple != 1)


def collect(records: Iterable[Record]) -> dict[Key, list[Curve]]:
    """Records as curves, in ascending seed.

    Raises:
        ValueError: the seeds of one method differ in β.
    """
    groups: dict[tuple[Key, int], list[Record]] = {}
    for record in records:
        run = record.config
        once = TASKS.find(run.task).profiles[run.profile]["epochs"]
        groups.setdefault((Key(run.method, run.epochs / once), run.seed), []).append(record)
    curves: dict[Key, list[Curve]] = {}
    for (key, seed), group in groups.items():
        ordered = tuple(sorted(group, key=lambda record: record.config.betas))
        curves.setdefault(key, []).append(Curve(key, seed, ordered))
    for key, found in curves.items():
        grids = {tuple(curve.betas) for curve in found}
        mend = "its seeds differ in β; pass one grid's records"
        require(len(grids) == 1, "records", label_of(key), mend)
    return {key: sorted(found, key=lambda curve: curve.seed) for key, found in curves.items()}


def paper_tasks() -> list[str]:
    """The tasks of the paper, in the order of its Table I."""
    rows = {task.in_paper.row: task.name for task in TASKS.all().values() if task.in_paper}
    return [name for _, name in sorted(rows.items())]


def task_label(task: str) -> str:
    """A task as the book calls it; a name that is no task's as it is."""
    known = TASKS.all()
    return known[task].label if task in known else task


def curves_of(task: str) -> dict[Key, list[Curve]]:
    """The curves of a task's page, from its records; what is not on record is trained now."""
    beside = studies(task)
    return collect(sweep([*plan(task), *beside.get("a sixth", []), *beside.get("one run", [])]))


def study_curves(task: str, name: str) -> dict[Key, list[Curve]]:
    """The curves of a study beside a task's page, from its records.

    Args:
        name: of one of the task's `hvib.book.plan.studies`.
    """
    return collect(sweep(studies(task)[name]))


def select(tasks: Mapping[str, Curves], *keys: Key) -> dict[str, Curves]:
    """The curves of these keys on each task, in the keys' order; a task need not have them all."""
    return {
        task: {key: curves[key] for key in keys if key in curves} for task, curves in tasks.items()
    }


def curve_rows(curves: Mapping[Any, Sequence[Curve]]) -> list[dict[str, Any]]:
    """Every number of the curves with the record that it is from: the data behind a figure."""
    return [
        {
            "label": label_of(curve.key),
            "seed": curve.seed,
            **{name: value for name, value in row.items() if name != "by_class"},
            "rate_bits": row["rate_nats"] / np.log(2),
            "record": f"{record.config.task}/{record.config.method}/{record.config.slug}",
        }
        for group in curves.values()
        for curve in group
        for record in curve.records
        for row in record.curve
    ]


def task_rows(tasks: Mapping[str, Curves]) -> list[dict[str, Any]]:
    """`curve_rows` of several tasks, each row with its task's label."""
    return [
        {"task": task_label(task)} | row
        for task, curves in tasks.items()
        for row in curve_rows(curves)
    ]
