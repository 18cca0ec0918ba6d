"""The paper's claims 7 to 9, which no task's curves over β decide, and all ten claims in order.

Each claim is one function that states the test and what was measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib import ledger
from hvib.book.curves import PAPER, VIB, Curves, collect, task_label
from hvib.book.plan import SEEDS
from hvib.book.statistics import Interval, interval
from hvib.book.verdict import Outcome, Verdict, outcome
from hvib.book.verdicts import Everywhere
from hvib.channel import AWGN
from hvib.evaluation import evaluate
from hvib.methods import METHODS
from hvib.run import Run, beta_grid
from hvib.tasks import build, load, make_run
from hvib.theory import linear, linear_systems
from hvib.train import fit


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


Seeds = Float[np.ndarray, "seed snr"]

SNRS = (-5.0, 5.0, 15.0)
"""in dB, the channels of claim 9 other than that of training"""


@dataclass(frozen=True)
class Elsewhere:
    """Test accuracy at SNRs other than that of training, for each seed and SNR."""

    snrs: tuple[float, ...]
    """in dB"""
    kept: Seeds
    """of a system trained at 20 dB, at the β that validation selects at 20 dB"""
    reselected: Seeds
    """of that system, at the β that validation selects at this SNR"""
    trained: Seeds
    """of a system trained at this SNR, at the β that validation selects for it"""

    @property
    def lost(self) -> Interval:
        """How much less accurate the reselected system is than the one trained there."""
        return interval(self.trained - self.reselected)


def accuracy_elsewhere() -> Elsewhere:
    """Accuracy of Hyper-VIB on the digits at `SNRS`, from what is on file.

    What is not on file is trained and filed.
    """
    runs = [make_run("digits", "hyper-vib", seed=seed) for seed in SEEDS["full"]]
    filed = [ledger.arrays(run, "elsewhere", partial(_at_snrs, run)) for run in runs]
    found = torch.stack([one["accuracy"] for one in filed]).numpy()
    validation, test = found.transpose(2, 0, 1, 3)  # (seed, SNR, β) each; the first SNR is 20 dB
    # The largest β with the best validation accuracy, as `Curve.selected`.
    selected = validation.shape[-1] - 1 - validation[..., ::-1].argmax(-1)  # (seed, SNR)

    def accuracy(choice: np.ndarray) -> Seeds:
        return np.take_along_axis(test, choice[..., None], -1)[:, 1:, 0]

    there = [[replace(run, snr_db=snr) for run in runs] for snr in SNRS]
    retrained = [collect(ledger.sweep(of_snr))[PAPER] for of_snr in there]
    trained = [[c.column("metric", "test")[c.selected] for c in group] for group in retrained]
    at_home = np.broadcast_to(selected[:, :1], selected.shape)
    return Elsewhere(SNRS, accuracy(at_home), accuracy(selected), np.array(trained).T)


def _at_snrs(run: Run) -> dict[str, Tensor]:
    """Accuracy of a trained system at its own SNR, then at `SNRS`: (SNR, split, β)."""
    data, system = load(run.task), METHODS.find(run.method).build(run)
    fit(system, data, run, device="cpu")
    found = []
    for snr in (run.snr_db, *SNRS):
        system.channel = AWGN(snr)
        for split in (data.validation, data.test):
            rows = evaluate(system, split, run.betas, draws=run.draws)
            found.append([row["metric"] for row in rows])
    return {"accuracy": torch.tensor(found).reshape(1 + len(SNRS), 2, -1)}


def adapts(found: Elsewhere) -> Verdict:
    """Claim 9: a trained system adapts to the task's requirement and to the channel's state.

    The gates read β, which is the requirement. They do not read the state of the channel, so the
    system can adapt to it only by another choice of β; the test asks what that choice is worth.
    """
    lost = found.lost.mean
    right = lost <= 0.01
    worst = int(lost.argmax())
    return Verdict(
        "adapts",
        9,
        "The system adapts to channel states (the digits)",
        "at each other SNR, the system trained at 20 dB is at most one point less accurate than "
        "one trained at that SNR, each at the β that validation selects there (in part: at one "
        "SNR at least)",
        f"so at {int(right.sum())} of {len(lost)} SNRs; largest loss {100 * lost[worst]:.1f} "
        f"points, at {found.snrs[worst]:.0f} dB".replace("-", "−"),
        outcome(bool(right.all()), bool(right.any())),
    )


def beside_tasks(tasks: Mapping[str, Curves]) -> list[Verdict]:
    """The verdicts on claims 7, 8 and 9.

    Args:
        tasks: as of `added_parameters`.
    """
    return [linear_case(), compact(added_parameters(tasks)), adapts(accuracy_elsewhere())]


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
