"""Methods that answer every β with one training run: what each takes, and where each is best."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hvib.book.curves import ANSWER, FLEXIBLE, ORDERED, PAPER, REFIT, VIB, Curve, Curves, Key
from hvib.book.optimum import envelope, excess_over_envelope
from hvib.book.statistics import Interval, compare, interval, machine_of, over_seeds, time_ratio
from hvib.book.verdict import Outcome, outcome
from hvib.hyper import at
from hvib.methods import METHODS
from hvib.methods.training import training_by
from hvib.run import Run
from hvib.system import System

FULL, SELF_TUNING, MULTI_RATE = map(
    Key, ("hyper-vib-full", "hyper-vib-self-tuning", "hyper-vib-multi-rate")
)
"""The hypernetworks that the paper cites."""


class Words(NamedTuple):
    """What is told of a method and does not follow from its records."""

    trains: str
    """what is trained"""
    knows: str
    """what it has to know beforehand"""
    deployed: str
    """what the finished system can do"""


_RANGE = "range of β"
_FOLD = "any β at run time, or folded to a plain system"

WORDS: dict[Key, Words] = {
    VIB: Words("a plain system for each β", "each β", "its one β"),
    PAPER: Words("a gate S(u log β + v) on each layer, mean objective", _RANGE, _FOLD),
    Key("hyper-vib-log"): Words("the same gates, mean log objective", _RANGE, _FOLD),
    Key("hyper-vib-free"): Words("gates without bounds, mean log objective", _RANGE, _FOLD),
    ORDERED: Words(
        "gates without bounds, and features that close one by one",
        _RANGE,
        f"{_FOLD}; closed features need not be sent",
    ),
    FULL: Words(
        "a network that makes all weights, in chunks, from log β",
        _RANGE,
        "any β at run time, whose weights are made first; or folded",
    ),
    SELF_TUNING: Words("weights that are affine in log β, twice as many", _RANGE, _FOLD),
    MULTI_RATE: Words("a sigmoid gate at the device, a root at the network", _RANGE, _FOLD),
    FLEXIBLE: Words(
        "a plain answer by regression, no β and no noise",
        "classes or numbers; balanced classes",
        f"{_FOLD}; sends one feature for each component of the answer",
    ),
    REFIT: Words(
        "the same; then three factors at each β on validation data",
        "the same, and the grid of β",
        "the same; between the grid's β interpolated",
    ),
    ANSWER: Words(
        "a plain answer, and a small gated code of it; validation data choose between this code "
        "and the closed form",
        "classes or numbers, and the grid of β",
        _FOLD,
    ),
}
"""The methods of one training run, in the order in which they are told, below VIB's grid."""


def on_these(curves: Curves) -> dict[Key, list]:
    """Those of `WORDS` that a task has on record."""
    return {key: list(curves[key]) for key in WORDS if key in curves}


def first_seeds(curves: Curves, count: int = 3) -> dict[Key, list]:
    """The curves of seeds 0 to `count` − 1, of the methods that have all of them."""
    few = {key: [c for c in group if c.seed < count] for key, group in curves.items()}
    return {key: group for key, group in few.items() if len(group) == count}


def lowest_at(curves: Curves) -> dict[Key, list[float]]:
    """At which β each method's mean test objective is the lowest of all of them.

    Args:
        curves: all at the same β.
    """
    means = {key: over_seeds(group, "objective").mean for key, group in curves.items()}
    betas = next(iter(curves.values()))[0].betas
    best = np.argmin(list(means.values()), 0)
    return {key: betas[best == k].tolist() for k, key in enumerate(means)}


def price(ours: Sequence[Curve], vib: Sequence[Curve]) -> float:
    """Training time of one of our curves in VIB runs, on one machine.

    It is the machine with most of VIB's curves of those on which both were trained; NaN where there
    is none. (`runs_of` compares the machines of the first seeds, which may differ.)
    """

    def timed(curves: Sequence[Curve]) -> list[tuple[frozenset, float]]:
        return [(machine_of(curve), curve.seconds) for curve in curves]

    return time_ratio(timed(ours), timed(vib)) * len(vib[0].betas)


class Distance(NamedTuple):
    """How far a method's test objective is above a rival's, relative to it."""

    mean: Interval
    """over β, over seeds"""
    worst: float
    """the largest at any β, of the mean over seeds"""
    worst_beta: float


class Standing(NamedTuple):
    """A method against VIB, and against the lower envelopes of all other methods."""

    vib: Distance
    equal: Distance
    """above the others with the epochs of one VIB run"""
    others: Distance
    """above the others with any epochs"""
    runs: float
    """price in VIB runs"""

    def against(self, rival: str) -> Outcome:
        """Mean at most 0, worst at most 3%, at most 2 VIB runs; in part if the first holds.

        Args:
            rival: `vib`, `equal` or `others`.
        """
        distance: Distance = getattr(self, rival)
        below = bool(distance.mean.mean <= 0)
        return outcome(below and distance.worst <= 0.03 and self.runs <= 2, below)


def _above(ours: Sequence[Curve], others: Curves) -> Distance:
    """The distance above the envelope of other methods."""
    lowest = envelope(others)
    over_beta = excess_over_envelope(ours, lowest).mean
    mean = interval(np.array([excess_over_envelope([one], lowest).mean.mean() for one in ours]))
    worst = int(np.argmax(over_beta))
    return Distance(mean, float(over_beta[worst]), float(ours[0].betas[worst]))


def standing(curves: Curves, key: Key, timed: Curves | None = None) -> Standing:
    """How a method stands on one task.

    The method itself, at whatever epochs, is left out of the envelopes: below an envelope that it
    is part of, nothing can be.

    Args:
        curves: every method's on record, with the same seeds.
        key: of the method, at the epochs that are judged.
        timed: the curves whose times count, with further seeds; those of `curves` if not given.
    """
    others = {other: group for other, group in curves.items() if other.method != key.method}
    equal = {other: group for other, group in others.items() if other.multiple == 1}
    found, timed = compare(curves[key], curves[VIB]), timed or curves
    return Standing(
        Distance(found.test, found.worst, found.worst_beta),
        _above(curves[key], equal),
        _above(curves[key], others),
        price(timed[key], timed[VIB]),
    )


def standings(
    tasks: Mapping[str, Curves], keys: Sequence[Key], timed: Mapping[str, Curves]
) -> dict[tuple[str, Key], Standing]:
    """`standing` of each method on each task that has it."""
    return {
        (task, key): standing(curves, key, timed[task])
        for task, curves in tasks.items()
        for key in keys
        if key in curves
    }


class Step(NamedTuple):
    """What a training step takes in float32: bytes that it holds, and work without AdamW's."""

    parameters: int
    gradients: int
    optimiser: int
    """AdamW's two moments"""
    saved: int
    """what the forward pass keeps for the backward pass, besides parameters"""
    products: int
    """floating-point operations of matrix products and convolutions, forward and backward"""
    calls: int
    """calls of PyTorch's operators, forward and backward"""

    @property
    def megabytes(self) -> float:
        """All that it holds, in 10⁶ bytes."""
        return sum(self[:4]) / 1e6


class _Calls(TorchDispatchMode):
    """Counts the calls of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # signature of TorchDispatchMode
        self.count += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _kept() -> Iterator[dict[int, Tensor]]:
    """The tensors that a forward pass keeps for the backward pass, one for each storage."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so never used anew
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def step_of(run: Run, x: Shaped[Tensor, "B *shape"], y: Shaped[Tensor, "B *k"]) -> Step:
    """What one training step of a run holds at the end of its forward pass, and computes.

    Counted and not measured, so that it depends on no machine: storages that several tensors share
    count once, and what an operation needs for a moment does not.

    Args:
        x, y: a mini-batch.
    """
    method, cpu = METHODS.find(run.method), torch.device("cpu")
    system = method.build(run)
    assert isinstance(system, System)  # for mypy: methods of one run have no stack
    training = training_by(run, system.train(), cpu, total=1)
    draw = training.draw(len(x))
    with FlopCounterMode(display=False) as flops, _Calls() as calls, at(draw.betas):
        with _kept() as kept:
            losses = training.objectives(draw, system(draw.shares(x), draw.noise), y)
            loss = training.learned(losses, system, y)
        loss.backward()
    own = {p.untyped_storage().data_ptr() for p in system.parameters()}
    saved = sum(t.untyped_storage().nbytes() for where, t in kept.items() if where not in own)
    size = sum(p.nbytes for p in system.parameters())
    learned = sum(p.nbytes for p in system.parameters() if p.requires_grad)
    work = flops.get_total_flops(), calls.count
    return Step(size, learned, 2 * learned, saved, *work)


def device_share(run: Run) -> float:
    """The share of a system's parameters that are the device's."""
    system = METHODS.find(run.method).build(run)
    assert isinstance(system, System)  # for mypy
    count = [sum(p.numel() for p in part.parameters()) for part in (system.device, system)]
    return count[0] / count[1]
