"""VIB at its best: with known remedies, and with the best number of epochs of each β."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from hvib.book.curves import ORDERED, PAPER, VIB, Curve, Curves, Key, collect
from hvib.book.plan import SEEDS, plan, studies
from hvib.book.statistics import Interval, excess, interval, paired, shared_betas
from hvib.ledger import Record, sweep
from hvib.methods.tended import REMEDIES
from hvib.run import Run
from hvib.tasks import Planned, make_run

TENDED = Key("vib-tended")
"""VIB with all remedies at once."""

AVERAGED = (Key("hyper-vib-averaged"), Key("hyper-vib-ordered-averaged"))
"""The paper's method and the ordered one, each with averaged weights."""

AT_BEST = Key("VIB, at its best")
"""At each β the run of VIB that validation selects, among all remedies and numbers of epochs."""

MIDDLE = (1e-3, 0.1)
"""The middle β: from the end of the plateau to where VIB's features begin to collapse."""


def study(planned: Planned) -> list[Run]:
    """All runs of the page's own task: its plan, and for the first three seeds VIB's remedies.

    VIB at each β with all remedies, at every other β with each alone, and with half and twice the
    epochs; and the two gated methods with averaged weights.
    """
    vib = planned.three_seeds(planned.vib)
    some = planned.three_seeds(planned.vib_at(planned.grid[::2]))
    methods = ("vib", "hyper-vib", "hyper-vib-ordered")
    return [
        *(run for run in planned.three_seeds(planned.runs) if run.method in methods),
        *(replace(run, method=method) for method in REMEDIES for run in some),
        *(replace(run, method=TENDED.method) for run in vib),
        *(replace(run, epochs=max(run.epochs // 2, 1)) for run in some),
        *(replace(run, epochs=2 * run.epochs) for run in some),
        *_averaged(planned),
    ]


def tended_runs(task: str, profile: str = "full") -> list[Run]:
    """The runs of another task, for the first three seeds.

    Those of its own page, VIB with all remedies at once, the averaged gates, and VIB at more
    epochs: what the task's studies have of it, else twice the epochs at middle β. Bluetooth, where
    VIB's training is worst, has the remedies at each β, and the others from the middle β on.
    """
    seeds = SEEDS[profile][:3]
    planned = Planned(plan(task, profile, seeds=seeds))
    beside = studies(task, profile, seeds=seeds)
    middle = [run for run in planned.vib if MIDDLE[0] <= run.betas[0] <= MIDDLE[1]]
    twice = [replace(run, epochs=2 * run.epochs) for run in middle]
    longer = beside["longest"] if "longest" in beside else [*beside["twice"], *twice]
    from_middle = [run for run in planned.vib if run.betas[0] >= MIDDLE[0]]
    tended = [
        replace(run, method=TENDED.method)
        for run in (planned.vib if task == "bluetooth" else from_middle)
    ]
    runs = [*planned.runs, *longer, *tended, *_averaged(planned)]
    return list(dict.fromkeys(run for run in runs if run.method != "vib-batched"))


def _averaged(planned: Planned) -> list[Run]:
    """The two gated methods with averaged weights, at the epochs of a VIB run."""
    return [
        replace(run, method=f"{method}-averaged")
        for method in ("hyper-vib", "hyper-vib-ordered")
        for run in planned.three_seeds(planned.once(method))
    ]


def of_method(curves: Curves, prefix: str) -> dict[Key, Sequence[Curve]]:
    """The curves of one method with whatever remedies and epochs.

    Args:
        prefix: `vib`, or a gated method's name.
    """
    remedies = {prefix, f"{prefix}-averaged"}
    if prefix == "vib":
        remedies |= {*REMEDIES, TENDED.method}
    return {key: group for key, group in curves.items() if key.method in remedies}


class AtBest(NamedTuple):
    """A method at its best."""

    curves: list[Curve]
    chosen: tuple[Key, ...]
    """what each β has"""


def vib_at_best(curves: Curves) -> AtBest:
    """At each β, the remedy and the epochs that have the least mean objective on validation.

    Only seeds that every candidate has count, so that none is chosen for its luck.

    Args:
        curves: a task's; a candidate need not have every β.
    """
    candidates = of_method(curves, "vib")
    common = set.intersection(*({c.seed for c in group} for group in candidates.values()))
    chosen, records = [], dict[int, list[Record]]()
    for beta in curves[VIB][0].betas:
        means = {
            key: float(np.mean([at[0] for at in found]))
            for key, group in candidates.items()
            if (found := [_at(c, beta) for c in group if c.seed in common])[0].size
        }
        key = min(means, key=means.__getitem__)
        chosen.append(key)
        for curve in candidates[key]:
            if curve.seed in common:
                (record,) = (r for r in curve.records if np.isclose(r.config.betas[0], beta))
                records.setdefault(curve.seed, []).append(record)
    best = [Curve(AT_BEST, seed, tuple(found)) for seed, found in sorted(records.items())]
    return AtBest(best, tuple(chosen))


def _at(curve: Curve, beta: float) -> Float[np.ndarray, " found"]:
    """The validation objective at one β, if the curve has it."""
    return curve.column("objective", "validation")[np.isclose(curve.betas, beta)]


def gated_at_best(curves: Curves, prefix: str) -> AtBest:
    """Of a gated method, the epochs and the averaging with the least objective on validation.

    One network serves all β, so one choice does. It minimises the mean over β and seeds of the
    logarithm of the objective, because that has no scale.
    """
    candidates = of_method(curves, prefix)
    common = set.intersection(*({c.seed for c in group} for group in candidates.values()))
    own = {key: [c for c in group if c.seed in common] for key, group in candidates.items()}
    means = {
        key: np.mean([np.log(c.column("objective", "validation")) for c in group])
        for key, group in own.items()
    }
    key = min(means, key=means.__getitem__)
    return AtBest(own[key], (key,) * len(curves[VIB][0].betas))


def lead(ours: Sequence[Curve], vib: Sequence[Curve], split: str = "test") -> Interval:
    """By how much our objective is below VIB's at middle β: mean over β, interval over seeds.

    Relative to VIB's objective, and negative where VIB is ahead.
    """
    return interval(
        np.array(
            [
                -excess([one], vib, split).mean[_middle(one, vib)].mean()
                for one, _ in paired(ours, vib)
            ]
        )
    )


def _middle(ours: Curve, vib: Sequence[Curve]) -> Bool[np.ndarray, " beta"]:
    """Which of the β that both have are middle ones; all where none is."""
    betas = shared_betas([ours], vib)
    within = (betas > 0.99 * MIDDLE[0]) & (betas < 1.01 * MIDDLE[1])
    return within if within.any() else np.ones_like(within)


class Leads(NamedTuple):
    """What is left of a gated method's lead over VIB at middle β, as VIB is given more."""

    plain: Interval
    """over VIB as the pages have it, at the epochs of a VIB run"""
    tended: Interval
    """over VIB at its best"""
    both: Interval
    """of the gated method at its best over VIB at its best"""

    @property
    def explained(self) -> float:
        """The share of the lead that VIB at its best makes up.

        NaN where there is no lead to share: its interval holds 0, or VIB is ahead.
        """
        if not (self.plain.has_a_sign and self.plain.mean > 0):
            return np.nan
        return 1 - float(self.tended.mean / self.plain.mean)


def leads(curves: Curves, key: Key, split: str = "test") -> Leads:
    """The leads of a gated method on one task.

    Args:
        key: of the method at the epochs of a VIB run.
    """
    best, ours = vib_at_best(curves).curves, gated_at_best(curves, key.method).curves
    seeds = {curve.seed for curve in best}
    plain = [curve for curve in curves[key] if curve.seed in seeds]
    return Leads(lead(plain, curves[VIB], split), lead(plain, best, split), lead(ours, best, split))


def all_leads(tasks: Mapping[str, Curves]) -> dict[tuple[str, Key], Leads]:
    """The leads of the paper's method and of the ordered one on each task."""
    return {
        (task, key): leads(curves, key)
        for task, curves in tasks.items()
        for key in (PAPER, ORDERED)
    }


def tuned_over_best(task: str, curves: Curves) -> Interval:
    """The training lead over VIB at its best of plain systems that start from a gated one.

    They are those of `hyper-vib-tuned`: the ordered system, folded at each β and trained on.

    Args:
        curves: the task's, as `vib_at_best` takes them.
    """
    runs = [make_run(task, "hyper-vib-tuned", seed=seed) for seed in SEEDS["full"][:3]]
    (tuned,) = collect(sweep(runs)).values()
    return lead(tuned, vib_at_best(curves).curves, "train")
