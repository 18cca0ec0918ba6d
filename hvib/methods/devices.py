"""Hyper-VIB of several devices: one training run for every (β_1, …, β_J)."""

from functools import partial
from typing import Any

from torch import nn

from hvib.check import require
from hvib.devices.gated import joined
from hvib.gates.closing import FreeGate, Opening
from hvib.gates.joint import JointFreeGate, JointGate, JointOpening
from hvib.hyper import Gate
from hvib.methods.hyper_vib import draw_beyond, gated
from hvib.methods.method import Style
from hvib.system import System


def _converted(
    model: nn.Module,
    betas: tuple[float, float] | None,
    seed: int,
    example: Any = None,
    *,
    ordered: bool = False,
    everywhere: bool = False,
) -> System:
    mend = "give the ends of the range of each device's β, as (1e-6, 1.0)"
    require(betas is not None, "betas", betas, mend)
    assert betas is not None  # for mypy
    named = {"ordered": ordered, "everywhere": everywhere}
    return joined(model, betas, seed, example, **named)  # type: ignore[arg-type]  # it looks


DEFINED = (
    gated(
        "hyper-vib-joint",
        "Hyper-VIB, β for each device",
        convert=_converted,
        gates=frozenset({Gate, JointGate}),
        joint=True,
        style=Style("#D55E00", "s"),
    ),
    gated(
        "hyper-vib-joint-told",
        "Hyper-VIB, each device told all β",
        convert=partial(_converted, everywhere=True),
        gates=frozenset({JointGate}),
        joint=True,
        style=Style("#E69F00", "v"),
    ),
    gated(
        "hyper-vib-joint-ordered",
        "ordered, β for each device",
        convert=partial(_converted, ordered=True),
        gates=frozenset({FreeGate, JointFreeGate, Opening, JointOpening}),
        joint=True,
        power=0.5,
        draw_betas=draw_beyond,
        style=Style("#222222", "X"),
    ),
)
