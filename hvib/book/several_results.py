"""What the records of two devices say over the plane (β_1, β_2), against VIB at some pairs."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.book.curves import task_label
from hvib.book.several import (
    ALONE,
    BETAS,
    JOINT,
    LOSSY,
    ONE,
    ORDERED,
    PAIRS,
    TOLD,
    joint,
    pair,
    study,
)
from hvib.book.several_losses import TEST, Losses, losses_of
from hvib.book.statistics import Interval, interval
from hvib.book.text import beta_text, with_interval
from hvib.book.verdict import Verdict, outcome
from hvib.check import require
from hvib.ledger import Record, on_record, sweep
from hvib.ranging.anchors import HALL
from hvib.run import Run
from hvib.tasks import TASKS, Metric

Pair = tuple[float, float]
"""(β_1, β_2)"""

LOSES = "hyper-vib-joint-lossy"
"""What the networks of `JOINT` that are trained with losses are called here."""

KINDS = (JOINT, TOLD, ORDERED, ONE, LOSES)
"""The gated networks of a study."""


@dataclass(frozen=True)
class Surface:
    """A network's answer for every (β_1, β_2), or for every β that both devices share."""

    kind: str
    records: Mapping[int, Record]
    """by seed, ascending"""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those on record."""
        return tuple(self.records)

    @property
    def betas(self) -> Float[np.ndarray, " beta"]:
        """The β of each device, ascending."""
        return np.array(next(iter(self.records.values())).config.betas)

    @property
    def shared(self) -> bool:
        """Whether both devices have the same β."""
        return self.kind == ONE

    @property
    def pairs(self) -> list[Pair]:
        """The (β_1, β_2) that it answers for, β_1 slowest."""
        betas = self.betas.tolist()
        return [(b, b) for b in betas] if self.shared else list(itertools.product(betas, betas))

    def column(self, name: str, split: str = "test") -> Float[np.ndarray, "seed pair *J"]:
        """A column of the records, in the order of `pairs`."""
        return np.array([[row[name] for row in r.rows(split)] for r in self.records.values()])

    def plane(self, name: str, split: str = "test") -> Float[np.ndarray, "seed beta beta *J"]:
        """The same over the plane (β_1, β_2)."""
        require(not self.shared, "kind", self.kind, "take one with a β for each device")
        found, K = self.column(name, split), len(self.betas)
        return found.reshape(len(found), K, K, *found.shape[2:])

    def at(self, where: Pair, name: str, split: str = "test") -> dict[int, Any]:
        """A column at one (β_1, β_2), by seed."""
        k = next(k for k, one in enumerate(self.pairs) if np.allclose(one, where, rtol=1e-6))
        return dict(zip(self.seeds, self.column(name, split)[:, k], strict=True))


@dataclass(frozen=True)
class Several:
    """All that is on record of a task of two devices."""

    task: str
    surfaces: Mapping[str, Surface]
    """by kind"""
    pairs: Mapping[Pair, Mapping[int, Record]]
    """VIB trained for one (β_1, β_2), by seed"""
    alone: Mapping[tuple[str, float], Mapping[int, Record]]
    """VIB of one device alone, by network and β, and by seed"""

    @property
    def metric(self) -> Metric:
        """What `metric` is in the records."""
        return TASKS.find(self.task).metric

    @property
    def seeds(self) -> int:
        """How many seeds have all their runs on record."""
        groups: list[Mapping[int, Any]] = [one.records for one in self.surfaces.values()]
        groups += [*self.pairs.values(), *self.alone.values()]
        return len(set.intersection(*(set(group) for group in groups)))

    @property
    def records(self) -> int:
        """How many runs are on record."""
        groups: list[Mapping[int, Any]] = [one.records for one in self.surfaces.values()]
        return sum(map(len, [*groups, *self.pairs.values(), *self.alone.values()]))

    def vib(self, where: Pair, name: str, split: str = "test") -> dict[int, Any]:
        """A column of VIB trained for one (β_1, β_2), by seed."""
        return {s: r.rows(split)[0][name] for s, r in sorted(self.pairs[where].items())}

    def compared(self, kind: str) -> list[Pair]:
        """The pairs at which a network and VIB share a seed, in VIB's order."""
        if kind not in self.surfaces:
            return []
        ours = self.surfaces[kind]
        found = [p for p in self.pairs if any(np.allclose(p, one, rtol=1e-6) for one in ours.pairs)]
        return [p for p in found if set(self.pairs[p]) & set(ours.seeds)]


def arranged(records: Iterable[Record]) -> Several:
    """Arrange the records of one task.

    Raises:
        ValueError: there are none.
    """
    surfaces: dict[str, dict[int, Record]] = {}
    pairs: dict[Pair, dict[int, Record]] = {}
    alone: dict[tuple[str, float], dict[int, Record]] = {}
    for record in (records := list(records)):
        run = record.config
        if run.network:
            alone.setdefault((run.network, run.betas[0]), {})[run.seed] = record
        elif run.method == "vib":
            first, second = (float(f"{run.betas[0] * price:.6g}") for price in run.prices)
            pairs.setdefault((first, second), {})[run.seed] = record
        else:
            kind = LOSES if run.channel == LOSSY else run.method
            surfaces.setdefault(kind, {})[run.seed] = record
    require(bool(records), "records", 0, "train the runs of `hvib.book.several.study`")
    made = {
        kind: Surface(kind, dict(sorted(surfaces[kind].items())))
        for kind in KINDS
        if kind in surfaces
    }
    order = {where: k for k, where in enumerate(PAIRS)}
    known = sorted(pairs, key=lambda where: (order.get(where, len(order)), where))
    return Several(records[0].config.task, made, {p: pairs[p] for p in known}, alone)


def runs_of(
    task: str,
    seeds: Sequence[int],
    profile: str = "full",
    *,
    snr_db: float = 20.0,
    betas: Sequence[float] = BETAS,
) -> list[Run]:
    """The runs of a page: those of `study`, or what a reader asks for in their place."""
    if (profile, snr_db, tuple(betas)) == ("full", 20.0, BETAS):
        return study(task, seeds)
    epochs = TASKS.find(task).profiles[profile]["epochs"]
    settings: dict[str, Any] = {"profile": profile, "snr_db": snr_db, "epochs": epochs}
    inside = [p for p in PAIRS if betas[0] <= min(p) and max(p) <= betas[-1]]
    ends = (betas[0], betas[-1])
    wheres = inside if len(inside) > 1 else list(itertools.product(ends, ends))
    found = []
    for seed in seeds:
        found += [
            joint(task, seed, m, betas=betas, **settings) for m in (JOINT, TOLD, ORDERED, ONE)
        ]
        found += [joint(task, seed, betas=betas, channel=LOSSY, **settings)]
        found += [pair(task, seed, where, **settings) for where in wheres]
        found += [
            replace(pair(task, seed, (beta, beta), **settings), network=network, prices=())
            for network in ALONE.get(task, ())
            for beta in (ends[0],)
        ]
    return found


def obtained(runs: Sequence[Run], *, fresh: bool = False, device: str = "auto") -> Several:
    """What is on record of some runs, or where nothing is, all of them trained now.

    Args:
        fresh: train all even where there are records.
    """
    found = [] if fresh else on_record(runs)
    return arranged(found or sweep(runs, fresh=fresh, device=device))


def recorded(tasks: Iterable[str]) -> dict[str, Several]:
    """What is on record of each task's study; nothing is trained."""
    found = {task: on_record(study(task)) for task in tasks}
    return {task: arranged(records) for task, records in found.items() if records}


def excess(found: Several, kind: str, split: str = "test") -> dict[Pair, Interval]:
    """How far a network's objective is above VIB's at each pair, relative to it, seed by seed.

    VIB has as many epochs for one pair as the network has for all of them.
    """
    return {p: interval(_ratio(found, kind, p, split)) for p in found.compared(kind)}


def _ratio(found: Several, kind: str, where: Pair, split: str) -> np.ndarray:
    ours, theirs = (
        found.surfaces[kind].at(where, "objective", split),
        found.vib(where, "objective", split),
    )
    return np.array([ours[s] / theirs[s] - 1 for s in ours if s in theirs])


def mean_excess(found: Several, kind: str, split: str = "test") -> Interval:
    """The mean of `excess` over the pairs, with its interval over the seeds that have them all."""
    pairs = found.compared(kind)
    seeds = set.intersection(*(set(found.pairs[p]) for p in pairs), set(found.surfaces[kind].seeds))
    rows = []
    for seed in sorted(seeds):
        own = [found.surfaces[kind].at(p, "objective", split)[seed] for p in pairs]
        theirs = [found.vib(p, "objective", split)[seed] for p in pairs]
        rows.append(np.mean(np.array(own) / np.array(theirs)) - 1)
    return interval(np.array(rows))


def over_others(found: Several, kind: str, other: str, split: str = "test") -> Interval:
    """The mean relative excess of one network over another, over the pairs that both answer for."""
    ours, theirs = found.surfaces[kind], found.surfaces[other]
    common = [p for p in ours.pairs if p in theirs.pairs]
    seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
    values = []
    for p in common:
        a, b = ours.at(p, "objective", split), theirs.at(p, "objective", split)
        values.append([a[seed] / b[seed] - 1 for seed in seeds])
    return interval(np.mean(values, 0))


LEVELS = {
    "mnist-halves": (0.95, 0.97, 0.98),
    "digits-halves": (0.8, 0.9, 0.95),
    "anchors": (0.3, 0.2, 0.15),
}
"""Levels of each task's metric for which its page shows the rates."""


class Reached(NamedTuple):
    """The rates with which a network reaches a level of its metric."""

    first: Float[np.ndarray, " K"]
    """R_1 in nats, by β_1"""
    second: Float[np.ndarray, " K"]
    """R_2"""


def rates_for(surface: Surface, level: float, split: str = "test") -> Reached:
    """The rates (R_1, R_2) that reach a level of the metric: for each β_1 along β_2.

    Means over seeds, interpolated in log rate between neighbouring β_2; β_1 at which the level is
    not crossed are left out.
    """
    metric = surface.plane("metric", split).mean(0)
    rates = np.log(np.maximum(surface.plane("rates_nats", split).mean(0), 1e-9))
    first, second = [], []
    for row, own in zip(metric, rates, strict=True):
        above = row >= level
        for k in np.flatnonzero(above[1:] != above[:-1])[-1:]:
            share = (level - row[k]) / (row[k + 1] - row[k])
            there = np.exp(own[k] + share * (own[k + 1] - own[k]))
            first.append(there[0])
            second.append(there[1])
    return Reached(np.array(first), np.array(second))


def guess_of(task: str) -> float:
    """The metric of an answer that knows nothing: an equal share, or the variance of y."""
    classes = TASKS.find(task).classes
    return 1 / len(classes) if classes else float((HALL.moments_m[1] ** 2).sum())


def _values(found: Several, kind: str, where: Pair, split: str = "test") -> np.ndarray:
    return np.array(list(found.surfaces[kind].at(where, "metric", split).values()))


def _losses(found: Several) -> Losses:
    record = next(iter(found.surfaces[LOSES].records.values()))
    return losses_of(record.config, TEST[found.task])


def _single(found: Several, kind: str, where: Pair, device: int) -> np.ndarray:
    """The metric of each seed where one device is lost and the other one arrives for sure."""
    values = _values(found, kind, where, f"test without {device}")
    if kind != LOSES:
        return values
    share = _losses(found).of_each[1 - device]
    return (values - share * guess_of(found.task)) / (1 - share)


def without(found: Several, kind: str, where: Pair, device: int) -> Interval:
    """The test metric once nothing arrives from one device.

    The records of a network that is trained with losses are on its own channel, which loses the
    other device too, now and then. That share is taken off, with the metric of a guess.

    Args:
        device: the lost one, from 0.
    """
    return interval(_single(found, kind, where, device))


def with_both(found: Several, kind: str, where: Pair) -> Interval:
    """The test metric where both devices arrive, of a lossy network by the same means."""
    values = _values(found, kind, where)
    if kind == LOSES:
        share = _losses(found)
        for j in (0, 1):
            only = share.of_each[j] - share.of_both
            values = values - only * _single(found, kind, where, j)
        values = (values - share.of_both * guess_of(found.task)) / share.kept
    return interval(values)


NEAR = 0.03
"""A relative excess up to which a network is a best response, as on the other pages."""


def carries_over(cases: Mapping[str, Several], kind: str = JOINT) -> Verdict:
    """A test of the book's own: the paper's method serves several devices after one training.

    Args:
        cases: by task.
        kind: of the network.
    """
    near, count, measured = 0, 0, []
    for task, found in cases.items():
        values = excess(found, kind)
        if not values:
            continue
        mean = {p: float(one.mean) for p, one in values.items()}
        near += sum(value <= NEAR for value in mean.values())
        count += len(mean)
        worst = max(mean, key=mean.__getitem__)
        at = ", ".join(map(beta_text, worst))
        measured.append(
            f"{task_label(task)}: at {sum(v <= NEAR for v in mean.values())} of {len(mean)} pairs; "
            f"on average {with_interval(mean_excess(found, kind), 100, 0)}%, at worst "
            f"{with_interval(values[worst], 100, 0)}% at ({at})"
        )
    gates = {JOINT: "the paper's gates", ORDERED: "ordered gates"}.get(kind, kind)
    return Verdict(
        f"several-{kind}",
        None,
        f"One training serves two devices at every pair of prices ({gates})",
        "on each task, its mean test objective is at most 3% above that of VIB trained for the "
        "pair, at each of the eight pairs (in part: at over half of all)",
        "; ".join(measured) or "no records",
        outcome(near == count, near > count / 2) if count else "not testable",
    )
