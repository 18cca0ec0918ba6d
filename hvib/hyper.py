"""The hypernetwork: a sigmoid gate of log β on every layer, equations (11) to (14).

`hyperize` puts the gates into a model, `at` sets β for the forward passes under it and
`fold` takes the gates out again for one β::

    hyper = hyperize(model)
    with at([1e-4, 1e-2]):
        y = hyper(x)  # the first half of the batch at β = 1e-4, the second at 1e-2
    plain = fold(hyper, 1e-4)
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import snr_db_now
from hvib.check import require
from hvib.checks import numbers
from hvib.layers.change import Wrapped, copied, move_hooks, replaced, scaled, without_fast_paths
from hvib.layers.choice import chosen
from hvib.layers.kinds import outputs
from hvib.layers.watch import unwatch, watch
from hvib.system import System, batch_rows

Model = TypeVar("Model", bound=nn.Module)

log_beta_now: ContextVar[Tensor] = ContextVar("log_beta")

_KEY = "hvib.log_beta"


def _handed() -> tuple[int, Tensor] | None:
    """The thread that set a β, and log β, as PyTorch hands them to the threads of a backward pass.

    A checkpointed layer runs again in such a thread, which a context variable does not reach.
    """
    return torch._C._get_obj_in_tls(_KEY) if torch._C._is_key_in_tls(_KEY) else None


@contextmanager
def at(
    beta: float | Sequence[float] | Sequence[Sequence[float]] | Float[Tensor, "M *J"] | None = None,
    *,
    log_beta: Float[Tensor, " M"] | None = None,
    snr_db: float | Sequence[float] | Float[Tensor, " K"] | None = None,
) -> Iterator[None]:
    """Set β for the gates of all forward passes inside the block.

    With M values of β the batch is taken as M equal shares, one after the other, and each share
    gets one value. With as many values as examples, each example has a β of its own.

    Args:
        beta: one β, or M of them; for several devices also (M, J), a β for each device.
        log_beta: log β in place of β. Its values are not looked at, so that they may be an input
            of a model that is exported or compiled.
        snr_db: of the channel and of the gates that read it, in dB: one, one for each β, or one for
            each example. Without it a system's channel has its own.

    Raises:
        ValueError: a β is not finite and positive, β and log β are both given or both missing, or
            an SNR is not finite.
    """
    require((beta is None) != (log_beta is None), "beta", beta, "give β, or log_beta in its place")
    if log_beta is None:
        log_beta = numbers.betas("beta", beta).log()
    log_beta = log_beta if log_beta.dim() == 2 else log_beta.reshape(-1)
    told = None if snr_db is None else numbers.decibels("snr_db", snr_db)
    token, before_it = log_beta_now.set(log_beta), snr_db_now.set(told)
    before = _handed()
    torch._C._stash_obj_in_tls(_KEY, (threading.get_ident(), log_beta))
    try:
        yield
    finally:
        log_beta_now.reset(token)
        snr_db_now.reset(before_it)
        torch._C._stash_obj_in_tls(_KEY, before)


class Gate(nn.Module):
    """s(β) = S(u log β + v) of (12), S the logistic sigmoid: 2·m parameters.

    The paper does not say how u and v start. Here v = 2 and u is uniform in (−0.1, 0.1): the gate
    starts nearly open and nearly flat, so the layer's own initialisation stays in place. PyTorch's
    default for a linear layer, u and v uniform in (−1, 1), does not suit log β, which reaches −14:
    half of the units start closed at small β, and the objective there stays more than twice as
    high.

    Args:
        size: m, the number of output units or filters of the gated layer.
    """

    needs_range = False
    """whether it is made for a range of β, and told its ends as `betas`"""
    needs_snr = False
    """whether it reads the SNR besides; `hvib.gates.state` has gates that do"""
    joint = False
    """whether it reads the β of several devices; `hvib.gates.joint` has gates that do"""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(size).uniform_(-0.1, 0.1))
        self.v = nn.Parameter(torch.full((size,), 2.0))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return torch.sigmoid(torch.addcmul(self.v, log_beta.to(self.u)[:, None], self.u))

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor | None]:
        """What the layer's output is multiplied by, and what is then added: nothing here.

        A gate may return more rows than there are β: one for each example.
        """
        return self(log_beta), None

    def put_on(self, layer: nn.Module, axis: int) -> "Gated":
        """The layer with this gate; `axis` as `Gated` has it."""
        return Gated(layer, self, axis)


class Gated(Wrapped):
    """A layer whose output is scaled unit by unit: h = s(β) ⊙ (W h' + b), equation (13).

    Scaling the output equals scaling the rows of W and the entries of b, (12) and (14). Scaling
    the output is cheaper, because all M values of β then share one product with W.

    Args:
        layer: a linear, convolutional or norm layer.
        gate: of m = the layer's number of output units or channels.
        axis: where they are: −1 for linear layers, 1 for convolutions and batch norms.
    """

    def __init__(self, layer: nn.Module, gate: Gate, axis: int) -> None:
        super().__init__(layer)
        self.gate = gate
        self.axis = axis
        self.sequence_first = False
        self.device: int | None = None
        """which of several devices the layer belongs to; None for the network"""

    def forward(self, h: Tensor) -> Tensor:
        log_beta = self.log_betas(h := self.layer(h))
        s, shift = self.gate.modulation(log_beta)  # (M, m)
        shape = [s.shape[0]] + [1] * h.dim()
        # The batch axis becomes two, so an axis counted from the front moves by one.
        shape[self.axis + (self.axis > 0)] = -1
        h = h.unflatten(0, (s.shape[0], -1))  # (M·N, …) → (M, N, …)
        s = s.to(h.dtype).view(shape)  # (M, 1, …, m, …), m in the layer's axis
        h = h * s if shift is None else torch.addcmul(shift.to(h.dtype).view(shape), h, s)
        return h.flatten(0, 1)  # (M·N, …)

    def log_betas(self, h: Tensor) -> Float[Tensor, " M"]:
        """Log β of each share of h; its leading axis is M equal shares of the batch.

        Raises:
            RuntimeError: no β is set.
            ValueError: the batch does not divide into as many shares as there are β, or in a
                `System` the first axis is no multiple of the batch.
        """
        try:
            log_beta = log_beta_now.get()
        except LookupError:
            if (handed := _handed()) is None or handed[0] == threading.get_ident():
                mend = "call a gated model inside `with at(beta):`, and in each thread inside one "
                mend += "of its own, or through contextvars.copy_context().run"
                raise RuntimeError(f"no β is set: {mend}") from None
            log_beta = handed[1]
        # Plain tests, because `require` would format its message for every layer of every step.
        # Sizes by `shape`, because `len` of a tensor is a fixed number in an exported model.
        log_beta = self.own(log_beta)
        shares, length = log_beta.shape[0], h.shape[0]
        if length % (rows := batch_rows.get()):
            mend = f"its first axis is not the batch of {rows}; put the batch first"
            mend += " (batch_first=True)" * self.sequence_first
            require(False, "gate input", tuple(h.shape), mend)
        if length % shares:
            mend = f"give a multiple of the {shares} values of β"
            require(False, "batch size", length, mend)
        return log_beta

    def own(self, log_beta: Float[Tensor, "M *J"]) -> Float[Tensor, "M *J"]:
        """What of (M, J) values the gate reads: a device's layer its own, the network's all.

        Raises:
            ValueError: the gate reads one β, and belongs to no one device.
        """
        if log_beta.dim() == 1 or (self.device is None and self.gate.joint):
            return log_beta
        mend = "give one β, or gate a system of several devices by hvib.devices"
        inside = self.device is not None and self.device < log_beta.shape[1]
        require(inside, "number of β at once", log_beta.shape[1], mend)
        return log_beta[:, self.device]

    def folded(self, log_beta: Float[Tensor, " 1"]) -> nn.Module:
        """The plain layer that it is at one β."""
        trains = any(p.requires_grad for p in self.gate.parameters())
        return scaled(self.layer, *self.gate.modulation(log_beta), trains)


def hyperize(
    model: Model,
    seed: int = 0,
    gate: Callable[[int], Gate] = Gate,
    *,
    method: str = "",
    betas: tuple[float, float] | None = None,
    behind_norms: bool = True,
    example: Tensor | tuple[Any, ...] | None = None,
) -> Model:
    """A copy of any model with a gate on each linear and convolutional layer inside it.

    Gated is each `Linear`, `Conv1d`, `Conv2d` and `Conv3d` that the model calls. These stay plain:
    recurrent and transposed layers, layers whose weight is pruned or reparametrised, subclasses
    with a forward pass of their own, and layers whose weight the model uses without calling them.
    The first axis of what reaches a layer must be the batch.

    A batch, group or instance norm would cancel a gate before it. Where one of as many channels
    follows a layer, directly or behind (leaky) ReLU, pools, zero padding, flattening, upsampling
    or dropout, the gate therefore acts after the norm.

    How a model uses its layers is found by following its forward pass: on an `example`, or else on
    placeholders, which works unless the pass depends on values. What can be followed neither way
    is taken to be called in the order of registration, and is watched when it first runs.

    Args:
        seed: seed of the gates' initial parameters.
        gate: makes a layer's gate from its number of outputs m; the paper's by default. A gate of
            your own derives from `Gate`, and its `modulation(log_beta)` returns scale and shift,
            (M, m) each, or None for no shift.
        method: a method's name, as `ordered`, which brings gates of its own, an opening for each
            feature among them where it has one. The model then says that it is for this method.
        betas: the ends of the range of β that the model is for; it then says so, by the paper's
            method if none is given.
        behind_norms: False leaves the gate on the layer itself, whether or not a norm follows.
        example: an input of the model, or a tuple of its positional arguments; of a `System`, a
            batch of x.

    Raises:
        ValueError: the model has no layer to gate, or is gated already. The first pass of the
            gated model raises it if a layer turns out to be used without being called.
    """
    if method or betas is not None:
        from hvib.methods.making import gated_by  # here: methods are made of this function

        mend = "a method brings its own: leave out method and betas, or gate and behind_norms"
        require(gate is Gate and behind_norms, "gate", gate, mend)
        return gated_by(method or "paper", model, betas, seed, example)  # type: ignore[return-value]
    return _hyperized(model, seed, gate, behind_norms, example)


def _hyperized(
    model: Model,
    seed: int,
    gate: Callable[[int], Gate],
    behind_norms: bool,
    example: Tensor | tuple[Any, ...] | None,
) -> Model:
    """A copy of the model with a gate on each layer that takes one, watched where it must be."""
    model = without_fast_paths(copied(model))
    plain = not any(isinstance(m, Gated) for m in model.modules())
    require(plain, "model", type(model).__name__, "it is gated already; fold it first")
    if isinstance(model, System) and isinstance(example, Tensor):
        noise = torch.zeros(2, 1, len(example), model.chances, device=example.device)
        example = (example[None], noise)
    layers, unfollowed = chosen(model, behind_norms, example)
    mend = "it has no Linear or Conv layer to gate, one that it calls on its batch"
    require(bool(layers), "model", type(model).__name__, mend)
    # A system's own forward pass calls its parts, and uses none of their layers otherwise.
    unfollowed = [m for m in unfollowed if not isinstance(m, System)]
    if any(m._forward_hooks or m._forward_pre_hooks for m in layers):
        unfollowed.append(model)  # where hooks are that no symbol passes
    watch(unfollowed, layers)
    made = replaced(model, _gated(model, layers, seed, gate))
    # Here: they look at what this file makes.
    from hvib.checks.shares import watch_rows
    from hvib.methods.belonging import watch_loading

    watch_loading(made)
    # Training and evaluation look at the shares of a system.
    return made if isinstance(made, System) else watch_rows(made)


def _gated(
    model: nn.Module, layers: Sequence[nn.Module], seed: int, gate: Callable[[int], Gate]
) -> dict[int, Gated]:
    """Each of the model's layers with a gate, by the layer's id."""
    sequence_first = any(getattr(m, "batch_first", True) is False for m in model.modules())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gated: dict[int, Gated] = {}
        for layer in dict.fromkeys(layers):
            size, axis = outputs(layer)  # type: ignore[misc]  # chosen: it has outputs
            like = next(layer.parameters(), torch.empty(0))
            # A gate of a layer in double precision is so too; its numbers are drawn alike.
            double = torch.float64 if like.dtype == torch.float64 else None
            gated[id(layer)] = gate(size).to(like.device, double).put_on(layer, axis)
            gated[id(layer)].sequence_first = sequence_first
            move_hooks(layer, gated[id(layer)])  # they are behind the gate too
    return gated


def fold(
    model: Model, beta: float | Sequence[Sequence[float]], snr_db: float | None = None
) -> Model:
    """The plain model that a gated one is at one β, and at one SNR where its gates read that.

    The gates are multiplied into the weights, (12) and (14).

    The folded model gives the same outputs as the gated one at this β, needs no `at`, and costs
    what the model cost before `hyperize`. Layers that shared one weight no longer share it,
    because each layer has its own gate multiplied in. A frozen parameter stays frozen.

    Args:
        beta: one β; for several devices `[(β_1, …, β_J)]`.
        snr_db: of gates that read it.

    Raises:
        ValueError: β is not one, finite and positive, or the SNR is not finite.
    """
    require(len(numbers.betas("beta", beta)) == 1, "beta", beta, "fold at one β")
    model = copied(model)
    unwatch(model)
    folded = {}
    with at(beta, snr_db=snr_db), torch.no_grad():
        for m in model.modules():
            if isinstance(m, Gated):
                folded[id(m)] = m.folded(m.own(log_beta_now.get()))
                move_hooks(m, folded[id(m)])
    return replaced(model, folded)
