"""Verdicts on the paper's claims: all claims put to a task, and each claim on all tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hvib.book.curves import PAPER, VIB, Curve, Curves, Key, label_of
from hvib.book.statistics import Comparison, compare, paired, runs_of
from hvib.book.task_claims import OF_ANSWERS, OF_COST, Case
from hvib.book.verdict import Outcome, Verdict, agreement_of, outcome
from hvib.methods import METHODS


def judge(curves: Curves, key: Key = PAPER) -> dict[str, Verdict]:
    """The paper's claims, put to one task: to the mean over its seeds, and to each seed alone.

    Args:
        curves: as `collect` gives them, VIB's and the judged ones among them.
        key: of the curves that are judged.

    Returns:
        The verdicts by their keys, in the order in which the book tells them.
    """
    vib, ours, name = curves[VIB], curves[key], label_of(key)
    longer = curves.get(Key(key.method, 2 * key.multiple))
    verdicts = [claim(Case(name, ours, vib, longer)) for claim in OF_COST]
    pairs = paired(ours, vib)
    # Each seed's pair of curves, and all of them.
    alone = [Case(name, [mine], [theirs]) for mine, theirs in pairs]
    whole = Case(name, *([pair[side] for pair in pairs] for side in (0, 1)))
    for claim in OF_ANSWERS:
        ends = tuple(claim(case).outcome for case in alone)
        verdicts.append(replace(claim(whole), alone=ends))
    return {verdict.key: verdict for verdict in verdicts}


class Everywhere(NamedTuple):
    """A claim on all tasks."""

    number: int | None
    """of the paper's claims; None for a test that the paper does not make"""
    claim: str
    outcomes: dict[str, Outcome]
    """by task"""
    whole: Outcome
    """holds if it does so on each task, in part if on some, and does not if on none"""


def together(verdicts: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Everywhere]:
    """Each claim of `judge`, by its key, with its outcome on every task and on all of them.

    Args:
        verdicts: of `judge`, by task.
    """
    found = {}
    for key, verdict in next(iter(verdicts.values())).items():
        outcomes = {task: per_key[key].outcome for task, per_key in verdicts.items()}
        held = [end == "holds" for end in outcomes.values()]
        whole = outcome(all(held), any(held))
        found[key] = Everywhere(verdict.number, verdict.claim, outcomes, whole)
    return found


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


def best_response_alone(ours: Sequence[Curve], vib: Sequence[Curve]) -> str:
    """On how many seeds alone `best_response` ends as on their mean: `2 of 3`."""
    runs = runs_of(ours, vib)
    ends = [best_response(compare([curve], vib), runs) for curve, _ in paired(ours, vib)]
    return agreement_of(best_response(compare(ours, vib), runs), ends)


class Tally(NamedTuple):
    """On which tasks a variant passes the test of a best response, and which parts of it."""

    below: list[str]
    """its test objective is on average over β no higher than VIB's"""
    surely: list[str]
    """it is lower, and the 95% interval over seeds leaves out 0"""
    passed: list[str]
    """`best_response` holds"""
    but_for_price: list[str]
    """`best_response` would hold if the run cost nothing, and does not"""
    worst: float
    """largest relative excess at any β of any task, of the mean over seeds"""


def tally(tasks: Mapping[str, Curves], key: Key) -> Tally:
    """How a variant's test objective compares with VIB's on all tasks.

    Args:
        key: of the variant; each task has it.
    """
    found = {task: compare(curves[key], curves[VIB]) for task, curves in tasks.items()}
    runs = {task: runs_of(curves[key], curves[VIB]) for task, curves in tasks.items()}
    passed = [task for task in tasks if best_response(found[task], runs[task]) == "holds"]
    free = [task for task in tasks if best_response(found[task], 0) == "holds"]
    return Tally(
        below=[task for task in tasks if found[task].test.mean <= 0],
        surely=[task for task in tasks if found[task].test.high < 0],
        passed=passed,
        but_for_price=[task for task in free if task not in passed],
        worst=max(one.worst for one in found.values()),
    )


def cheapest_match(curves: Curves) -> Key | None:
    """The hypernetwork of least training time whose test objective matches the grid's, if any does.

    It matches if it is on average over β and seeds at most 1% above VIB's, relative to it.
    """
    vib = curves[VIB]
    reached = [
        key
        for key, group in curves.items()
        if METHODS.find(key.method).hypernetwork and compare(group, vib).test.mean <= 0.01
    ]
    return min(reached, key=lambda key: runs_of(curves[key], vib), default=None)
