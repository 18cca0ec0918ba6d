"""The hypernetwork: a sigmoid gate of log β on every layer, equations (11) to (14).

`hyperize` puts the gates into a model, `at` sets β for the forward passes under it and
`fold` takes the gates out again for one β::

    hyper = hyperize(model)
    with at([1e-4, 1e-2]):
        y = hyper(x)  # the first half of the batch at β = 1e-4, the second at 1e-2
    plain = fold(hyper, 1e-4)
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import UnionType
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.system import batch_rows

Model = TypeVar("Model", bound=nn.Module)

log_beta_now: ContextVar[Tensor] = ContextVar("log_beta")


@contextmanager
def at(beta: float | Sequence[float] | Float[Tensor, " M"]) -> Iterator[None]:
    """Set β for the gates of all forward passes inside the block.

    With M values of β the batch is taken as M equal shares, one after the other, and each share
    gets one value.

    Args:
        beta: one β, or M of them.

    Raises:
        ValueError: a β is not finite and positive.
    """
    beta = torch.as_tensor(beta, dtype=torch.get_default_dtype()).reshape(-1)
    ok = bool((torch.isfinite(beta) & (beta > 0)).all()) and len(beta) > 0
    require(ok, "beta", beta.tolist(), "give finite β > 0")
    token = log_beta_now.set(beta.log())
    try:
        yield
    finally:
        log_beta_now.reset(token)


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

    def __init__(self, size: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(size).uniform_(-0.1, 0.1))
        self.v = nn.Parameter(torch.full((size,), 2.0))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return torch.sigmoid(torch.addcmul(self.v, log_beta.to(self.u)[:, None], self.u))

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor | None]:
        """What the layer's output is multiplied by, and what is then added: nothing here."""
        return self(log_beta), None


class Gated(nn.Module):
    """A layer whose output is scaled unit by unit: h = s(β) ⊙ (W h' + b), equation (13).

    Scaling the output equals scaling the rows of W and the entries of b, (12) and (14). Scaling
    the output is cheaper, because all M values of β then share one product with W.

    Args:
        layer: a linear, convolutional or norm layer.
        gate: of m = the layer's number of output units or channels.
        axis: where they are: −1 for linear layers, 1 for convolutions and batch norms.
    """

    def __init__(self, layer: nn.Module, gate: Gate, axis: int) -> None:
        super().__init__()
        self.layer = layer
        self.gate = gate
        self.axis = axis

    def forward(self, h: Tensor) -> Tensor:
        """Gate the layer's output; its leading axis is M equal shares of the batch.

        Raises:
            RuntimeError: no β is set.
            ValueError: the batch does not divide into as many shares as there are β, or in a
                `System` the first axis is no multiple of the batch.
        """
        try:
            log_beta = log_beta_now.get()
        except LookupError:
            raise RuntimeError("no β is set: call a gated model inside `with at(beta):`") from None
        h = self.layer(h)
        # Plain tests, because `require` would format its message for every layer of every step.
        if len(h) % (rows := batch_rows.get()):
            mend = (
                f"its first axis is not the batch of {rows}; put the batch first (batch_first=True)"
            )
            require(False, "gate input", tuple(h.shape), mend)
        if len(h) % len(log_beta):
            mend = f"give a multiple of the {len(log_beta)} values of β"
            require(False, "batch size", len(h), mend)
        shape = [len(log_beta)] + [1] * h.dim()
        # The batch axis becomes two, so an axis counted from the front moves by one.
        shape[self.axis + (self.axis > 0)] = -1
        h = h.unflatten(0, (len(log_beta), -1))  # (M·N, …) → (M, N, …)
        s, shift = self.gate.modulation(log_beta)  # (M, m)
        s = s.to(h.dtype).view(shape)  # (M, 1, …, m, …), m in the layer's axis
        h = h * s if shift is None else torch.addcmul(shift.to(h.dtype).view(shape), h, s)
        return h.flatten(0, 1)  # (M·N, …)


_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm),
)

# These pass a channel's scale on: a norm behind them still divides it out.
_PASSED = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.Upsample, nn.Flatten, nn.Identity),
)


def _scales(layer: nn.Module, kinds: type | UnionType) -> bool:
    """Whether scaling the layer's weight scales its output, as it does in these kinds of layers.

    It does not where a subclass makes another use of the weight in its forward pass, nor where
    the weight is computed from other parameters (weight norm, spectral norm, pruning).
    """
    if not isinstance(layer, kinds) or "weight" not in layer._parameters:
        return False
    # A subclass whose forward pass is PyTorch's own uses the weight as PyTorch does.
    kept = ("forward", "_conv_forward")
    own = next(c for c in type(layer).__mro__ if c.__module__.startswith("torch.nn"))
    return all(getattr(type(layer), name, 0) is getattr(own, name, 0) for name in kept)


def _outputs(layer: nn.Module) -> tuple[int, int] | None:
    """(size, axis) of a layer that takes a gate, else None."""
    if _scales(layer, nn.Linear):
        return layer.out_features, -1  # type: ignore[return-value]  # an int
    if _scales(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.out_channels, 1  # type: ignore[return-value]  # an int
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels, 1
    if isinstance(layer, _NORMS):
        return layer.num_features, 1  # type: ignore[return-value]  # an int
    return None


def _gated_layers(model: nn.Module, behind_norms: bool) -> list[nn.Module]:
    """Which layers of a model take a gate, in the order of their registration.

    A norm divides out any scale of its input, so a gate on the layer before it would do nothing.
    Where a norm of as many channels follows a layer, with nothing but `_PASSED` between the two,
    the norm takes the gate in the layer's place, if `behind_norms`.
    """
    leaves = [
        m
        for m in model.modules()
        if next(m.children(), None) is None and not isinstance(m, _PASSED)
    ]
    chosen = []
    for layer, following in itertools.zip_longest(leaves, leaves[1:]):
        outputs = _outputs(layer)
        if outputs is None or isinstance(layer, _NORMS):
            continue
        normed = isinstance(following, _NORMS) and _outputs(following) == (outputs[0], 1)
        chosen.append(following if normed and behind_norms else layer)
    return chosen


def hyperize(
    model: Model,
    seed: int = 0,
    gate: Callable[[int], Gate] = Gate,
    *,
    behind_norms: bool = True,
) -> Model:
    """A copy of any model with a gate on each linear and convolutional layer inside it.

    Gated is each `Linear`, `Conv1d`, `Conv2d` and `Conv3d` that the model calls. These stay plain:
    recurrent and transposed layers, layers whose weight is reparametrised, subclasses with a
    forward pass of their own, and layers inside `nn.MultiheadAttention`, which reads their weights
    without calling them. The first axis of what reaches a layer must be the batch.

    A batch, group or instance norm would cancel a gate before it. Where one of as many channels
    follows a layer in the order of registration, directly or behind (leaky) ReLU, pools, zero
    padding, flattening, upsampling or dropout, the gate therefore acts after the norm.

    Args:
        seed: seed of the gates' initial parameters.
        gate: makes a layer's gate from its number of outputs m; the paper's by default. A gate of
            your own derives from `Gate`, and its `modulation(log_beta)` returns scale and shift,
            (M, m) each, or None for no shift.
        behind_norms: False leaves the gate on the layer itself, whether or not a norm follows.

    Raises:
        ValueError: the model has no layer to gate, or is gated already.
    """
    require(
        not any(isinstance(m, Gated) for m in model.modules()),
        "model",
        type(model).__name__,
        "it is gated already; fold it first",
    )
    model = copy.deepcopy(model)
    hidden = {
        id(inner)
        for m in model.modules()
        if isinstance(m, nn.MultiheadAttention)
        for inner in m.modules()
    }
    chosen = {id(m): m for m in _gated_layers(model, behind_norms) if id(m) not in hidden}
    require(bool(chosen), "model", type(model).__name__, "it has no Linear or Conv layer to gate")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gated = {}
        for key, layer in chosen.items():
            size, axis = _outputs(layer)  # type: ignore[misc]  # chosen: it has outputs
            like = next(layer.parameters(), torch.empty(0))
            gated[key] = Gated(layer, gate(size), axis).to(like.device)
    for m in model.modules():
        if isinstance(m, nn.TransformerEncoderLayer):
            # The layer's fast path reads the weights without calling the layers: switch it off.
            m.activation_relu_or_gelu = 0
    return _replace(model, gated)


class Scaled(nn.Module):
    """h ⊙ s for a fixed s: what a gate on no layer of its own, such as an opening, folds to."""

    def __init__(self, s: Float[Tensor, " m"]) -> None:
        super().__init__()
        self.s = nn.Parameter(s)

    def forward(self, h: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch m"]:
        return h * self.s


def fold(model: Model, beta: float) -> Model:
    """The plain model that a gated one is at one β: gates multiplied into weights, (12) and (14).

    The folded model gives the same outputs as the gated one at this β, needs no `at`, and costs
    what the model cost before `hyperize`. Layers that shared one weight no longer share it,
    because each layer has its own gate multiplied in.

    Raises:
        ValueError: β is not one number, finite and positive.
    """
    require(torch.as_tensor(beta).numel() == 1, "beta", beta, "fold at one β")
    model = copy.deepcopy(model)
    with at(beta), torch.no_grad():
        folded = {
            id(m): _modulated(m.layer, *m.gate.modulation(log_beta_now.get()))
            for m in model.modules()
            if isinstance(m, Gated)
        }
    return _replace(model, folded)


def _modulated(
    layer: nn.Module, s: Float[Tensor, "1 m"], shift: Float[Tensor, "1 m"] | None
) -> nn.Module:
    """The layer with output unit i scaled by s_i, and moved by the shift if there is one."""
    s = s[0]
    if isinstance(layer, nn.Identity):
        return Scaled(s)
    # A norm without weights takes the scale as its weight.
    if isinstance(layer, _NORMS) and not layer.affine:
        layer.affine = True
        layer.weight, layer.bias = nn.Parameter(torch.ones_like(s)), nn.Parameter(0 * s)
    # New parameters, not these in place: another layer may share them.
    weight: Tensor = layer.weight  # type: ignore[assignment]
    scale = s.to(weight.dtype)
    layer.weight = nn.Parameter(weight * scale.view(-1, *[1] * (weight.dim() - 1)))
    moved = None if layer.bias is None else layer.bias * scale  # type: ignore[operator]
    if shift is not None:
        moved = shift[0] if moved is None else moved + shift[0]
    if moved is not None:
        layer.bias = nn.Parameter(moved.to(weight.dtype))
    return layer


def _replace(model: Model, new: Mapping[int, nn.Module]) -> Model:
    """Put `new[id(m)]` in the place of each module m of the model, wherever it is used."""
    if id(model) in new:
        return new[id(model)]  # type: ignore[return-value]
    for parent in list(model.modules()):
        # Not named_children(), which names a module that is used twice only once.
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    return model
