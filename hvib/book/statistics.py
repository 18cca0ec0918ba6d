"""What curves say: intervals over seeds, excess over VIB, time, and values at equal rate."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from hvib.book.curves import Curve, Groups, label_of
from hvib.channel import AWGN
from hvib.check import require
from hvib.ledger import Record

Array = Float[np.ndarray, "..."]


class Interval(NamedTuple):
    """A mean over seeds with its 95% confidence interval (Student's t); NaN for one seed."""

    mean: Array
    low: Array
    high: Array

    def at(self, k: int) -> "Interval":
        """One entry of a column's, as at one β."""
        return Interval(*(part[k] for part in self))

    @property
    def half(self) -> Array:
        """Half its width."""
        return (self.high - self.low) / 2

    @property
    def has_a_sign(self) -> bool:
        """Of one number: whether the interval leaves 0 out."""
        return bool(self.low > 0 or self.high < 0)


def interval(values: Array) -> Interval:
    """Mean and interval over the first axis, the seeds."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    mean = values.mean(0)
    if count < 2:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = special.stdtrit(count - 1, 0.975) * values.std(0, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def over_seeds(curves: Sequence[Curve], name: str, split: str = "test") -> Interval:
    """A column over β, with its interval over seeds."""
    return interval(np.stack([curve.column(name, split) for curve in curves]))


def on_plateau(curves: Sequence[Curve], end: float = 1e-3) -> Interval:
    """The test metric at the β up to `end`, where it hardly depends on β; at the first at least."""
    betas = curves[0].betas
    flat = betas <= max(end, betas[0])
    return Interval(*(part[flat] for part in over_seeds(curves, "metric")))


def growth(curves: Sequence[Curve]) -> float:
    """The test objective at the largest β over that at the smallest, each a mean over seeds."""
    objective = over_seeds(curves, "objective").mean
    return float(objective[-1] / objective[0])


def at_selected(curves: Sequence[Curve], name: str = "metric", split: str = "test") -> Interval:
    """A column at the β that validation selects, seed by seed."""
    return interval(np.array([c.column(name, split)[c.selected] for c in curves]))


def shared_betas(ours: Sequence[Curve], vib: Sequence[Curve]) -> Float[np.ndarray, " beta"]:
    """The β that both methods answer for, ascending.

    Raises:
        ValueError: there is none.
    """
    betas = np.intersect1d(ours[0].betas, vib[0].betas)
    require(len(betas) > 0, "betas", ours[0].betas.tolist(), "the two methods share no β")
    return betas


def paired(ours: Sequence[Curve], vib: Sequence[Curve]) -> list[tuple[Curve, Curve]]:
    """Our curve and VIB's of each seed that both have, in our order."""
    seeds = {curve.seed: curve for curve in vib}
    pairs = [(curve, seeds[curve.seed]) for curve in ours if curve.seed in seeds]
    require(bool(pairs), "seeds", sorted(seeds), "the two methods share no seed")
    return pairs


def excess(
    ours: Sequence[Curve], vib: Sequence[Curve], split: str, *, relative: bool = True
) -> Interval:
    """C(ours; β) − C(VIB; β) on one split, seed by seed, divided by C(VIB; β) if `relative`.

    A true best response to β has excess ≤ 0 up to noise. VIB is itself one attempt at the
    minimum of (8), not the minimum, so a negative excess says that ours found a better one.
    Where the two differ in β, at those that both answer for.

    Raises:
        ValueError: they share no seed or no β.
    """
    pairs = paired(ours, vib)
    betas = shared_betas(ours, vib)
    a, b = (
        np.stack([c.column("objective", split)[np.isin(c.betas, betas)] for c in curves])
        for curves in zip(*pairs, strict=True)
    )
    return interval((a - b) / (b if relative else 1))


class Comparison(NamedTuple):
    """What came of a variant."""

    train: Interval
    """mean over β of the relative excess on training data, over seeds"""
    test: Interval
    """the same on test data"""
    worst: float
    """largest relative excess on test data, of the mean over seeds"""
    worst_beta: float
    """where it is"""
    metric: float
    """the test metric at the β selected, mean over seeds"""
    parameters: int


def compare(ours: Sequence[Curve], vib: Sequence[Curve]) -> Comparison:
    """A variant's curves, one for each seed, against VIB's of the same seeds.

    Excess is that of `excess`, at the β that both answer for; seeds of one alone are left out.
    """
    ours = [curve for curve, _ in paired(ours, vib)]
    train, test = (
        interval(np.array([excess([curve], vib, split).mean.mean() for curve in ours]))
        for split in ("train", "test")
    )
    over_beta = excess(ours, vib, "test").mean
    worst = int(np.argmax(over_beta))
    return Comparison(
        train,
        test,
        float(over_beta[worst]),
        float(shared_betas(ours, vib)[worst]),
        float(at_selected(ours).mean),
        ours[0].parameters,
    )


def machine_of(curve: Curve) -> frozenset[tuple[Any, ...]]:
    """What a curve's times belong to: the processor, its threads and the format of products."""
    return frozenset(map(machine_of_record, curve.records))


def machine_of_record(record: Record) -> tuple[Any, ...]:
    """The processor, its threads and the format of products that a record's time belongs to."""
    return tuple(record.environment.get(key) for key in ("name", "threads", "products"))


Timed = Iterable[tuple[Hashable, float]]
"""a machine, and seconds that something took on it"""


def time_ratio(ours: Timed, theirs: Timed) -> float:
    """Mean of our seconds over mean of theirs, on one machine.

    It is the machine with most of theirs of those that have both; NaN where there is none.
    """

    def by_machine(timed: Timed) -> dict[Hashable, list[float]]:
        found: dict[Hashable, list[float]] = {}
        for machine, seconds in timed:
            found.setdefault(machine, []).append(seconds)
        return found

    own, other = by_machine(ours), by_machine(theirs)
    shared = [machine for machine in other if machine in own]
    if not shared:
        return np.nan
    machine = max(shared, key=lambda machine: len(other[machine]))
    return float(np.mean(own[machine]) / np.mean(other[machine]))


def training_seconds(curves: Sequence[Curve]) -> float:
    """Training time of the whole curve over β: mean over the seeds of the first one's machine.

    Times compare on one machine only. A seed trained on another processor, number of threads or
    number format counts for everything but the time.
    """
    first = machine_of(curves[0])
    return float(np.mean([curve.seconds for curve in curves if machine_of(curve) == first]))


def runs_of(ours: Sequence[Curve], vib: Sequence[Curve]) -> float:
    """Training time of one of our curves in VIB runs, of the grid's mean."""
    return training_seconds(ours) / training_seconds(vib) * len(vib[0].betas)


def at_rate(curves: Sequence[Curve], nats: float, name: str = "metric") -> Interval:
    """A column of the test rows at a rate, interpolated in log rate along each seed's curve.

    NaN where a seed's curve does not reach that rate.
    """
    found = []
    for curve in curves:
        rate, values = (curve.column(key, "test") for key in ("rate_nats", name))
        order = np.argsort(rate)
        log_rate = np.log(np.maximum(rate[order], 1e-9))
        found.append(np.interp(np.log(nats), log_rate, values[order], np.nan, np.nan))
    return interval(np.array(found))


def bits_off_prior(curves: Sequence[Curve], bits: float) -> float:
    """At least so many of a rate's bits are power that differs from the prior's.

    The rate (9) counts, besides the bits that the features carry, how far the power P of each
    received feature is from the prior's, which is 1: by (P − 1 − ln P) / 2 nats. That is convex
    in P, so the mean power over all features gives a lower bound (Jensen).

    Args:
        bits: the rate, in bits per inference.
    """
    run = curves[0].records[0].config
    power = at_rate(curves, bits * np.log(2), "tx_power").mean + AWGN(run.snr_db).variance
    return float(run.features / 2 * (power - 1 - np.log(power)) / np.log(2))


def class_rows(curves: Groups, names: Sequence[str]) -> list[dict[str, Any]]:
    """The test accuracy of each class at each β, mean over seeds: the data behind a figure.

    Args:
        names: of the classes.
    """
    return [
        {"label": label_of(key), "beta": float(beta), "class": name, "accuracy": float(accuracy)}
        for key, group in curves.items()
        for beta, row in zip(group[0].betas, over_seeds(group, "by_class").mean, strict=True)
        for name, accuracy in zip(names, row, strict=True)
    ]


def survived(share_right: Float[np.ndarray, "beta N"]) -> Int[np.ndarray, " N"]:
    """How many β, from the smallest on without a gap, infer each example in most draws."""
    right = np.asarray(share_right) > 0.5
    return np.logical_and.accumulate(right, axis=0).sum(0)


def extremes(
    survived: Int[np.ndarray, " N"], classes: Int[np.ndarray, " N"]
) -> tuple[list[int], list[int]]:
    """For each class the first example that survives longest, and the first that goes soonest.

    One that no β infers has nothing to lose and is not among the latter, unless all are so.
    """
    longest, soonest = [], []
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        count = survived[members]
        longest.append(int(members[count.argmax()]))
        soonest.append(int(members[np.where(count > 0, count, count.max() + 1).argmin()]))
    return longest, soonest
