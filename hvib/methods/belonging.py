"""Whether a gated model, a method and a range of β belong together.

A gated model says what it is for: the method that it was made by, and the ends of the range of β.
One that was put together by hand is known by the kinds of its gates.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from hvib.check import require
from hvib.checks.arrays import Betas
from hvib.hyper import Gate
from hvib.methods.method import Method
from hvib.methods.registry import METHODS
from hvib.run import Run, beta_grid
from hvib.system import Stacked, System, one_of


class MadeFor(NamedTuple):
    """What a gated model is for."""

    method: str
    betas: tuple[float, float] | None
    """the ends of the range of β; None where it was never told one"""


def mark(model: nn.Module, method: str, betas: tuple[float, float] | None) -> None:
    """Have a gated model say what it is for, and the state dictionaries made of it too."""
    model = _written(model)
    if "made_for" not in model.__dict__:
        model.register_state_dict_post_hook(_say_in_state)
    model.__dict__["made_for"] = MadeFor(method, betas)
    watch_loading(model)


def _say_in_state(model: nn.Module, state: object, prefix: str, metadata: dict[str, Any]) -> None:
    """State dictionaries carry what their tensors do not say beside them, and so does this."""
    if known := made_for(model):
        metadata["made_for"] = tuple(known)


def watch_loading(model: nn.Module) -> None:
    """Have a gated model take over what the weights loaded into it are for, or refuse them."""
    if not model.__dict__.get("loading_watched"):
        model.__dict__["loading_watched"] = True
        model.register_load_state_dict_pre_hook(_look_at_state)


def _look_at_state(
    model: nn.Module,
    state: object,
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    if told := metadata.get("made_for"):
        method, betas = told
        for ends in _ranges(model):
            if betas and not _same_range(ends, betas):
                errors.append(
                    f"betas = {betas}: the weights are of a model for β from {betas[0]:g} to "
                    f"{betas[1]:g}, and this one is for {ends[0]:g} to {ends[1]:g}: make it for "
                    "that range."
                )
                return
        known = made_for(model)
        if known is None or known.betas is None:
            mark(model, known.method if known else method, betas)


def made_for(model: nn.Module) -> MadeFor | None:
    """What a gated model says that it is for; None for any other, a folded one among them."""
    model = _written(model)
    gated = any(isinstance(module, Gate) for module in model.modules())
    return model.__dict__.get("made_for") if gated else None


def _written(model: nn.Module) -> nn.Module:
    """The model as it was written, where it is a compiled one."""
    return getattr(model, "_orig_mod", model)


def method_name(model: nn.Module) -> str:
    """The method that a gated model is for: what it says, else the paper's if its gates are.

    Empty where neither tells.
    """
    known = made_for(model)
    kinds = {type(module) for module in model.modules() if isinstance(module, Gate)}
    return known.method if known else "hyper-vib" if kinds == {Gate} else ""


def _same_range(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(a, b, strict=True))


def require_belongs(model: System | Stacked, run: Run, method: Method) -> None:
    """Refuse a model that does not go with the run: it would train, to something else.

    Raises:
        ValueError: its features or its channel are not the run's; a stack has not one system for
            each β; or a gated model is of another method, or made for another range of β.
    """
    system = one_of(model)
    mend = f"the model has {system.features}: give the run as many"
    require(system.features == run.features, "features", run.features, mend)
    if hasattr(system.channel, "snr_db"):
        mend = f"the model's channel has {system.channel.snr_db:g} dB: give the run the same"
        require(math.isclose(system.channel.snr_db, run.snr_db), "snr_db", run.snr_db, mend)
    if method.fixed:
        count = len(next(model.parameters())) if isinstance(model, Stacked) else 1
        mend = f"method {run.method} needs a `Stacked` of one system for each of {len(run.betas)} β"
        require(count == len(run.betas), "model", type(model).__name__, mend)
        gated = any(isinstance(module, Gate) for module in system.modules())
        mend = "it trains for one β, and the model has gates: fold(model, β) it first"
        require(not gated, "method", method.name, mend)
    else:
        require_gates(model, method, (run.betas[0], run.betas[-1]))


def _ranges(model: nn.Module) -> list[tuple[float, float]]:
    """The ends of each range of β that a gated model or one of its gates was made for."""
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    ranges: list[tuple[float, float]] = [vars(g)["betas"] for g in gates if "betas" in vars(g)]
    known = made_for(model)
    return [*ranges, known.betas] if known and known.betas else ranges


def require_gates(model: nn.Module, method: Method, ends: tuple[float, float]) -> None:
    """Refuse gates of another method than this, or made for another range of β than these ends.

    Raises:
        ValueError: the model has such gates, or none.
    """
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    mend = f"it has no gates, which method {method.name} trains: `hyperize` it first"
    require(bool(gates), "model", type(model).__name__, mend)
    known = made_for(model)
    if known and known.method != method.name:
        mend = f"the model was made by method {known.method}: give the run that, or gate it anew"
        require(False, "method", method.name, mend)
    kinds = frozenset(map(type, gates))
    # A kind that no method has is a reader's own, which may train under any weights.
    of_others = {kind for other in METHODS.all().values() for kind in other.gates}
    if kinds != method.gates and kinds <= of_others:
        has, wants = (
            ", ".join(sorted(kind.__name__ for kind in each)) for each in (kinds, method.gates)
        )
        mend = f"it trains gates of kind {wants}, and the model has {has}: take its method"
        require(False, "method", method.name, mend)
    for told in _ranges(model):
        mend = f"the model's gates are made for β from {told[0]:g} to {told[1]:g}: give that range"
        require(_same_range(told, ends), "betas", ends, mend)


def grid_of(model: nn.Module) -> tuple[float, ...]:
    """The grid of β over the range that a gated model was made for.

    Raises:
        ValueError: it knows no range.
    """
    known = made_for(model)
    mend = "the model knows no range of β: give those to evaluate at"
    require(known is not None and known.betas is not None, "betas", None, mend)
    assert known is not None  # for mypy
    assert known.betas is not None
    return beta_grid(*known.betas)


def warn_beyond(model: nn.Module, betas: Sequence[Betas]) -> None:
    """Warn of β beyond the range that a gated model was made for: its gates are guesses there."""
    known = made_for(model)
    # Gates that learn nothing have seen no β, and need none.
    learnt = any(True for m in model.modules() if isinstance(m, Gate) for _ in m.parameters())
    if known is None or known.betas is None or not learnt:
        return
    low, high = known.betas
    flat = [one for beta in betas for one in (beta if isinstance(beta, tuple) else (beta,))]
    beyond = [beta for beta in dict.fromkeys(flat) if not low * 0.99 <= beta <= high * 1.01]
    if beyond:
        message = (
            f"betas = {beyond}: the model was made for β from {low:g} to {high:g}, "
            "and its gates have seen none beyond"
        )
        warnings.warn(message, stacklevel=4)
