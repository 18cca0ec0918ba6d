"""Whether each share of a batch meets the β that it was given.

A gate cuts what reaches it into M equal shares, one for each β. That is right only if its first
axis is the batch, example after example. A model that joins two views of each example along the
batch, or puts another axis first, has rows in another order, and the gates give them another β.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from hvib.check import require
from hvib.hyper import Gate, Gated, Model, at, log_beta_now
from hvib.system import System, batch_rows

EXAMPLES = 4
"""How many examples of each share are compared: the order of the rows shows in few."""

RANDOM = 1e-4
"""Two passes of the same batch that are further apart than this are random by themselves."""

OFF = 1e-2
"""A share is another one if it is further than this from itself; rounding is a thousandth."""

REACHED = 5e-2
"""The same of what reaches a gate inside a model, where quantised numbers are further off."""

SMALL = 1e-3
"""Numbers smaller than this may be rounding themselves, so that they count as this large."""

Pass = Callable[[Int[Tensor, " K"]], dict[str, Tensor]]
"""passes the shares of these numbers, and gives outputs by name, rows first"""


@contextmanager
def _checked_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Without gradients and chance, in `eval` mode; everything as it was afterwards.

    Args:
        training: have modules that are not PyTorch's in the mode of training.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    for module in modes:
        module.training = training and not type(module).__module__.startswith("torch.nn")
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _uncompiled(model):
            yield
    finally:
        for buffer, before in buffers:  # a norm's own statistics, for one
            buffer.copy_(before)
        for module, mode in modes.items():
            module.training = mode


def _uncompiled(model: nn.Module) -> AbstractContextManager[object]:
    """Compiled parts run as they are written: what is added for the check is not compiled."""
    compiled = any("_orig_mod" in module._modules for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def _steep_gates(model: nn.Module, betas: Float[Tensor, " M"]) -> Iterator[None]:
    """All gates scale by 0.8 at the smallest β to 1 at the largest.

    Their own parameters would not do: free gates start with one scale for all β.
    """
    low, high = betas.log().aminmax()

    def modulation(log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        if log_beta.dim() == 2:  # of several devices, in a gate of all of them
            log_beta = log_beta.mean(1)
        return (0.8 + 0.2 * (log_beta - low) / (high - low).clamp(min=1e-9))[:, None], None

    gates = [module for module in model.modules() if isinstance(module, Gate)]
    for gate in gates:
        gate.__dict__["modulation"] = modulation  # hides the method of the class
    try:
        yield
    finally:
        for gate in gates:
            del gate.__dict__["modulation"]


@contextmanager
def _reaching_gates(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What reaches each gated layer in each of its calls, by name."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if torch._C._functorch.is_functorch_wrapped_tensor(args[0]):
                return  # inside a `vmap`, beyond which it is nothing
            key = f"what reaches {name}" if name else "what reaches the model"
            while key in seen:
                key += " again"
            seen[key] = args[0]

        return hook

    gated = [(name, m) for name, m in model.named_modules() if isinstance(m, Gated)]
    handles = [m.register_forward_pre_hook(note(name)) for name, m in gated]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _apart(one: Tensor, other: Tensor) -> float:
    """How far two tensors are from each other, relative to their size; infinite for other rows."""
    if one.shape != other.shape:
        # A model may cut what it computes to the longest example of a batch.
        return 0.0 if len(one) == len(other) else float("inf")
    size = other.norm() + SMALL * other.numel() ** 0.5
    return float((one - other).norm() / size)


def _require_same(model: nn.Module, betas: Float[Tensor, " M"], run: Pass) -> None:
    """Refuse a model that gives a share anything else in another batch.

    In `eval` mode the last share is compared with that share alone. In the mode of training,
    where a norm of the model's own may take its statistics from the batch, all shares are compared
    with the same shares in another order. A model that is random by itself passes, and one whose
    numbers are not finite, which training and evaluation tell.

    Raises:
        ValueError: what reaches a gate, or what the model gives, differs.
    """
    everyone = torch.arange(len(betas))
    # An order that is no rotation, nor for more than three shares a reversal.
    mixed = (2.0 * everyone).cos().argsort()

    def seen(shares: Tensor) -> dict[str, Tensor]:
        with at(betas[shares.to(betas.device)]), _reaching_gates(model) as reached:
            told = run(shares)
        return {name: h.float() for name, h in {**reached, **told}.items()}

    for training in (False, True) if model.training else (False,):
        shares, how = (mixed, "in another order") if training else (everyone[-1:], "alone")
        with _checked_mode(model, training), _steep_gates(model, betas):
            first, again, other = seen(everyone), seen(everyone), seen(shares)
        if any(not _apart(h, again[name]) <= RANDOM for name, h in first.items() if name in again):
            continue
        for name, h in first.items():
            if name not in other or len(h) % len(betas):
                continue
            same = h.unflatten(0, (len(betas), -1))[shares.to(h.device)].flatten(0, 1)
            off = _apart(same, other[name])
            mend = (
                f"in a batch of {len(betas)} shares, one for each β, it differs by this much from "
                f"that of the same share {how}: make the first axis of everything that reaches a "
                "layer the batch, example after example"
            )
            much = f"{off:.0%}" if math.isfinite(off) else "other rows"
            limit = REACHED if name.startswith("what reaches") else OFF
            require(off < limit, f"difference of {name}", much, mend)


def require_equal_shares(
    system: System,
    x: Shaped[Tensor, "M N *shape"],
    noise: Float[Tensor, "2 M N n"],
    betas: Float[Tensor, " M"],
) -> None:
    """Refuse a system in which a share gives anything else than in another batch.

    The comparison is of few examples, with gates that differ clearly between the β; in `eval` mode,
    and for a system in the mode of training in that mode too. A system whose output is random by
    itself cannot be compared, and passes.

    Raises:
        ValueError: what reaches a gate, or an output, differs.
    """
    gated = any(isinstance(module, Gated) for module in system.modules())
    if not gated or len(betas) < 2 or torch.compiler.is_compiling():
        return
    x, noise = x[:, :EXAMPLES], noise[:, :, : x[:, :EXAMPLES].shape[1]]

    def run(shares: Int[Tensor, " K"]) -> dict[str, Tensor]:
        shares = shares.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            output = system(x[shares], noise[:, shares])
        told = {
            "the device's μ": output.mean,
            "the device's θ²": output.variance,
            "the network's output": output.prediction,
        }
        return {name: part.flatten(0, 1) for name, part in told.items()}

    _require_same(system, betas, run)


def _check_rows(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The same for a model outside a system, at its first pass with several β in each mode."""
    checked = model.__dict__.setdefault("_rows_checked", set())
    if model.training in checked or torch.compiler.is_compiling():
        return
    log_beta = log_beta_now.get(None)
    inputs = [h for h in tree_leaves((args, kwargs)) if isinstance(h, Tensor) and h.dim()]
    if log_beta is None or not inputs or len(log_beta) < 2:
        return
    rows, count = len(inputs[0]), len(log_beta)
    if rows % count:
        return  # the gates say so
    if batch_rows.get() > 1:
        return  # it is part of a system, which is checked as a whole
    checked |= {False, model.training}  # before the passes below, which come here too

    def run(shares: Int[Tensor, " K"]) -> dict[str, Tensor]:
        def part(h: Tensor) -> Tensor:
            if h.shape[:1] != (rows,):
                return h
            return h.unflatten(0, (count, -1))[shares.to(h.device)].flatten(0, 1)

        args_of, kwargs_of = tree_map_only(Tensor, part, (args, kwargs))
        outputs = [h for h in tree_leaves(model(*args_of, **kwargs_of)) if isinstance(h, Tensor)]
        length = len(shares) * (rows // count)
        return {
            f"the model's output {place}": h
            for place, h in enumerate(outputs)
            if h.shape[:1] == (length,)
        }

    _require_same(model, log_beta.exp(), run)


def watch_rows(model: Model) -> Model:
    """Have the first pass of a model with several β checked, as `require_equal_shares` does."""
    model.register_forward_pre_hook(_check_rows, with_kwargs=True)
    return model
