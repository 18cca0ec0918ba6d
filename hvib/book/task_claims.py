"""The paper's claims that are put to each task, one function each: the test and its measurement.

A new claim is a new function among `OF_COST` or `OF_ANSWERS`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hvib.book.curves import Curve
from hvib.book.statistics import Interval, excess, interval, over_seeds, training_seconds
from hvib.book.text import above, beta_text
from hvib.book.verdict import Verdict, outcome
from hvib.book.yardstick import Yardstick, yardstick


@dataclass(frozen=True)
class Case:
    """What a claim is put to: the curves of a method and those of VIB."""

    name: str
    """the method as the book calls it"""
    ours: Sequence[Curve]
    vib: Sequence[Curve]
    longer: Sequence[Curve] | None = None
    """the same method at twice the epochs, where there is one"""

    @property
    def by(self) -> Yardstick:
        """How values of the task's metric compare."""
        return yardstick(self.vib[0].metric)


def _time(case: Case) -> Verdict:
    def saved(curves: Sequence[Curve]) -> float:
        return 1 - training_seconds(curves) / training_seconds(case.vib)

    def less(share: float) -> str:
        return f"{abs(share):.1%} {'less' if share >= 0 else 'more'}"

    longer = case.longer
    enough = [saved(curves) >= 0.7 for curves in (case.ours, longer) if curves]
    return Verdict(
        "time",
        1,
        "Training time falls by approximately 80%",
        f"one {case.name} run takes at least 70% less time than the grid"
        + ", at twice the epochs too (in part: at one of the two)" * bool(longer),
        less(saved(case.ours)) + (f", {less(saved(longer))} at twice the epochs" if longer else ""),
        outcome(all(enough), any(enough)),
    )


def _parameters(case: Case) -> Verdict:
    more = case.ours[0].parameters / case.vib[0].parameters - 1
    return Verdict(
        "parameters",
        2,
        "Parameter counts are nearly identical",
        f"{case.name} has less than 2% more than one VIB model",
        f"{more:.2%} more",
        outcome(more < 0.02),
    )


def _rivals(case: Case) -> Verdict:
    by, betas = case.by, case.vib[0].betas
    ours, theirs = (over_seeds(curves, "metric").mean for curves in (case.ours, case.vib))
    behind = by.worse(ours, theirs)
    near, worst = behind <= by.rival, int(behind.argmax())
    return Verdict(
        "rivals",
        3,
        f"{case.name} outperforms or rivals VIB for all β",
        f"its mean test {by.noun} is at most {by.text(by.rival)} worse than VIB's at every β "
        "(in part: at over half of them)",
        f"so at {int(near.sum())} of {len(betas)} β; largest deficit "
        f"{by.text(max(behind[worst], 0))}, at β = {beta_text(betas[worst])}",
        outcome(bool(near.all()), bool(near.mean() > 0.5)),
    )


def _objective(case: Case) -> Verdict:
    betas, found = case.vib[0].betas, excess(case.ours, case.vib, "test").mean
    near = found <= 0.03
    return Verdict(
        "objective",
        None,
        "The same, of what training minimises: a best response for all β",
        "its mean test objective is at most 3% above VIB's at every β (in part: at over half "
        "of them)",
        f"so at {int(near.sum())} of {len(betas)} β; largest excess "
        f"{found.max():.1%}, at β = {beta_text(betas[found.argmax()])}",
        outcome(bool(near.all()), bool(near.mean() > 0.5)),
    )


def _at_beta_of(choosing: Sequence[Curve], told: Sequence[Curve]) -> Float[np.ndarray, " seed"]:
    """The test metric of each `told` curve at the β that its `choosing` one selects."""
    pairs = zip(choosing, told, strict=True)
    return np.array([curve.column("metric", "test")[own.selected] for own, curve in pairs])


def _largest_gain(curves: Sequence[Curve], by: Yardstick) -> tuple[str, bool]:
    """What the best step to a larger β gains in the mean over seeds, and whether it counts.

    It does if it is more than what rivals, and its interval, if it has one, leaves out 0.
    """
    metric = np.stack([curve.column("metric", "test") for curve in curves])
    if metric.shape[1] < 2:
        return "no step", False
    steps = interval(by.worse(metric[:, :-1], metric[:, 1:]))
    counts = (steps.mean > by.rival) & ~(steps.low <= 0)
    best = steps.at(int(steps.mean.argmax()))
    return by.among_seeds(Interval(-best.mean, -best.high, -best.low)), bool(counts.any())


def _best(case: Case) -> Verdict:
    by = case.by
    ours, theirs = (_at_beta_of(curves, curves) for curves in (case.ours, case.vib))
    behind = interval(by.worse(ours, theirs))
    return Verdict(
        "best",
        10,
        f"At their best, {case.name} outperforms VIB",
        f"at the β that validation selects for each, its test {by.noun} is the better, and the "
        f"interval over seeds leaves out 0 (in part: at most {by.text(by.rival)} worse)",
        by.among_seeds(behind),
        outcome(bool(behind.high < 0), bool(behind.mean <= by.rival)),
        of_seeds=True,
    )


def _peaks(case: Case) -> Verdict:
    by, several = case.by, len(case.vib[0].betas) > 1
    cost = by.worse(_at_beta_of(case.ours, case.vib), _at_beta_of(case.vib, case.vib))
    apart = [
        abs(np.log10(h.betas[h.selected] / v.betas[v.selected]))
        for h, v in zip(case.ours, case.vib, strict=True)
    ]
    among = [
        abs(np.log10(a.betas[a.selected] / b.betas[b.selected]))
        for a, b in itertools.combinations(case.vib, 2)
    ]
    ends = outcome(bool(cost.mean() <= by.rival), bool((cost <= by.rival).mean() > 0.5))
    return Verdict(
        "peaks",
        4,
        "The β at each method's peak are closely aligned",
        f"VIB's test {by.noun} at the β that validation selects for {case.name} is at most "
        f"{by.text(by.rival)} worse than at its own, in the mean over seeds (in part: for most "
        "seeds)",
        f"{by.among_seeds(interval(cost))}; the two β are {np.mean(apart):.1f} decades apart"
        + (f", those of two seeds of VIB {np.mean(among):.1f}" if among else ""),
        ends if several else "not testable",
        of_seeds=True,
    )


def _smaller(case: Case) -> Verdict:
    by, several = case.by, len(case.vib[0].betas) > 1
    (gain_v, counts_v), (gain_h, counts_h) = (_largest_gain(c, by) for c in (case.vib, case.ours))
    ends = outcome(not (counts_v or counts_h), not (counts_v and counts_h))
    return Verdict(
        "smaller",
        5,
        "A smaller β performs better",
        f"over the whole grid, no step to a larger β {by.rises} (mean on test data) by more "
        f"than {by.text(by.rival)} with an interval that leaves out 0, for either method (in "
        "part: for one)",
        f"the best such step: VIB {gain_v}, {case.name} {gain_h}",
        ends if several else "not testable",
        of_seeds=True,
    )


def _large(case: Case) -> Verdict:
    by, found = case.by, excess(case.ours, case.vib, "test").mean
    ours, theirs = (over_seeds(curves, "metric").mean for curves in (case.ours, case.vib))
    best = theirs.max() if case.vib[0].metric.higher_is_better else theirs.min()
    fall, behind = float(by.worse(theirs[-1], best)), by.worse(ours, theirs)[-1]
    return Verdict(
        "large",
        6,
        f"At large β VIB drops fast, {case.name} keeps a better performance",
        f"from its best to the largest β VIB gets worse by over {by.text(by.drop)}, and there "
        f"{case.name} is the better of the two (in part: only one of both)",
        f"VIB gets worse by {by.text(fall)}; there {case.name} is {by.text(abs(behind))} "
        f"{'better' if behind < 0 else 'worse'}, its objective {above(found[-1])} VIB's",
        outcome(fall > by.drop and behind < 0, fall > by.drop or behind < 0),
    )


Claim = Callable[[Case], Verdict]

OF_COST: tuple[Claim, ...] = (_time, _parameters)
"""The claims on time and size, on which seeds do not differ."""

OF_ANSWERS: tuple[Claim, ...] = (_rivals, _objective, _best, _peaks, _smaller, _large)
"""The claims on what comes out at each β, seed by seed."""
