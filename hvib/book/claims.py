"""The paper's claims 7 and 8, which no task's curves over β decide, and all ten claims in order.

Each claim is one function that states the test and what was measured. Claim 9 is
`hvib.book.state_results.adapts`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from torch import nn

from hvib.book import state_results
from hvib.book.curves import PAPER, VIB, Curves, task_label
from hvib.book.verdict import Outcome, Verdict, outcome
from hvib.book.verdicts import Everywhere
from hvib.run import beta_grid
from hvib.tasks import build, make_run
from hvib.theory import linear, linear_systems


def linear_case() -> Verdict:
    """Claim 7: the gated linear network of Theorem 1 is the best response (10).

    The data are 1,024 examples of a linear system with Gaussian inputs. The network's weights
    come from the closed forms (26) to (28), the best response from (24).
    """
    data = linear_systems.gaussian_data(1024, np.array([1.0, -2.0, 0.5]), 0.5, seed=0)
    X, y = linear_systems.examples(data)
    betas = np.array(beta_grid(1e-5, 1e5))
    exact = linear.best_response(X, y, 1.0, betas)
    gap = np.abs(linear.theorem1(X, y, 1.0).response(betas) / exact - 1).max()
    small = bool(gap < 1e-9)
    return Verdict(
        "linear",
        7,
        "The gated linear device is the best response exactly",
        "each weight of the network of (26) to (28) differs from that of (24) by less than "
        "10⁻⁹ of it, at every β over ten decades",
        # The gap itself is rounding, which differs from processor to processor.
        "the largest relative difference is " + ("below 10⁻⁹" if small else f"{gap:.1g}"),
        outcome(small),
    )


class Added(NamedTuple):
    """How many parameters the paper's gates add to a task's plain system."""

    recorded: int
    """parameters of Hyper-VIB on record less those of VIB"""
    claimed: int
    """2 Σ m_l over the linear and convolutional layers"""


def added_parameters(tasks: Mapping[str, Curves]) -> dict[str, Added]:
    """What the gates add on each task.

    Args:
        tasks: the curves of VIB and Hyper-VIB, by task.
    """

    def units(task: str) -> int:
        layers = build(make_run(task, "vib", betas=(1e-3,))).modules()
        return sum(len(m.weight) for m in layers if isinstance(m, nn.Linear | nn.Conv2d))

    return {
        task: Added(curves[PAPER][0].parameters - curves[VIB][0].parameters, 2 * units(task))
        for task, curves in tasks.items()
    }


def compact(added: Mapping[str, Added]) -> Verdict:
    """Claim 8: a gate has two parameters for each unit or filter of its layer."""
    wrong = [task_label(task) for task, one in added.items() if one.recorded != one.claimed]
    return Verdict(
        "compact",
        8,
        "The hypernetwork adds 2 m parameters to a layer",
        "the recorded Hyper-VIB has exactly 2 Σ m parameters more than the recorded VIB, on each "
        "task (m: units or filters of a layer)",
        f"another number on {', '.join(wrong)}" if wrong else "exactly so on each task",
        outcome(not wrong),
    )


def beside_tasks(tasks: Mapping[str, Curves]) -> list[Verdict]:
    """The verdicts on claims 7, 8 and 9.

    Args:
        tasks: as of `added_parameters`.
    """
    ninth = state_results.adapts(state_results.recorded(state_results.CASES))
    return [linear_case(), compact(added_parameters(tasks)), ninth]


class Ended(NamedTuple):
    """How a claim of the paper ends on all tasks."""

    number: int
    claim: str
    outcome: Outcome


def in_order(found: Mapping[str, Everywhere], others: Iterable[Verdict]) -> list[Ended]:
    """The paper's claims in order of their number; tests of the book's own are left out.

    Args:
        found: the claims that are put to each task, as `together` gives them.
        others: the verdicts of this module.
    """
    ended = [Ended(one.number, one.claim, one.whole) for one in found.values() if one.number]
    ended += [Ended(one.number, one.claim, one.outcome) for one in others if one.number]
    return sorted(ended)
