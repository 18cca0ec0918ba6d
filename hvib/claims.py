"""What the records say: curves over β, intervals over seeds, β selected, claims judged.

A verdict is computed here from records, by a test that is stated with it.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from hvib import ledger
from hvib.config import METRICS, PROFILES, Metric, plan, require, studies
from hvib.ledger import Record

Array = Float[np.ndarray, "..."]

NAMES = {
    "vib": "VIB",
    "vib-batched": "VIB, batched grid",
    "vib-warm": "VIB, warm-started grid",
    "hyper-vib": "Hyper-VIB",
    "hyper-vib-before": "Hyper-VIB, gates before norms",
    "hyper-vib-log": "Hyper-VIB, log",
    "hyper-vib-free": "Hyper-VIB, free",
    "hyper-vib-free-opened": "Hyper-VIB, free, with openings",
    "hyper-vib-ordered-unopened": "Hyper-VIB, ordered, without openings",
    "hyper-vib-ordered": "Hyper-VIB, ordered",
    "hyper-vib-tuned": "Hyper-VIB, tuned",
}
"""The methods as the book calls them."""

STACKS = ("vib-batched", "vib-warm", "hyper-vib-tuned")
"""The methods that end in one system for each β."""


@dataclass(frozen=True)
class Curve:
    """One answer for every β: the records of one VIB grid, or the one of a Hyper-VIB run."""

    label: str
    seed: int
    records: tuple[Record, ...]

    def column(self, name: str, split: str) -> Float[np.ndarray, " beta"]:
        """A column of the records' curves on one split, in ascending β."""
        rows = itertools.chain.from_iterable(record.rows(split) for record in self.records)
        return np.array([row[name] for row in sorted(rows, key=lambda row: row["beta"])])

    @property
    def betas(self) -> Float[np.ndarray, " beta"]:
        """The β it answers for, ascending."""
        return self.column("beta", "test")

    @property
    def seconds(self) -> float:
        """Training time of the whole curve."""
        return sum(record.seconds for record in self.records)

    @property
    def parameters(self) -> int:
        """Parameters of one trained system."""
        return max(record.parameters for record in self.records) // (
            len(self.betas) if self.records[0].config.method in STACKS else 1
        )

    @property
    def metric(self) -> Metric:
        """What `metric` is in the records."""
        return METRICS[self.records[0].config.task]

    @property
    def selected(self) -> int:
        """Index of the β with the best validation metric; the largest such β on a tie."""
        metric = self.column("metric", "validation") * (1 if self.metric.higher_is_better else -1)
        return int(np.flatnonzero(metric == metric.max())[-1])


def collect(records: Iterable[Record]) -> dict[str, list[Curve]]:
    """Records as curves: by label, in ascending seed.

    Hyper-VIB runs longer than the first are labelled with the multiple of a VIB run's epochs.
    """
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        run = record.config
        multiple = run.epochs / PROFILES[run.task][run.profile]["epochs"]
        label = NAMES.get(run.method, run.method) + f", {multiple:g}× epochs" * (multiple != 1)
        groups.setdefault((label, run.seed), []).append(record)
    curves: dict[str, list[Curve]] = {}
    for (label, seed), group in groups.items():
        ordered = tuple(sorted(group, key=lambda record: record.config.betas))
        curves.setdefault(label, []).append(Curve(label, seed, ordered))
    for label, group_curves in curves.items():
        grids = {tuple(curve.betas) for curve in group_curves}
        require(len(grids) == 1, "records", label, "its seeds differ in β; pass one grid's records")
    return {label: sorted(group, key=lambda c: c.seed) for label, group in curves.items()}


TASKS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "bluetooth": "Bluetooth", "wifi": "WiFi"}
"""The tasks of the paper as the book calls them."""


def recorded(task: str) -> dict[str, list[Curve]]:
    """The curves of a task's page, from its records; what is not on record is trained now."""
    runs = plan(task) + studies(task).get("a sixth", [])
    return collect(ledger.sweep(runs))


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


def _paired(ours: Sequence[Curve], vib: Sequence[Curve]) -> list[tuple[Curve, Curve]]:
    """Our curve and VIB's of each seed that both have, in our order."""
    seeds = {curve.seed: curve for curve in vib}
    pairs = [(curve, seeds[curve.seed]) for curve in ours if curve.seed in seeds]
    require(bool(pairs), "seeds", sorted(seeds), "the two methods share no seed")
    return pairs


def regret(
    ours: Sequence[Curve], vib: Sequence[Curve], split: str, *, relative: bool = True
) -> Interval:
    """C(ours; β) − C(VIB; β) on one split, seed by seed, divided by C(VIB; β) if `relative`.

    A true best response to β has regret ≤ 0 up to noise. VIB is itself one attempt at the
    minimum of (8), not the minimum, so a negative regret says that ours found a better one.
    Where the two differ in β, at those that both answer for.

    Raises:
        ValueError: they share no seed or no β.
    """
    pairs = _paired(ours, vib)
    betas = shared_betas(ours, vib)
    a, b = (
        np.stack([c.column("objective", split)[np.isin(c.betas, betas)] for c in curves])
        for curves in zip(*pairs, strict=True)
    )
    return interval((a - b) / (b if relative else 1))


class Comparison(NamedTuple):
    """What came of a variant."""

    train: Interval
    """mean over β of the relative regret on training data, over seeds"""
    test: Interval
    """the same on test data"""
    worst: float
    """largest relative regret on test data, of the mean over seeds"""
    worst_beta: float
    """where it is"""
    metric: float
    """the test metric at the β selected, mean over seeds"""
    parameters: int


def compare(ours: list[Curve], vib: list[Curve]) -> Comparison:
    """A variant's curves, one for each seed, against VIB's of the same seeds.

    Regret is that of `regret`, at the β that both answer for; seeds of one alone are left out.
    """
    ours = [curve for curve, _ in _paired(ours, vib)]
    train, test = (
        interval(np.array([regret([curve], vib, split).mean.mean() for curve in ours]))
        for split in ("train", "test")
    )
    over_beta = regret(ours, vib, "test").mean
    worst = int(np.argmax(over_beta))
    return Comparison(
        train,
        test,
        float(over_beta[worst]),
        float(shared_betas(ours, vib)[worst]),
        float(at_selected(ours).mean),
        ours[0].parameters,
    )


def training_seconds(curves: Sequence[Curve]) -> float:
    """Training time of the whole curve over β: mean over the seeds of the first one's machine.

    Times compare on one machine only. A seed trained on another processor, number of threads or
    number format counts for everything but the time.
    """

    def machine(curve: Curve) -> set[tuple[Any, ...]]:
        told = ("name", "threads", "products")
        return {tuple(r.environment.get(key) for key in told) for r in curve.records}

    return float(np.mean([c.seconds for c in curves if machine(c) == machine(curves[0])]))


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


def beta_text(beta: float) -> str:
    """A β as prose has it: 3.2 × 10⁻⁴, 10⁻⁶, 0.1."""
    if beta >= 0.01:
        return f"{beta:.2g}"
    mantissa, exponent = f"{beta:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1.0" else f"{mantissa} × {power}"


def above(excess: float) -> str:
    """A relative difference as prose has it: 14% above, 23% below, within 0.5% of."""
    if abs(excess) < 0.005:
        return "within 0.5% of"
    return f"{abs(excess):.0%} {'above' if excess >= 0 else 'below'}"


Outcome = Literal["holds", "holds in part", "does not hold here", "not testable"]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, the test it is put to, what was measured and how it ends."""

    claim: str
    test: str
    measured: str
    outcome: Outcome
    alone: tuple[Outcome, ...] = ()
    """how it ends on each seed's curves alone; empty where seeds do not differ"""
    of_seeds: bool = False
    """its test counts seeds: one alone says nothing"""

    @property
    def agreement(self) -> str:
        """On how many seeds alone it ends as on their mean: `2 of 3`; empty where none can."""
        told = self.alone and not self.of_seeds
        return _agreement(self.outcome, self.alone) if told else ""


def _agreement(end: Outcome, alone: Sequence[Outcome]) -> str:
    return f"{alone.count(end)} of {len(alone)}"


def outcome(whole: bool, part: bool = False) -> Outcome:
    """The verdict of a test of the whole claim and of a part of it."""
    return "holds" if whole else "holds in part" if part else "does not hold here"


def best_response(found: Comparison, runs: float) -> Outcome:
    """Whether a variant is a best response (10) for every β, at a price.

    It is if its test objective is on average over β no higher than VIB's, at no β more than 3%
    higher, and all of that for two VIB runs' time; in part if the first is so.

    Args:
        found: the variant against VIB, by `compare`.
        runs: what it costs in VIB runs, by `runs_of`.
    """
    below = bool(found.test.mean <= 0)
    return outcome(below and found.worst <= 0.03 and runs <= 2, below)


def best_response_alone(ours: list[Curve], vib: list[Curve]) -> str:
    """On how many seeds alone `best_response` ends as on their mean: `2 of 3`."""
    runs = runs_of(ours, vib)
    ends = [best_response(compare([curve], vib), runs) for curve, _ in _paired(ours, vib)]
    return _agreement(best_response(compare(ours, vib), runs), ends)


def cheapest_match(curves: dict[str, list[Curve]]) -> str | None:
    """The Hyper-VIB of least training time whose test objective matches the grid's, if any does.

    It matches if it is on average over β and seeds at most 1% above VIB's, relative to it.
    """
    vib = curves["VIB"]
    reached = [
        label
        for label, group in curves.items()
        if label.startswith("Hyper") and compare(group, vib).test.mean <= 0.01
    ]
    return min(reached, key=lambda label: runs_of(curves[label], vib), default=None)


@dataclass(frozen=True)
class Yardstick:
    """How two values of a metric compare: how much worse one is, and what counts."""

    noun: str
    rises: str
    """what a change for the better is called"""
    rival: float
    """as much worse still rivals"""
    drop: float
    """as much worse is a fast drop"""
    relative: bool
    """errors compare by their ratio, accuracies by their difference"""

    def worse(self, metric: Array, reference: Array) -> Array:
        """How much worse than a reference: positive where it is."""
        return metric / reference - 1 if self.relative else reference - metric

    def _number(self, difference: float) -> str:
        size = 100 * difference
        digits = 0 if size >= 100 else 1 if self.relative or size >= 1 else 2
        return f"{round(size, digits):g}"

    @property
    def _unit(self) -> str:
        return "%" if self.relative else " points"

    def text(self, difference: float) -> str:
        """A difference ≥ 0 as prose has it: 1.3 points, 0.17 points, 5.2%."""
        return self._number(difference) + self._unit

    def among_seeds(self, found: Interval) -> str:
        """How much worse (or better) in the mean over seeds, with its interval if it has one."""
        half = "" if np.isnan(found.half) else f" ± {self._number(float(found.half))}"
        way = "better" if found.mean < 0 else "worse"
        return self._number(abs(float(found.mean))) + half + self._unit + " " + way


_OF_ACCURACY = Yardstick("accuracy", "raises the accuracy", 0.002, 0.1, relative=False)
"""0.2 points is about what the seed alone changes on MNIST, 10 points what no one overlooks."""

_OF_ERROR = Yardstick("error", "lowers the error", 0.05, 1.0, relative=True)
"""5% of a mean squared error is about what the seed alone changes in ranging; twofold a drop."""


def yardstick(metric: Metric) -> Yardstick:
    """How values of a metric are compared."""
    return _OF_ACCURACY if metric.higher_is_better else _OF_ERROR


def judge(curves: dict[str, list[Curve]], name: str = "Hyper-VIB") -> list[Verdict]:
    """The paper's claims, put to one task: to the mean over its seeds, and to each seed alone.

    Args:
        curves: as `collect` gives them, `VIB` and the judged method's among them.
        name: the method that is judged.
    """
    vib, hyper = curves["VIB"], curves[name]
    pairs = _paired(hyper, vib)
    alone = [_of_answers([pair], name) for pair in pairs]
    answers = [
        replace(verdict, alone=tuple(one.outcome for one in each))
        for verdict, *each in zip(_of_answers(pairs, name), *alone, strict=True)
    ]
    return _of_cost(vib, hyper, curves.get(f"{name}, 2× epochs"), name) + answers


def _of_cost(
    vib: Sequence[Curve], hyper: Sequence[Curve], longer: Sequence[Curve] | None, name: str
) -> list[Verdict]:
    """The claims on time and size; `longer` is the same method at twice the epochs, if there."""

    def saved(ours: Sequence[Curve]) -> float:
        return 1 - training_seconds(ours) / training_seconds(vib)

    def less(share: float) -> str:
        return f"{abs(share):.1%} {'less' if share >= 0 else 'more'}"

    enough = [saved(ours) >= 0.7 for ours in (hyper, longer) if ours]
    more = hyper[0].parameters / vib[0].parameters - 1
    return [
        Verdict(
            "Training time falls by approximately 80%",
            f"one {name} run takes at least 70% less time than the grid"
            + ", at twice the epochs too (in part: at one of the two)" * bool(longer),
            less(saved(hyper)) + (f", {less(saved(longer))} at twice the epochs" if longer else ""),
            outcome(all(enough), any(enough)),
        ),
        Verdict(
            "Parameter counts are nearly identical",
            f"{name} has less than 2% more than one VIB model",
            f"{more:.2%} more",
            outcome(more < 0.02),
        ),
    ]


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


def _of_answers(pairs: Sequence[tuple[Curve, Curve]], name: str) -> list[Verdict]:
    """The claims on what comes out at each β, of our curve and VIB's for each seed."""
    hyper, vib = ([pair[side] for pair in pairs] for side in (0, 1))
    betas = vib[0].betas
    several = len(betas) > 1
    by = yardstick(vib[0].metric)
    metric_v, metric_h = (over_seeds(group, "metric").mean for group in (vib, hyper))
    behind = by.worse(metric_h, metric_v)
    worst = int(behind.argmax())
    own = _at_beta_of(vib, vib)
    best_to_best = interval(by.worse(_at_beta_of(hyper, hyper), own))
    cost = by.worse(_at_beta_of(hyper, vib), own)
    apart = [abs(np.log10(h.betas[h.selected] / v.betas[v.selected])) for h, v in pairs]
    among = [
        abs(np.log10(a.betas[a.selected] / b.betas[b.selected]))
        for a, b in itertools.combinations(vib, 2)
    ]
    (gain_v, counts_v), (gain_h, counts_h) = (_largest_gain(group, by) for group in (vib, hyper))
    best = np.max if vib[0].metric.higher_is_better else np.min
    fall = float(by.worse(metric_v[-1], best(metric_v)))
    excess = regret(hyper, vib, "test").mean

    return [
        Verdict(
            f"{name} outperforms or rivals VIB for all β",
            f"its mean test {by.noun} is at most {by.text(by.rival)} worse than VIB's at every β "
            "(in part: at over half of them)",
            f"so at {int((behind <= by.rival).sum())} of {len(betas)} β; largest deficit "
            f"{by.text(max(behind[worst], 0))}, at β = {beta_text(betas[worst])}",
            outcome(bool((behind <= by.rival).all()), bool((behind <= by.rival).mean() > 0.5)),
        ),
        Verdict(
            "The same, of what training minimises: a best response for all β",
            "its mean test objective is at most 3% above VIB's at every β (in part: at over half "
            "of them)",
            f"so at {int((excess <= 0.03).sum())} of {len(betas)} β; largest excess "
            f"{excess.max():.1%}, at β = {beta_text(betas[excess.argmax()])}",
            outcome(bool((excess <= 0.03).all()), bool((excess <= 0.03).mean() > 0.5)),
        ),
        Verdict(
            f"At their best, {name} outperforms VIB",
            f"at the β that validation selects for each, its test {by.noun} is the better, and the "
            f"interval over seeds leaves out 0 (in part: at most {by.text(by.rival)} worse)",
            by.among_seeds(best_to_best),
            outcome(bool(best_to_best.high < 0), bool(best_to_best.mean <= by.rival)),
            of_seeds=True,
        ),
        Verdict(
            "The β at each method's peak are closely aligned",
            f"VIB's test {by.noun} at the β that validation selects for {name} is at most "
            f"{by.text(by.rival)} worse than at its own, in the mean over seeds (in part: for most "
            "seeds)",
            f"{by.among_seeds(interval(cost))}; the two β are {np.mean(apart):.1f} decades apart"
            + (f", those of two seeds of VIB {np.mean(among):.1f}" if among else ""),
            outcome(bool(cost.mean() <= by.rival), bool((cost <= by.rival).mean() > 0.5))
            if several
            else "not testable",
            of_seeds=True,
        ),
        Verdict(
            "A smaller β performs better",
            f"over the whole grid, no step to a larger β {by.rises} (mean on test data) by more "
            f"than {by.text(by.rival)} with an interval that leaves out 0, for either method (in "
            "part: for one)",
            f"the best such step: VIB {gain_v}, {name} {gain_h}",
            outcome(not (counts_v or counts_h), not (counts_v and counts_h))
            if several
            else "not testable",
            of_seeds=True,
        ),
        Verdict(
            f"At large β VIB drops fast, {name} keeps a better performance",
            f"from its best to the largest β VIB gets worse by over {by.text(by.drop)}, and there "
            f"{name} is the better of the two (in part: only one of both)",
            f"VIB gets worse by {by.text(fall)}; there {name} is {by.text(abs(behind[-1]))} "
            f"{'better' if behind[-1] < 0 else 'worse'}, its objective {above(excess[-1])} VIB's",
            outcome(fall > by.drop and behind[-1] < 0, fall > by.drop or behind[-1] < 0),
        ),
    ]


PAPER_SECONDS = {
    "mnist": (3_103, 696),
    "cifar10": (236_800, 31_640),
    "bluetooth": (1_759, 479),
    "wifi": (2_042, 584),
}
"""Training time of the grid and of Hyper-VIB in the paper's Table I."""


def together(verdicts: dict[str, list[Verdict]]) -> list[tuple[str, dict[str, Outcome], Outcome]]:
    """Each claim of `judge` with its outcome on every task, and on all of them.

    On all it holds if it does so on each task, in part if on some, and does not if on none.
    """
    found = []
    for per_task in zip(*verdicts.values(), strict=True):
        outcomes = dict(zip(verdicts, (v.outcome for v in per_task), strict=True))
        held = [end == "holds" for end in outcomes.values()]
        everywhere = outcome(all(held), any(held))
        found.append((per_task[0].claim, outcomes, everywhere))
    return found


def curve_rows(curves: dict[str, list[Curve]]) -> list[dict[str, Any]]:
    """Every number of the curves with the record that it is from: the data behind a figure."""
    return [
        {
            "label": curve.label,
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


def task_rows(tasks: dict[str, dict[str, list[Curve]]]) -> list[dict[str, Any]]:
    """`curve_rows` of several tasks, each row with its task's name."""
    return [{"task": task} | row for task, curves in tasks.items() for row in curve_rows(curves)]
