"""What the records say over the plane β × SNR, and what each kind of training is worth there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hvib.book.curves import task_label
from hvib.book.states import BOTH, NOBODY, NOMINAL, ORDERED, RECEIVER, RIVALS, epochs_of, study
from hvib.book.statistics import Interval, interval, machine_of_record, time_ratio
from hvib.book.verdict import Verdict, outcome
from hvib.book.yardstick import Yardstick, yardstick
from hvib.check import require
from hvib.ledger import Record, on_record, sweep
from hvib.run import Run
from hvib.tasks import TASKS, Metric

Trained = Literal["all", "nominal", "each"]
"""over all SNR at once, for the nominal one alone, or one network for each"""


class Who(NamedTuple):
    """What finds a plane among those of a task and a channel."""

    method: str
    trained: Trained = "all"
    times: float = 2
    """its epochs, as a multiple of those of a network for one SNR"""


TOLD, TOLD_RECEIVER, UNTOLD = Who(BOTH), Who(RECEIVER), Who(NOBODY)
"""Trained over all SNR, which both ends know, the receiver, or nobody."""

ONLY, EACH = Who(NOBODY, "nominal", 1), Who(NOBODY, "each", 1)
"""The paper's gates, trained for the nominal SNR alone, and anew for each SNR."""

TOLD_ONCE = Who(BOTH, times=1)
"""`TOLD` at the epochs of one run."""

ORDERED_TOLD, ORDERED_UNTOLD = Who(ORDERED), Who("hyper-vib-ordered")
ORDERED_EACH = Who("hyper-vib-ordered", "each", 1)
"""The same with gates without bounds, and features that close."""

EARLIER = tuple(map(Who, RIVALS))
"""Earlier ways to tell a network the SNR, at both ends."""


@dataclass(frozen=True)
class Plane:
    """One answer for every β and SNR: for each seed one record, or one for each SNR."""

    who: Who
    snrs: tuple[float, ...]
    """in dB, ascending"""
    records: Mapping[int, Sequence[Record]]
    """by seed; of networks for one SNR each, in the order of `snrs`"""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted(self.records))

    @property
    def betas(self) -> Float[np.ndarray, " beta"]:
        """The β it answers for, ascending."""
        return np.array(next(iter(self.records.values()))[0].config.betas)

    @property
    def metric(self) -> Metric:
        """What `metric` is in the records."""
        return TASKS.find(next(iter(self.records.values()))[0].config.task).metric

    def column(self, name: str, split: str = "test") -> Float[np.ndarray, "seed snr beta"]:
        """A column of the records' curves on one split."""
        each = self.who.trained == "each"
        return np.array(
            [
                [
                    [row[name] for row in self.records[seed][k if each else 0].rows(split, snr)]
                    for k, snr in enumerate(self.snrs)
                ]
                for seed in self.seeds
            ]
        )

    @property
    def selected(self) -> Int[np.ndarray, "seed snr"]:
        """Which β has the best validation metric at each SNR; the largest such β on a tie."""
        found = self.column("metric", "validation")
        found = found if self.metric.higher_is_better else -found
        return found.shape[-1] - 1 - found[..., ::-1].argmax(-1)

    def at_selected(self, name: str = "metric") -> Float[np.ndarray, "seed snr"]:
        """A column of the test rows at the β that validation selects for each SNR."""
        return _taken(self.column(name), self.selected)

    def at_kept(self, snr_db: float) -> Float[np.ndarray, "seed snr"]:
        """The test metric at the β that validation selects for one SNR, kept at all."""
        chosen = self.selected[:, [self.snrs.index(snr_db)]]
        return _taken(self.column("metric"), np.broadcast_to(chosen, self.selected.shape))

    def of(self, seeds: Iterable[int], snrs: Iterable[float]) -> "Plane":
        """The same of some seeds and SNR."""
        kept = [k for k, snr in enumerate(self.snrs) if snr in set(snrs)]
        each = self.who.trained == "each"
        records = {
            seed: [self.records[seed][k] for k in kept] if each else self.records[seed]
            for seed in seeds
        }
        return Plane(self.who, tuple(self.snrs[k] for k in kept), records)


def _taken(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, chosen[..., None], -1)[..., 0]


Planes = Mapping[Who, Plane]
"""Those of one task on one channel."""

Case = tuple[str, str]
"""A task and a channel, by their names."""


def planes(runs: Iterable[Run], records: Iterable[Record]) -> dict[Who, Plane]:
    """The planes of a study; a seed counts for a plane where all its records are there.

    Args:
        runs: of one task on one channel, as `hvib.book.states.study` gives them.
        records: of those of them that are on record.
    """
    known = {record.config: record for record in records}
    groups: dict[Who, dict[int, list[Run]]] = {}
    for run in runs:
        for who in _whose(run):
            groups.setdefault(who, {}).setdefault(run.seed, []).append(run)
    found = {}
    for who, seeds in groups.items():
        whole = {
            seed: [known[run] for run in own]
            for seed, own in seeds.items()
            if all(run in known for run in own)
        }
        if whole:
            own = next(iter(seeds.values()))
            snrs = [run.snr_db for run in own] if who.trained == "each" else own[0].snrs
            found[who] = Plane(who, tuple(snrs), whole)
    return found


def _whose(run: Run) -> list[Who]:
    """The planes that a run's record is part of."""
    times = run.epochs / epochs_of(run.task, run.profile)
    if run.mixed_snr:
        return [Who(run.method, times=times)]
    each = Who(run.method, "each", times)
    return [each, Who(run.method, "nominal", times)] if len(run.snrs) > 1 else [each]


def recorded(cases: Iterable[Case]) -> dict[Case, dict[Who, Plane]]:
    """The planes of each task and channel from what is on record; nothing is trained."""
    found = {}
    for task, channel in cases:
        runs = study(task, channel)
        if of_case := planes(runs, on_record(runs)):
            found[task, channel] = of_case
    return found


def obtained(runs: Sequence[Run], *, fresh: bool = False, device: str = "auto") -> dict[Who, Plane]:
    """The planes of a study: what is on record of it, or where nothing is, trained now.

    Args:
        fresh: train all even where there are records.
    """
    found = [] if fresh else on_record(runs)
    return planes(runs, found or sweep(runs, fresh=fresh, device=device))


CASES: tuple[Case, ...] = (
    ("mnist", "awgn"),
    ("mnist", "rayleigh"),
    ("mnist", "average-power"),
    ("bluetooth", "awgn"),
)
"""What the book has trained."""

CHANNEL_LABELS = {
    "awgn": "AWGN",
    "rayleigh": "Rayleigh",
    "rician": "Rician",
    "average-power": "limited power",
}


def case_label(case: Case) -> str:
    """A task and a channel as the book calls them."""
    task, channel = case
    return f"{task_label(task)}, {CHANNEL_LABELS.get(channel, channel)}"


class Over(NamedTuple):
    """A difference of two planes over the SNR, or over the plane."""

    snrs: tuple[float, ...]
    values: Interval
    """(snr,) or (snr, beta)"""
    seeds: int
    """how many both have"""

    def at(self, snr_db: float) -> Interval:
        """That at one SNR."""
        return self.values.at(self.snrs.index(snr_db))


def shared(ours: Plane, theirs: Plane) -> tuple[Plane, Plane]:
    """Both planes at the seeds and SNR that both have.

    Raises:
        ValueError: they share none.
    """
    seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
    snrs = [snr for snr in ours.snrs if snr in theirs.snrs]
    require(bool(seeds), "seeds", ours.seeds, "the two planes share no seed")
    require(bool(snrs), "snrs", ours.snrs, "the two planes share no SNR")
    return ours.of(seeds, snrs), theirs.of(seeds, snrs)


def loss(ours: Plane, theirs: Plane) -> Over:
    """How much worse our test metric is at each SNR, each at the β that validation selects there.

    Seed by seed: a difference of accuracies in [0, 1], or a relative one of errors. Negative where
    ours is better.
    """
    ours, theirs = shared(ours, theirs)
    by = yardstick(ours.metric)
    worse = by.worse(ours.at_selected(), theirs.at_selected())
    return Over(ours.snrs, interval(worse), len(ours.seeds))


def excess(ours: Plane, theirs: Plane, split: str = "test") -> Over:
    """How far our objective is above theirs at each SNR and β, relative to it, seed by seed."""
    return _of_excess(ours, theirs, split, ())


def mean_excess(ours: Plane, theirs: Plane, split: str = "test") -> Over:
    """The mean of `excess` over β, with its interval over seeds."""
    return _of_excess(ours, theirs, split, (2,))


def whole_excess(ours: Plane, theirs: Plane, split: str = "test") -> Interval:
    """The mean of `excess` over SNR and β, with its interval over seeds."""
    return _of_excess(ours, theirs, split, (1, 2)).values


def _of_excess(ours: Plane, theirs: Plane, split: str, over: tuple[int, ...]) -> Over:
    ours, theirs = shared(ours, theirs)
    a, b = (plane.column("objective", split) for plane in (ours, theirs))
    found = a / b - 1
    return Over(ours.snrs, interval(found.mean(over) if over else found), len(ours.seeds))


def price(ours: Plane, alone: Plane) -> float:
    """Training time of one of our networks in runs for one SNR, on the machines of both.

    NaN where no machine trained both.
    """

    def timed(plane: Plane) -> list[tuple[tuple, float]]:
        filed = [record for records in plane.records.values() for record in records]
        return [(machine_of_record(record), record.seconds) for record in filed]

    return time_ratio(timed(ours), timed(alone))


def real_snr(plane: Plane) -> Float[np.ndarray, " snr"]:
    """The SNR in dB of what is really sent at the β selected for each SNR, mean over seeds.

    A channel's SNR is that of features of unit power. A device that sends more has more.
    """
    power = plane.at_selected("tx_power").mean(0)
    return np.array(plane.snrs) + 10 * np.log10(power)


ONE_NETWORK = {False: 0.003, True: 0.05}
"""As much worse, one network for all SNR still serves as well: 0.3 points, or 5% of an error."""

ELSEWHERE = {False: 0.01, True: 0.05}
"""As much worse, a system has adapted to another SNR: one point, or 5% of an error."""


def loss_text(found: Interval, by: Yardstick) -> str:
    """A loss as prose has it; where an error is ten times as large or more, as a factor."""
    if by.relative and found.mean >= 9:
        return f"{1 + float(found.mean):.0f} times the error"
    return by.among_seeds(found)


def _ends(found: Over, by: Yardstick, margins: Mapping[bool, float]) -> tuple[int, str]:
    """At how many SNR a loss is within its margin, and a sentence on it."""
    mean = found.values.mean
    right = int((mean <= margins[by.relative]).sum())
    worst = int(mean.argmax())
    told = loss_text(found.values.at(worst), by)
    at = f"{found.snrs[worst]:.0f} dB".replace("-", "−")
    return right, f"at {right} of {len(mean)} SNRs, at worst {told} ({at})"


def _verdict_of(
    cases: Mapping[Case, Planes],
    pair: tuple[Who, Who],
    margins: Mapping[bool, float],
    told: Verdict,
    leave_out: Iterable[float] = (),
) -> Verdict:
    """A verdict on a loss: holds if it is within its margin at every SNR of every case."""
    right, count, measured = 0, 0, []
    for case, planes in cases.items():
        if not all(who in planes for who in pair):
            continue
        ours, theirs = (planes[who] for who in pair)
        kept = [snr for snr in ours.snrs if snr in theirs.snrs and snr not in set(leave_out)]
        if not kept:
            continue
        found = loss(ours.of(ours.seeds, kept), theirs)
        within, sentence = _ends(found, yardstick(ours.metric), margins)
        right, count = right + within, count + len(found.snrs)
        measured.append(f"{case_label(case)}: {sentence}")
    ended = outcome(0 < count == right, right > 0) if count else "not testable"
    return Verdict(
        told.key, told.number, told.claim, told.test, "; ".join(measured) or "no records", ended
    )


def adapts(cases: Mapping[Case, Planes], nominal: float = NOMINAL) -> Verdict:
    """Claim 9: a trained system adapts to the task's requirement and to the channel's state.

    The paper's gates read β, which is the requirement. They do not read the state of the channel,
    so the system can adapt to it only by another choice of β; the test asks what that is worth.
    """
    test = (
        f"at each SNR other than {nominal:.0f} dB, on each task and channel, the system trained at "
        f"{nominal:.0f} dB is at most one point less accurate than one trained at that SNR, or its "
        "error at most 5% larger, each at the β that validation selects there (in part: at one "
        "SNR at least)"
    )
    told = Verdict("adapts", 9, "The system adapts to channel states", test, "", "not testable")
    return _verdict_of(cases, (ONLY, EACH), ELSEWHERE, told, (nominal,))


def one_network(cases: Mapping[Case, Planes], ours: Who = TOLD, theirs: Who = EACH) -> Verdict:
    """A test of the book's own: one network of (log β, SNR) in place of one for each SNR.

    Args:
        ours: the kind of training of the one network.
        theirs: of the networks for one SNR each.
    """
    test = (
        "at each SNR, on each task and channel, the network that both ends tell the SNR is at most "
        "0.3 points less accurate than the one trained for that SNR, or its error at most 5% "
        "larger, at the epochs of two of them (in part: at one SNR at least)"
    )
    gates = "ordered" if ours == ORDERED_TOLD else "the paper's gates"
    claim = f"One network for all SNRs serves each as well as one trained for it ({gates})"
    told = Verdict(f"one-network-{ours.method}", None, claim, test, "", "not testable")
    return _verdict_of(cases, (ours, theirs), ONE_NETWORK, told)
