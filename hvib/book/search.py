"""Ways to find β: each trains what it chooses to, and answers with the best on validation."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hvib import ledger
from hvib.book.curves import ANSWER, FLEXIBLE, Key, collect, label_of, paper_tasks
from hvib.book.plan import SEEDS
from hvib.book.yardstick import yardstick
from hvib.check import require_known
from hvib.ledger import Record
from hvib.methods import METHODS, Style
from hvib.run import Run
from hvib.tasks import TASKS, Metric, build, make_run

Obtain = Callable[[Run], Record]

Propose = Callable[[Run, Obtain], Iterator[Record]]
"""from a run whose `betas` are the grid, to the records of what was trained, in order"""


@dataclass(frozen=True)
class Search:
    """A way to find β."""

    label: str
    propose: Propose
    style: Style
    one_stack: bool = False
    """its systems, one for each β of the grid, end in one stack, which batch norms do not allow"""
    if_on_record: bool = False
    """where a task has no record of it, the tables of several tasks leave it out"""


def _vib(run: Run, beta: float, epochs: int = 0) -> Run:
    return replace(run, method="vib", betas=(beta,), epochs=epochs or run.epochs)


def _score(record: Record) -> float:
    """The best validation metric; larger is better for errors too."""
    sign = 1 if TASKS.find(record.config.task).metric.higher_is_better else -1
    return max(sign * row["metric"] for row in record.rows("validation"))


def grid(run: Run, obtain: Obtain) -> Iterator[Record]:
    """VIB at each β of the grid, in random order: what it has found midway depends on the order."""
    for beta in np.random.default_rng(run.seed).permutation(run.betas).tolist():
        yield obtain(_vib(run, beta))


def random(run: Run, obtain: Obtain) -> Iterator[Record]:
    """VIB at as many β as the grid has, drawn uniformly in log β over its range.

    To three digits, as in `bayesian`: rounding elsewhere then asks for the same runs.
    """
    low, high = math.log(run.betas[0]), math.log(run.betas[-1])
    for draw in np.random.default_rng(run.seed).uniform(low, high, len(run.betas)):
        yield obtain(_vib(run, float(f"{math.exp(draw):.3g}")))


def bayesian(run: Run, obtain: Obtain) -> Iterator[Record]:
    """VIB at as many β as the grid has, each where a Gaussian process over log β expects most.

    The first four are random; the process is Optuna's.
    """
    with warnings.catch_warnings():  # of a progress bar that is not drawn
        warnings.simplefilter("ignore")
        import optuna  # here, not above: nothing else needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.GPSampler(seed=run.seed, n_startup_trials=4)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in run.betas:
        trial = study.ask()
        beta = trial.suggest_float("beta", run.betas[0], run.betas[-1], log=True)
        record = obtain(_vib(run, float(f"{beta:.3g}")))
        study.tell(trial, _score(record))
        yield record


def halving(run: Run, obtain: Obtain, factor: int = 3) -> Iterator[Record]:
    """Successive halving: the whole grid for few epochs, the best third for three times as many.

    Each round trains anew, since the learning rate's cycle ends with its run.
    """
    betas, rounds = list(run.betas), math.floor(math.log(len(run.betas), factor) + 1e-9)
    for k in reversed(range(rounds + 1)):
        epochs = max(round(run.epochs / factor**k), 1)
        records = [obtain(_vib(run, beta, epochs=epochs)) for beta in betas]
        yield from records
        best = sorted(records, key=_score, reverse=True)[: max(len(betas) // factor, 1)]
        betas = [record.config.betas[0] for record in best]


def _one_run(method: str) -> Propose:
    """One run of a method that answers the whole grid."""
    return _of_curve(Key(method)).propose


def _of_curve(key: Key) -> Search:
    """The search that is one run of a method, at a multiple of a VIB run's epochs."""
    method, multiple = METHODS.find(key.method), int(key.multiple)

    def propose(run: Run, obtain: Obtain) -> Iterator[Record]:
        yield obtain(replace(run, method=key.method, epochs=multiple * run.epochs))

    style = method.style if multiple == 1 else method.longer_style
    return Search(label_of(key), propose, style)


SEARCHES: dict[str, Search] = {
    "grid": Search("grid", grid, Style("#0072B2", "o")),
    "random": Search("random", random, Style("#999999", "v")),
    "bayesian": Search("Bayesian", bayesian, Style("#000000", "s")),
    "halving": Search("successive halving", halving, Style("#CC79A7", "^")),
    "batched": Search("batched grid", _one_run("vib-batched"), Style("#A6761D", "^"), True),
    "warm": Search("warm-started grid", _one_run("vib-warm"), Style("#E69F00", "v"), True),
    "hyper": _of_curve(Key("hyper-vib")),
    "hyper-2x": _of_curve(Key("hyper-vib", 2)),
    "hyper-free": _of_curve(Key("hyper-vib-free")),
    "hyper-ordered": _of_curve(Key("hyper-vib-ordered")),
    # Not among the paper's methods, and dear on CIFAR-10.
    "flexible": replace(_of_curve(FLEXIBLE), if_on_record=True),
    "answer": replace(_of_curve(ANSWER), if_on_record=True),
}
"""The searches by key."""


def possible(run: Run) -> list[str]:
    """The searches that a run's network allows.

    Those of a grid in one stack need a network without buffers, which batch norms have.
    """
    stackable = next(build(run).buffers(), None) is None
    return [key for key, search in SEARCHES.items() if stackable or not search.one_stack]


class Found(NamedTuple):
    """What a search has after one more training run."""

    runs: float
    """epochs of one system so far, in those of a VIB run"""
    seconds: float
    """training time so far"""
    beta: float
    """the β with the best validation metric so far"""
    validation: float
    """that metric"""
    test: float
    """the test metric there"""


def course(key: str, run: Run, obtain: Obtain = ledger.obtain) -> list[Found]:
    """What a search has found after each of its training runs.

    Args:
        key: of one of `SEARCHES`.
        run: task, profile and seed; its `betas` are the grid, its `epochs` a VIB run's.
        obtain: trains a run or reads its record.

    Raises:
        ValueError: the name is unknown.
        ValueError, MissingData, Diverged: as `ledger.obtain`.
    """
    require_known("search", key, SEARCHES)
    found: list[Found] = []
    runs = seconds = 0.0
    best: tuple[float, Found] | None = None
    for record in SEARCHES[key].propose(run, obtain):
        systems = METHODS.find(record.config.method).systems(record.config)
        runs += systems * record.epochs / run.epochs
        seconds += record.seconds
        ((curve,),) = collect([record]).values()
        k = curve.selected
        validation, test = (float(curve.column("metric", s)[k]) for s in ("validation", "test"))
        here = Found(runs, seconds, float(curve.betas[k]), validation, test)
        if best is None or _score(record) > best[0]:
            best = _score(record), here
        found.append(best[1]._replace(runs=runs, seconds=seconds))
    return found


def searched_tasks() -> dict[str, int]:
    """The tasks of the paper whose searches are on record, three seeds each, and a VIB run's
    epochs in them.
    """
    of_paper = {task: TASKS.find(task).search_epochs for task in paper_tasks()}
    return {task: epochs for task, epochs in of_paper.items() if epochs}


class _Missing(LookupError):
    """A run of a search is not on record."""


def is_on_record(key: str, run: Run) -> bool:
    """Whether every run of a search is on record.

    Args:
        key, run: as `course` takes them.
    """

    def find(run: Run) -> Record:
        record = ledger.find(run)
        if record is None:
            raise _Missing(run.slug)
        return record

    try:
        course(key, run, find)
    except _Missing:
        return False
    return True


Courses = Mapping[str, Sequence[Sequence[Found]]]
"""The courses of each search by its key, one for each seed."""


def courses_of(task: str, epochs: int) -> dict[str, list[list[Found]]]:
    """The courses of every search that a task's network allows, for three seeds.

    Without those that want to be on record and are not.

    Args:
        epochs: of a VIB run, as `searched_tasks` gives them.
    """
    runs = [make_run(task, "vib", seed=seed, epochs=epochs) for seed in SEEDS["full"][:3]]
    keys = [
        key
        for key in possible(runs[0])
        if not SEARCHES[key].if_on_record or all(is_on_record(key, run) for run in runs)
    ]
    return {key: [course(key, run) for run in runs] for key in keys}


def than_grid(courses: Courses, key: str, metric: Metric) -> str:
    """How a search's test metric ends against the whole grid's: `60% worse`, medians of seeds."""
    test, by = at_end(courses, "test"), yardstick(metric)
    behind = float(by.worse(np.array(test[key]), np.array(test["grid"])))
    return f"{by.text(abs(behind))} {'worse' if behind > 0 else 'better'}"


def runs_until(found: Sequence[Found], reference: float, metric: Metric) -> float:
    """VIB runs' worth of training until the validation metric rivals a reference; ∞ if never.

    To rival is what it is in `hvib.book.verdicts.judge`: 0.2 points of accuracy or 5% of an error.
    """
    by = yardstick(metric)
    rivals = (
        f.runs for f in found if by.worse(np.array(f.validation), np.array(reference)) <= by.rival
    )
    return next(rivals, math.inf)


def seeds_to_grid(courses: Courses, metric: Metric) -> dict[str, list[float]]:
    """VIB runs' worth of training until each seed rivals the whole grid; ∞ if never.

    Each seed is compared with the grid of the same seed.

    Args:
        courses: the grid's among them, all with the same seeds in the same order.
    """
    best = [found[-1].validation for found in courses["grid"]]
    return {
        key: [runs_until(found, b, metric) for found, b in zip(seeds, best, strict=True)]
        for key, seeds in courses.items()
    }


def runs_to_grid(courses: Courses, metric: Metric) -> dict[str, float]:
    """The median over seeds of what `seeds_to_grid` gives for each search."""
    return {key: float(np.median(runs)) for key, runs in seeds_to_grid(courses, metric).items()}


def at_end(courses: Courses, name: str) -> dict[str, float]:
    """A field of `Found` after the last training run of each search, median over seeds."""
    return {
        key: float(np.median([getattr(found[-1], name) for found in seeds]))
        for key, seeds in courses.items()
    }
