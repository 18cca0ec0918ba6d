"""Which layers of a model take a gate."""

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hvib.check import require
from hvib.layers.change import Wrapped, copied, replaced
from hvib.layers.kinds import PASSED, PASSED_FUNCTIONS, is_norm, outputs
from hvib.layers.trace import Call, Calls, followed, is_torch, symbolic


class Chosen(NamedTuple):
    """What `chosen` finds in a model."""

    layers: list[nn.Module]
    """the layers that take a gate, in the order of their registration"""
    unfollowed: list[nn.Module]
    """the modules that may use a layer's weight without calling it, for all that is known"""


def chosen(
    model: nn.Module, behind_norms: bool, example: Tensor | tuple[Any, ...] | None = None
) -> Chosen:
    """Which layers of a model take a gate.

    A linear or convolutional layer takes one if the model calls it on what it computes from its
    input, and makes no other use of the layer's weight or bias, as far as its forward pass could be
    followed. A norm divides out any scale of its input, so a gate on the layer before it would do
    nothing: where each call of a layer is followed by a norm of as many channels, with nothing but
    `PASSED` between the two, the norm takes the gate in the layer's place, if `behind_norms`.
    Calls that could not be followed are taken to be in the order of registration.

    Args:
        example: an input, or a tuple of positional arguments, for the forward pass to follow;
            without one, the pass is symbolic.
    """
    probe = copied(model, shared=True)  # which the passes may leave in any state
    calls = _calls(probe, example)
    # A copy has its modules in the same order.
    same = {id(a): b for a, b in zip(probe.modules(), model.modules(), strict=True)}
    plain = calls.used | {id(call.module) for call in calls.made if not call.of_batch}
    for module in probe.modules():
        if isinstance(module, nn.MultiheadAttention):  # its inner layer's weight goes to a function
            plain |= {id(inner) for inner in module.modules()}
    takers = []
    for layer, following in _registered(probe):
        size = outputs(layer)
        if size is None or is_norm(layer) or id(layer) in plain:
            continue
        norms = _norms_behind(layer, following, calls) if behind_norms else []
        moved = norms and all(
            outputs(norm) == (size[0], 1) and id(norm) not in plain for norm in norms
        )
        takers += norms if moved else [layer]
    _require_one_course(probe, takers, calls, example)
    # The forward passes of PyTorch's own modules are known.
    unknown = [m for m in calls.unfollowed.values() if not is_torch(m)]
    return Chosen([same[id(taker)] for taker in takers], [same[id(m)] for m in unknown])


def _calls(probe: nn.Module, example: Tensor | tuple[Any, ...] | None) -> Calls:
    """What a model is seen to do on symbols, and on an example where there is one."""
    with torch.random.fork_rng(devices=[]):
        seen = None if example is None else followed(probe, example)
        calls = symbolic(probe)
    if seen is not None:
        calls.made, calls.used = seen.made, calls.used | seen.used
    return calls


def _require_one_course(
    probe: nn.Module,
    takers: list[nn.Module],
    calls: Calls,
    example: Tensor | tuple[Any, ...] | None,
) -> None:
    """Refuse a model that does something else once its layers are inside other modules.

    The gated model would, and its fold, whose layers are plain again, would not.

    Raises:
        ValueError: its forward pass makes other calls.
    """

    def course(calls: Calls) -> list[tuple[str, int]]:
        return [(call.name, id(call.module)) for call in calls.made if call.module is not probe]

    wrapped = {id(taker): Wrapped(taker) for taker in takers if taker is not probe}
    same = course(_calls(replaced(probe, wrapped), example)) == course(calls)
    if not same:  # a model whose course is random may pass
        plain = replaced(probe, {id(one): one.layer for one in wrapped.values()})
        same = course(_calls(plain, example)) != course(calls)
    mend = (
        "its forward pass takes another course where its layers have gates, as it does if it asks "
        "isinstance(layer, nn.Linear): let it ask what the layer has, as hasattr(layer, 'weight')"
    )
    require(same, "model", type(probe).__name__, mend)


def _registered(model: nn.Module) -> list[tuple[nn.Module, nn.Module | None]]:
    """Each layer, and the one registered next that does not pass a scale on."""
    leaves = [
        m for m in model.modules() if next(m.children(), None) is None and not isinstance(m, PASSED)
    ]
    return list(itertools.zip_longest(leaves, leaves[1:]))


def _norms_behind(layer: nn.Module, following: nn.Module | None, calls: Calls) -> list[nn.Module]:
    """The norm behind each call of a layer; none at all if some call has none."""
    ends = [_end(call) for call in calls.made if call.module is layer]
    norms = []
    for end in ends or [Call(None, "output")]:
        norm = end.module
        if end.name == "output":
            # Where a part was followed alone, the calls behind it are not known.
            part = [] if norm is None else list(norm.modules())
            norm = None if following in part else following
        if norm is None or not is_norm(norm):
            return []
        norms.append(norm)
    return list(dict.fromkeys(norms))


def _end(call: Call) -> Call:
    """The first call behind this one that does not pass a scale on; none if several follow."""
    while len(call.users) == 1:
        (call,) = call.users
        if not isinstance(call.module, PASSED) and call.name not in PASSED_FUNCTIONS:
            return call
    return Call(None)
