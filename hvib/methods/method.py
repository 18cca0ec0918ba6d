"""A method as one value: what it trains, how it draws and weights β, its cost and its look."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hvib import objective
from hvib.check import require
from hvib.data import Data
from hvib.hyper import Gate
from hvib.run import Run
from hvib.system import Stacked, System

Convert = Callable[..., nn.Module]
"""makes a gated model: from a plain one, the ends of the range of β or None, the gates' seed, and
where one is given an example input, as `hyperize` takes it"""

DrawBetas = Callable[[float, float, int, torch.Generator], Tensor]
"""draws the β of a step: from the smallest, the largest, how many, and the source of chance"""


class Style(NamedTuple):
    """How a figure draws a method."""

    color: str = "#555555"
    marker: str = "."


PLAIN = Style()
"""The style of what has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """Everything that the package knows of a method. A reader's joins with `methods.register`.

    Runs find it by `name`, the figures call it `label`.
    """

    name: str
    label: str
    build: Callable[[Run], System | Stacked]
    """makes what the run trains, from its seed"""
    convert: Convert | None = None
    """makes a gated model of a plain one, where one network answers every β"""
    gates: frozenset[type[Gate]] = frozenset()
    """the kinds of gates that the converted model has"""
    shares: Callable[[Run], int]
    """into how many shares a mini-batch is split, each with its own β"""
    fixed: bool
    """β is the run's own; otherwise it is drawn anew in each step"""
    joint: bool = False
    """each of several devices has a β of its own, drawn and evaluated in all combinations"""
    hypernetwork: bool = False
    """one network answers every β of a range"""
    parts: Callable[[Run], Iterator[tuple[System, Run]]] | None = None
    """where systems train one after another: each with its own run"""
    draw_betas: DrawBetas = objective.draw_betas
    power: float = 0.0
    """p: each β's loss is divided by a running estimate of its size to this power"""
    warm_up: float = 0.0
    """over which share of the steps β rises linearly from 0 to the run's own, where it is fixed"""
    average: float = 0.0
    """over which share of the steps an exponential moving average of the weights reaches back;
    training ends with the averages (0: with the last weights)"""
    keeps_best: bool = False
    """training ends with the weights of the epoch that has the least objective on validation"""
    beside: Callable[[System, Tensor], Tensor] | None = None
    """a loss of its own, added to each step's: from the system that has just been passed the
    step's examples, and their targets"""
    finish: Callable[[System, Data, Run], None] | None = None
    """what is fitted behind the training, on the validation split"""
    check: Callable[[Run], None] = lambda run: None
    """raises `ValueError` where a run's settings do not fit"""
    one_system_each: bool = False
    """it ends in a stack with a system for each β"""
    systems: Callable[[Run], int] = lambda run: 1
    """its cost: for how many systems an epoch counts, so that searches compare at equal work"""
    style: Style = PLAIN
    longer_style: Style = PLAIN
    """the style of its curve at twice the epochs"""

    def __post_init__(self) -> None:
        for name in ("warm_up", "average"):
            share = getattr(self, name)
            require(0 <= share <= 1, name, share, "give a share of the steps, in [0, 1]")
        mend = "β is drawn anew in each step, so there is none to rise: leave it out"
        require(self.fixed or not self.warm_up, "warm_up", self.warm_up, mend)
        mend = "it compares epochs by the objective at one β: leave it out"
        alone = self.fixed and not self.one_system_each
        require(alone or not self.keeps_best, "keeps_best", self.keeps_best, mend)
