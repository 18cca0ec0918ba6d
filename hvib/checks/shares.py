"""Whether each share of a batch meets the β that it was given.

A gate cuts what reaches it into M equal shares, one for each β. That is right only if its first
axis is the batch, example after example. A model that joins two views of each example along the
batch, or puts another axis first, has rows in another order, and the gates give them another β.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.check import require
from hvib.hyper import Gate, Gated, Model, at, log_beta_now
from hvib.system import System, batch_rows

EXAMPLES = 4
"""How many examples of each share are compared: the order of the rows shows in few."""

RANDOM = 1e-4
"""Two passes of the same batch that are further apart than this are random by themselves."""

OFF = 1e-2
"""A share is another one if it is further than this from itself alone; rounding is a thousandth."""


@contextmanager
def _plain_modes(model: nn.Module) -> Iterator[None]:
    """Every module in `eval` mode, without gradients and half precision; as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device.type
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _steep_gates(model: nn.Module, betas: Float[Tensor, " M"]) -> Iterator[None]:
    """All gates scale by 0.8 at the smallest β to 1 at the largest.

    Their own parameters would not do: free gates start with one scale for all β.
    """
    low, high = betas.log().aminmax()

    def modulation(log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        return (0.8 + 0.2 * (log_beta - low) / (high - low).clamp(min=1e-9))[:, None], None

    gates = [module for module in model.modules() if isinstance(module, Gate)]
    for gate in gates:
        gate.__dict__["modulation"] = modulation  # hides the method of the class
    try:
        yield
    finally:
        for gate in gates:
            del gate.__dict__["modulation"]


def _apart(batch: Tensor, alone: Tensor) -> float:
    """How far two outputs are from each other, relative to their size."""
    return float((batch - alone).norm() / (alone.norm() + 1e-12))


def require_equal_shares(
    system: System,
    x: Shaped[Tensor, "M N *shape"],
    noise: Float[Tensor, "2 M N n"],
    betas: Float[Tensor, " M"],
) -> None:
    """Refuse a system in which the last share of a batch differs from that share passed alone.

    The comparison is in `eval` mode, with gates that differ clearly between the β. A system whose
    output is random by itself cannot be compared, and passes.

    Raises:
        ValueError: the outputs differ.
    """
    gated = any(isinstance(module, Gated) for module in system.modules())
    if not gated or len(betas) < 2 or torch.compiler.is_compiling():
        return
    x, noise = x[:, :EXAMPLES], noise[:, :, : x[:, :EXAMPLES].shape[1]]
    with _plain_modes(system), _steep_gates(system, betas), torch.random.fork_rng(devices=[]):
        with at(betas):
            first, again = system(x, noise), system(x, noise)
        with at(betas[-1:]):
            alone = system(x[-1:], noise[:, -1:])
    parts = {"device": "mean", "network": "prediction"}
    if any(_apart(getattr(first, name), getattr(again, name)) > RANDOM for name in parts.values()):
        return
    for part, name in parts.items():
        off = _apart(getattr(first, name)[-1:], getattr(alone, name))
        mend = (
            f"in a batch of {len(betas)} shares, one for each β, the output of the last share "
            f"differs by this much from that share alone at its β: make the first axis of "
            "everything that reaches a layer the batch, example after example"
        )
        require(off < OFF, f"difference of the {part}'s output", f"{off:.0%}", mend)


def _check_rows(model: nn.Module, inputs: tuple[object, ...]) -> None:
    """The same for a model outside a system, at its first pass with several β."""
    if model.__dict__.get("_rows_checked") or torch.compiler.is_compiling():
        return
    log_beta, x = log_beta_now.get(None), inputs[0] if len(inputs) == 1 else None
    if log_beta is None or not isinstance(x, Tensor) or len(log_beta) < 2:
        return
    if len(x) % len(log_beta):
        return  # the gates say so
    if batch_rows.get() > 1:
        return  # it is part of a system, which is checked as a whole
    model.__dict__["_rows_checked"] = True
    betas, share = log_beta.exp(), len(x) // len(log_beta)
    with _plain_modes(model), _steep_gates(model, betas), torch.random.fork_rng(devices=[]):
        first, again = model(x), model(x)
        with at(betas[-1:]):
            alone = model(x[-share:])
    if not isinstance(first, Tensor) or len(first) != len(x) or _apart(first, again) > RANDOM:
        return
    off = _apart(first[-share:], alone)
    mend = (
        f"in a batch of {len(betas)} shares, one for each β, the output of the last share differs "
        "by this much from that share alone at its β: make the first axis of everything that "
        "reaches a layer the batch, example after example"
    )
    require(off < OFF, "difference of the model's output", f"{off:.0%}", mend)


def watch_rows(model: Model) -> Model:
    """Have the first pass of a model with several β checked, as `require_equal_shares` does."""
    model.register_forward_pre_hook(_check_rows)
    return model
