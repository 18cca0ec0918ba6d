"""Hyper-VIB: the paper's method, and the steps from it to one that is near VIB at every β."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hvib import objective
from hvib.check import require
from hvib.gates.closing import FreeGate, Opening, opened
from hvib.hyper import Gate, fold, hyperize
from hvib.methods.belonging import mark
from hvib.methods.method import Convert, Method, Style
from hvib.run import Run
from hvib.system import Stacked, System
from hvib.tasks.registry import build


def _several_shares(run: Run) -> None:
    require(
        run.batch_size % run.shares == 0,
        "batch_size",
        run.batch_size,
        f"give a multiple of the M = {run.shares} shares of a mini-batch",
    )


def converted(
    gate: type[Gate] = Gate, *, opening: bool = False, behind_norms: bool = True
) -> Convert:
    """Makes a plain model into one that is gated layer by layer.

    Args:
        gate: of each layer. One that `needs_range` is told the ends of the range of β.
        opening: whether each feature has an `Opening` besides, at both ends of the link.
        behind_norms: as `hyperize` has it.
    """

    def convert(
        model: nn.Module, betas: tuple[float, float] | None, seed: int, example: Any = None
    ) -> nn.Module:
        make: Callable[..., Gate] = gate
        if gate.needs_range or opening:
            mend = "give the ends of the range of β that the gates are made for, as (1e-6, 1.0)"
            require(betas is not None, "betas", betas, mend)
        if gate.needs_range:
            make = partial(make, betas=betas)
        model = hyperize(model, seed, make, behind_norms=behind_norms, example=example)
        if not opening:
            return model
        mend = "an opening is for the features of a link: give a System"
        require(isinstance(model, System), "model", type(model).__name__, mend)
        assert isinstance(model, System)  # for mypy
        assert betas is not None
        return opened(model, betas)

    return convert


def gated(
    name: str,
    label: str,
    gate: type[Gate] = Gate,
    *,
    opening: bool = False,
    behind_norms: bool = True,
    **fields: Any,
) -> Method:
    """A method that trains one gated system for a range of β.

    Args:
        gate, opening, behind_norms: as `converted` has them.
        fields: of `Method`, where they differ.
    """
    convert = fields.pop("convert", converted(gate, opening=opening, behind_norms=behind_norms))

    def system(run: Run) -> System:
        ends = (run.betas[0], run.betas[-1])
        model = convert(build(run), ends, run.seed)
        mark(model, run.method, ends)
        return model

    defaults: dict[str, Any] = {
        "build": system,
        "convert": convert,
        "gates": frozenset({gate, Opening} if opening else {gate}),
        "shares": lambda run: run.shares,
        "fixed": False,
        "hypernetwork": True,
        "check": _several_shares,
    }
    return Method(name=name, label=label, **(defaults | fields))


_ordered = converted(FreeGate, opening=True)


def ordered_system(run: Run) -> System:
    """Gates without bounds on every layer, openings at both ends of the link."""
    system = _ordered(build(run), (run.betas[0], run.betas[-1]), run.seed)
    assert isinstance(system, System)  # for mypy
    return system


def draw_beyond(beta_min: float, beta_max: float, count: int, generator: torch.Generator) -> Tensor:
    """M draws of β, stratified, over the range and a quarter decade more at each end.

    At the ends of what it has seen a gate fits worst, so the ends are moved out of the range.
    """
    more = 10**0.25
    return objective.draw_betas(beta_min / more, beta_max * more, count, generator)


def _folded(run: Run) -> Stacked:
    system = ordered_system(run)
    return Stacked([fold(system, beta) for beta in run.betas])


def _tuned(run: Run) -> Iterator[tuple[System, Run]]:
    """A gated system first; then, folded at each β, a plain one that trains on for a little.

    Each folded system has a tenth of the epochs, at a tenth of the learning rate.
    """
    system = ordered_system(run)
    yield system, replace(run, method="hyper-vib-ordered")
    brief = replace(
        run,
        method="vib",
        epochs=math.ceil(run.epochs / 10),
        learning_rate=run.learning_rate / 10,
    )
    for beta in run.betas:
        yield fold(system, beta), replace(brief, betas=(beta,))


STEPS = ("hyper-vib", "hyper-vib-log", "hyper-vib-free", "hyper-vib-ordered")
"""The paper's method, the one that is nearest to a best response at every β, and those between,
each of which changes one thing more."""

DEFINED = (
    # The mean objective (15).
    gated(
        "hyper-vib",
        "Hyper-VIB",
        style=Style("#D55E00", "s"),
        longer_style=Style("#AA4499", "D"),
    ),
    # Gates before norms, which divide them out.
    gated("hyper-vib-before", "Hyper-VIB, gates before norms", behind_norms=False),
    # The mean logarithm of the objective, which has no scale.
    gated("hyper-vib-log", "Hyper-VIB, log", power=1.0, style=Style("#E69F00", "v")),
    # The same with gates that have no bounds.
    gated(
        "hyper-vib-free",
        "Hyper-VIB, free",
        FreeGate,
        power=1.0,
        style=Style("#009E73", "P"),
    ),
    # Free gates, features that close one by one as β grows, and weights halfway between (15) and
    # the logarithm.
    gated(
        "hyper-vib-ordered",
        "Hyper-VIB, ordered",
        FreeGate,
        opening=True,
        power=0.5,
        draw_betas=draw_beyond,
        style=Style("#222222", "X"),
        longer_style=Style("#777777", "d"),
    ),
    # The ordered system, folded at each β of the grid and trained there a little longer.
    Method(
        name="hyper-vib-tuned",
        label="Hyper-VIB, tuned",
        build=_folded,
        shares=lambda run: 1,
        fixed=True,
        hypernetwork=True,
        parts=_tuned,
        check=_several_shares,
        one_system_each=True,
        style=Style("#CC79A7", "^"),
    ),
)
