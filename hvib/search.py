"""Ways to find β: each trains what it chooses to, and answers with the best on validation.

`SEARCHES` holds them by name, all with one signature: from a run whose `betas` are the grid to the
records of what was trained, in order. `course` is what a search has found at what cost.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hvib import ledger
from hvib.claims import collect, yardstick
from hvib.config import METRICS, Metric, Run, require_known
from hvib.ledger import Record
from hvib.models import build

Obtain = Callable[[Run], Record]
Search = Callable[[Run, Obtain], Iterator[Record]]


def _vib(run: Run, beta: float, epochs: int = 0) -> Run:
    return replace(run, method="vib", betas=(beta,), epochs=epochs or run.epochs)


def _score(record: Record) -> float:
    """The best validation metric; larger is better for errors too."""
    sign = 1 if METRICS[record.config.task].higher_is_better else -1
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


def _once(method: str, epochs: int = 1) -> Search:
    """One run that answers the whole grid, of so many times a VIB run's epochs."""

    def search(run: Run, obtain: Obtain) -> Iterator[Record]:
        yield obtain(replace(run, method=method, epochs=epochs * run.epochs))

    return search


STACKED = ("batched grid", "warm-started grid")
"""The searches whose systems, one for each β of the grid, end in one stack."""

SEARCHES: dict[str, Search] = {
    "grid": grid,
    "random": random,
    "Bayesian": bayesian,
    "successive halving": halving,
    "batched grid": _once("vib-batched"),
    "warm-started grid": _once("vib-warm"),
    "Hyper-VIB": _once("hyper-vib"),
    "Hyper-VIB, 2× epochs": _once("hyper-vib", 2),
    "Hyper-VIB, free": _once("hyper-vib-free"),
    "Hyper-VIB, ordered": _once("hyper-vib-ordered"),
}
"""The searches by name; yours joins with its own entry."""


def possible(run: Run) -> list[str]:
    """The searches that a run's network allows.

    Those of a grid in one stack need a network without buffers, which batch norms have.
    """
    stackable = next(build(run).buffers(), None) is None
    return [name for name in SEARCHES if stackable or name not in STACKED]


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


def course(name: str, run: Run, obtain: Obtain = ledger.obtain) -> list[Found]:
    """What a search has found after each of its training runs.

    Args:
        name: one of `SEARCHES`.
        run: task, profile and seed; its `betas` are the grid, its `epochs` a VIB run's.
        obtain: trains a run or reads its record.

    Raises:
        ValueError: the name is unknown.
        ValueError, MissingData, Diverged: as `hvib.ledger.obtain`.
    """
    require_known("search", name, SEARCHES)
    found: list[Found] = []
    runs = seconds = 0.0
    best: tuple[float, Found] | None = None
    for record in SEARCHES[name](run, obtain):
        systems = len(record.config.betas) if record.config.method == "vib-batched" else 1
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


RECORDED = {"mnist": 5, "cifar10": 3, "bluetooth": 10, "wifi": 10}
"""The tasks whose searches are on record, three seeds each, and a VIB run's epochs in them."""

Courses = Mapping[str, Sequence[Sequence[Found]]]
"""The courses of each search by its name, one for each seed."""


def runs_until(found: Sequence[Found], reference: float, metric: Metric) -> float:
    """VIB runs' worth of training until the validation metric rivals a reference; ∞ if never.

    To rival is what it is in `hvib.claims.judge`: 0.2 points of accuracy or 5% of an error.
    """
    by = yardstick(metric)
    rivals = (
        f.runs for f in found if by.worse(np.array(f.validation), np.array(reference)) <= by.rival
    )
    return next(rivals, math.inf)


def runs_to_grid(courses: Courses, metric: Metric) -> dict[str, float]:
    """VIB runs' worth of training until each search rivals the whole grid; ∞ if never.

    Median over seeds, each against the grid of the same seed.

    Args:
        courses: the grid's among them, all with the same seeds in the same order.
    """
    best = [found[-1].validation for found in courses["grid"]]
    return {
        name: float(np.median([runs_until(f, b, metric) for f, b in zip(seeds, best, strict=True)]))
        for name, seeds in courses.items()
    }
