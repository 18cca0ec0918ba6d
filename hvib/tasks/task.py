"""A task as one value: what is inferred from which data, by which networks, at which settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hvib.check import require
from hvib.data import Data
from hvib.distortions import BY_KIND
from hvib.run import Run
from hvib.system import System

Builder = Callable[[Run], System]
"""makes the plain system of a run"""


@dataclass(frozen=True)
class Metric:
    """What a task is judged by."""

    name: str
    unit: str
    factor: float
    """from a record's number to one in `unit`"""
    digits: int
    """after the point, where it is told"""
    higher_is_better: bool
    of_distortion: bool = False
    """whether it is that of the distortion of the task's systems, which then says what targets go
    with it; otherwise it measures classes or real targets as the default distortion does"""

    @property
    def relative(self) -> bool:
        """Whether two values compare by their ratio, as errors do, and not by their difference."""
        return not self.higher_is_better

    @property
    def of_classes(self) -> bool:
        """Whether targets are classes, whose accuracy a record has; else reals and their error."""
        return self.higher_is_better


ACCURACY = Metric("accuracy", "%", 100, 2, higher_is_better=True)
"""The share of examples whose class is inferred; a record has it in [0, 1]."""

SQUARED_ERROR = Metric("MSE", "ns²", 1, 3, higher_is_better=False)
"""The mean squared error of a propagation time."""


ONE_RUN = ("flexible-vib", "flexible-vib-refit", "hyper-vib-answer")
"""Methods that train a plain answer once, and code it for each β."""


@dataclass(frozen=True)
class Planned:
    """The runs of a task's page, from which its studies derive theirs."""

    runs: Sequence[Run]

    @property
    def vib(self) -> list[Run]:
        """VIB at each β, seed by seed."""
        return [run for run in self.runs if run.method == "vib"]

    @property
    def grid(self) -> list[tuple[float, ...]]:
        """The β of the VIB runs, ascending."""
        return sorted({run.betas for run in self.vib})

    def vib_at(self, betas: Sequence[tuple[float, ...]]) -> list[Run]:
        """The VIB runs of these β of the grid."""
        return [run for run in self.vib if run.betas in betas]

    @property
    def plateau(self) -> list[Run]:
        """VIB at the β a third of the way up the grid, where the metric hardly depends on it."""
        return self.vib_at([self.grid[len(self.grid) // 3]])

    def once(self, method: str) -> list[Run]:
        """The runs of a method that have as many epochs as a VIB run."""
        epochs = self.vib[0].epochs
        return [run for run in self.runs if (run.method, run.epochs) == (method, epochs)]

    @property
    def one_run(self) -> list[Run]:
        """The methods of one training run that have no gates in what infers, seed by seed."""
        paper = self.once("hyper-vib")
        return [replace(run, method=method) for method in ONE_RUN for run in paper]

    def three_seeds(self, runs: Sequence[Run]) -> list[Run]:
        """Those of the first three seeds, for a study that is too dear for all."""
        first = list(dict.fromkeys(run.seed for run in self.vib))[:3]
        return [run for run in runs if run.seed in first]


Studies = Callable[[Planned], dict[str, list[Run]]]


def no_studies(planned: Planned) -> dict[str, list[Run]]:
    """The studies of a task that has none."""
    return {}


class PaperRow(NamedTuple):
    """A task's row of the paper's Table I."""

    row: int
    grid_seconds: int
    """training time of VIB for all β"""
    hyper_seconds: int
    """of Hyper-VIB"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that the package knows of a task. A reader's joins with `tasks.register`.

    Runs find it by `name`, the figures call it `label`. The loader is asked once in a process.
    """

    name: str
    label: str
    metric: Metric
    load: Callable[[], Data]
    networks: Mapping[str, Builder]
    """architectures by name; under the empty name the one of a run that names none"""
    profiles: Mapping[str, Mapping[str, Any]]
    """fields of `Run` for each profile: `smoke` proves that it runs, `quick` shows the shape of
    the result in minutes, `full` is the recorded experiment"""
    classes: tuple[str, ...] = ()
    """names of the classes, where targets are classes"""
    methods: tuple[str, ...] = ("hyper-vib", "hyper-vib-ordered")
    """the methods of one training run that its page compares with VIB"""
    batched_grid: bool = False
    """whether its page trains the grid also as one stack; batch norms do not allow it"""
    studies: Studies = no_studies
    """runs of its page beside the main comparison, by what they study"""
    in_paper: PaperRow | None = None
    """where it is one of the paper's"""
    search_epochs: int | None = None
    """a VIB run's epochs in its searches on record; None where there are none"""

    def checked(self, data: Data) -> Data:
        """These data, once their targets are known to be what the metric measures.

        Raises:
            ValueError: they are not, so that a record would call one measure by another's name.
        """
        if self.metric.of_distortion:
            return data
        mend = (
            "give classes as integers, of one-hot rows y.argmax(1)"
            if self.metric.of_classes
            else "give real targets, as floats, or the metric ACCURACY"
        )
        measured = "right classes" if self.metric.of_classes else "errors of real targets"
        mend = f"task {self.name}'s metric {self.metric.name!r} measures {measured}: {mend}"
        for name, split in data.named.items():
            right = split.y.is_floating_point() != self.metric.of_classes
            require(right, f"{name}.y.dtype", split.y.dtype, mend)
        return data

    def agreed(self, system: System) -> System:
        """The system, once its distortion is known to have the metric that the task is judged by.

        Raises:
            ValueError: it has another, so that a record would call one measure by another's name.
        """
        own = system.distortion
        if self.metric.of_distortion:
            mend = f"the systems have the default distortion: task {self.name}'s metric is theirs"
            require(own != BY_KIND, "of_distortion", True, f"{mend}; leave it out")
        else:
            right = own == BY_KIND or (own.classes and self.metric.of_classes)
            mend = f"its metric is not {self.metric.name!r}: give Metric(…, of_distortion=True)"
            require(right, f"distortion of task {self.name}", own, mend)
        return system
