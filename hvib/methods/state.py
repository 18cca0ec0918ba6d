"""Hyper-VIB for every β and every state of the channel: gates of (log β, SNR).

Who knows the state is a matter of which end's gates read it. `hyper-vib` itself, trained over mixed
SNR (`Run.mixed_snr`), is the case in which nobody does.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from hvib.check import require
from hvib.gates.closing import FreeGate, Opening, opened
from hvib.gates.state import SNRS, FreeStateGate, StateGate, StateOpening
from hvib.hyper import Gate, Gated, hyperize
from hvib.methods.belonging import mark
from hvib.methods.hyper_vib import draw_beyond, gated
from hvib.methods.method import Method, Style
from hvib.run import Run
from hvib.system import System
from hvib.tasks.registry import build

End = Literal["device", "network"]

BOTH: tuple[End, ...] = ("device", "network")


def stateful(
    model: nn.Module,
    betas: tuple[float, float],
    seed: int = 0,
    example: Tensor | tuple[Any, ...] | None = None,
    *,
    snrs: tuple[float, float] = SNRS,
    ordered: bool = False,
    ends: Sequence[End] = BOTH,
) -> nn.Module:
    """A copy of a plain model with gates of (log β, SNR).

    Args:
        model: any as `hyperize` takes it; a `System` where it is ordered, or one end is not told.
        betas: the ends of the range of β.
        seed, example: as of `hyperize`.
        snrs: the ends of the range of SNR in dB.
        ordered: gates without bounds, and openings, as `hyper-vib-ordered` has them.
        ends: which ends of the link know the state.

    Raises:
        ValueError: as `hyperize`, or the model is no system and has to be one.
    """
    whole = set(ends) == set(BOTH) and not ordered
    mend = "openings, and ends that do not know the state, are those of a link: give a System"
    require(whole or isinstance(model, System), "model", type(model).__name__, mend)
    make: Any = partial(StateGate, snrs=snrs)
    if ordered:
        make = partial(FreeStateGate, betas=betas, snrs=snrs)
    model = hyperize(model, seed, make, example=example)
    if ordered:
        assert isinstance(model, System)  # for mypy
        model = opened(model, betas, partial(StateOpening, snrs=snrs))
    for end in set(BOTH) - set(ends):
        for module in getattr(model, end).modules():
            if isinstance(module, Gated):
                module.gate = _blind(module.gate)
    return model


def range_for(run: Run) -> tuple[float, float]:
    """The range of SNR in dB that a run's gates are made for: that of its `snrs`, if it has one."""
    return (run.snrs[0], run.snrs[-1]) if len(run.snrs) > 1 else SNRS


def _blind(gate: Gate) -> Gate:
    """The gate of β alone that a gate of both is where w = 0; it takes over the parameters."""
    plain: Gate
    names: tuple[str, ...]
    if isinstance(gate, StateOpening):
        plain, names = Opening(len(gate.c), gate.betas, gate.copies), ("c", "k")
    elif isinstance(gate, FreeStateGate):
        plain, names = (
            FreeGate(gate.out.out_features // 2, gate.betas, len(gate.u)),
            ("u", "v", "out"),
        )
    else:
        assert isinstance(gate, StateGate)  # for mypy
        plain, names = Gate(len(gate.u)), ("u", "v")
    for name in names:
        setattr(plain, name, getattr(gate, name))
    return plain


def _method(name: str, label: str, *, ordered: bool, ends: Sequence[End], **fields: Any) -> Method:
    def system(run: Run) -> System:
        snrs = range_for(run)
        betas = (run.betas[0], run.betas[-1])
        model = stateful(build(run), betas, run.seed, snrs=snrs, ordered=ordered, ends=ends)
        assert isinstance(model, System)  # for mypy
        mark(model, run.method, betas)
        return model

    def convert(
        model: nn.Module, betas: tuple[float, float] | None, seed: int, example: Any = None
    ) -> nn.Module:
        mend = "give the ends of the range of β that the gates are made for, as (1e-6, 1.0)"
        require(betas is not None, "betas", betas, mend)
        assert betas is not None  # for mypy
        return stateful(model, betas, seed, example, ordered=ordered, ends=ends)

    kinds: list[tuple[type[Gate], type[Gate]]] = [(StateGate, Gate)]
    if ordered:
        kinds = [(FreeStateGate, FreeGate), (StateOpening, Opening)]
    told = {which for pair in kinds for which in (pair if len(ends) < 2 else pair[:1])}
    own: dict[str, Any] = {"build": system, "convert": convert, "gates": frozenset(told)}
    return gated(name, label, **(own | fields))


DEFINED = (
    _method(
        "hyper-vib-snr", "SNR known to both", ordered=False, ends=BOTH, style=Style("#D55E00", "s")
    ),
    _method(
        "hyper-vib-snr-receiver",
        "SNR known to the receiver",
        ordered=False,
        ends=("network",),
        style=Style("#E69F00", "v"),
    ),
    _method(
        "hyper-vib-ordered-snr",
        "ordered, SNR known to both",
        ordered=True,
        ends=BOTH,
        power=0.5,
        draw_betas=draw_beyond,
        style=Style("#222222", "X"),
    ),
    _method(
        "hyper-vib-ordered-snr-receiver",
        "ordered, SNR known to the receiver",
        ordered=True,
        ends=("network",),
        power=0.5,
        draw_betas=draw_beyond,
        style=Style("#777777", "d"),
    ),
)
