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
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import UnionType
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.config import require
from hvib.models import System, batch_rows

Model = TypeVar("Model", bound=nn.Module)

_log_beta: ContextVar[Tensor] = ContextVar("log_beta")


@contextmanager
def at(beta: float | Sequence[float] | Float[Tensor, " M"]) -> Iterator[None]:
    """Set β for the gates of all forward passes inside the block.

    With M values, the batch that reaches a gate is M equal shares, one value each.

    Raises:
        ValueError: a β is not finite and positive.
    """
    beta = torch.as_tensor(beta, dtype=torch.get_default_dtype()).reshape(-1)
    ok = bool((torch.isfinite(beta) & (beta > 0)).all()) and len(beta) > 0
    require(ok, "beta", beta.tolist(), "give finite β > 0")
    token = _log_beta.set(beta.log())
    try:
        yield
    finally:
        _log_beta.reset(token)


class Gate(nn.Module):
    """s(β) = S(u log β + v) of (12), S the logistic sigmoid: 2·m parameters.

    The paper does not say how u and v start. Here the gate starts nearly open and nearly flat,
    v = 2 and u uniform in (−0.1, 0.1), which leaves the layer's own initialisation in place.
    Raw log β is large (−14 to 0): with u and v uniform in (−1, 1), a linear layer's default,
    half the units start closed at small β, and the objective there stays above twice as high.

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


def range_of(betas: tuple[float, float]) -> tuple[float, float]:
    """The ends of a range of β, if they are such.

    Raises:
        ValueError: they are not positive or reversed.
    """
    require(0 < betas[0] <= betas[1], "betas", betas, "give the ends of the range, 0 < low ≤ high")
    return betas


def standardised(log_beta: Float[Tensor, " M"], betas: tuple[float, float]) -> Float[Tensor, "M 1"]:
    """t: log β over the range of β, from −1 at its lower end to 1 at its upper."""
    low, high = (math.log(beta) for beta in betas)
    return ((log_beta - (low + high) / 2) / max((high - low) / 2, 1.0))[:, None]


class FreeGate(Gate):
    """A gate without bounds: scale 1 + a(β) and shift b(β), both from a small network of log β.

    A sigmoid scales by less than 1, moves one way in log β and never reaches 0. Here
    (a, b) = A tanh(u t + v) + c with t log β standardised over its range and
    `hidden` units: 2·(hidden + 1)·m + 2·hidden parameters. A and c start at 0, so
    the gated model starts as the plain one.

    Args:
        size: m, the number of output units or filters of the gated layer.
        betas: the ends of the range of β.
        hidden: units of the small network.
    """

    def __init__(self, size: int, betas: tuple[float, float], hidden: int = 16) -> None:
        nn.Module.__init__(self)
        self.betas = range_of(betas)
        self.u = nn.Parameter(torch.randn(hidden) * 2)
        self.v = nn.Parameter(torch.randn(hidden))
        self.out = nn.Linear(hidden, 2 * size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return self.modulation(log_beta)[0]

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        t = standardised(log_beta.to(self.u), self.betas)
        features = torch.tanh(t * self.u + self.v) / math.sqrt(len(self.u))
        scale, shift = self.out(features).chunk(2, -1)
        return 1 + scale, shift


class Opening(Gate):
    """How far each feature is open: a_j(β) = S(e^{k_j} (c_j − t)), t log β over its range.

    As β grows, features close one by one, each at a β of its own: in the linear case one is
    worth its rate only below β = 2P. A closed feature's mean and log-variance are those of the
    prior, which cost no rate. The c_j start evenly spread over the range and a little beyond,
    from `first` down to `last`: the first feature stays open for all β.

    Args:
        size: n, the number of features.
        betas: the ends of the range of β.
        copies: how many numbers of a feature the opening scales: 2 for (μ, log θ²).
        first, last: c of the first feature and of the last.
        steepness: e^k at the start; 8 closes a feature over about half a decade of six.
    """

    def __init__(
        self,
        size: int,
        betas: tuple[float, float],
        copies: int = 1,
        *,
        first: float = 1.2,
        last: float = -1.0,
        steepness: float = 8.0,
    ) -> None:
        nn.Module.__init__(self)
        self.betas = range_of(betas)
        self.copies = copies
        self.c = nn.Parameter(torch.linspace(first, last, size))
        self.k = nn.Parameter(torch.full((size,), math.log(steepness)))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        t = standardised(log_beta.to(self.c), self.betas)
        return torch.sigmoid(self.k.exp() * (self.c - t)).repeat(1, self.copies)


class Gated(nn.Module):
    """A layer whose output is scaled unit by unit: h = s(β) ⊙ (W h' + b), equation (13).

    Scaling the output is scaling the rows of W and the entries of b, (12) and (14), but M
    values of β share one product with W.

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
            log_beta = _log_beta.get()
        except LookupError:
            raise RuntimeError("no β is set: call a gated model inside `with at(beta):`") from None
        h = self.layer(h)
        # Plain tests: this runs for every layer of every step.
        if len(h) % (rows := batch_rows.get()):
            mend = (
                f"its first axis is not the batch of {rows}; put the batch first (batch_first=True)"
            )
            require(False, "gate input", tuple(h.shape), mend)
        if len(h) % len(log_beta):
            mend = f"give a multiple of the {len(log_beta)} values of β"
            require(False, "batch size", len(h), mend)
        shape = [len(log_beta)] + [1] * h.dim()
        shape[self.axis + (self.axis > 0)] = -1
        h = h.unflatten(0, (len(log_beta), -1))
        s, shift = self.gate.modulation(log_beta)
        s = s.to(h.dtype).view(shape)  # (M, 1, m), m in its axis
        h = h * s if shift is None else torch.addcmul(shift.to(h.dtype).view(shape), h, s)
        return h.flatten(0, 1)


_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm),
)
# Scaled input, scaled output, channel by channel: a norm behind them still divides the scale out.
_PASSED = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.Upsample, nn.Flatten, nn.Identity),
)


def _scales(layer: nn.Module, kinds: type | UnionType) -> bool:
    """Whether scaling the layer's own weight scales its output, as it does in these kinds.

    Not where a subclass makes another use of the weight, or where the weight is made of others.
    """
    if not isinstance(layer, kinds) or "weight" not in layer._parameters:
        return False
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
    """Which layers of a model take a gate, in order.

    A norm divides out any scale of its input. So where one follows a layer (in the order of
    registration, with as many channels, behind no more than layers that pass a scale on) the gate
    goes after the norm, if `behind_norms`.
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

    That is each `Linear`, `Conv1d`, `Conv2d` and `Conv3d` that the model calls; recurrent and
    transposed layers stay plain, those with a reparametrised weight, subclasses with a forward pass
    of their own, and layers inside `nn.MultiheadAttention`, which reads their weights without
    calling them. The first axis of what reaches a layer must be the batch. Where a batch, group or
    instance norm of as many channels follows a layer in the order of registration, directly or
    behind (leaky) ReLU, pools, zero padding, flattening, upsampling or dropout, the gate acts after
    the norm, which would cancel it otherwise.

    Args:
        seed: seed of the gates' initial parameters.
        gate: makes a layer's gate from its number of outputs m; the paper's by default. One of your
            own derives from `Gate` and has `modulation(log_beta)` return (s, shift), (M, m) each
            or None for no shift.
        behind_norms: False leaves the gate on the layer itself, norm or not.

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
            m.activation_relu_or_gelu = 0  # no fast path, which reads weights without a call
    return _replace(model, gated)


def opened(system: System, betas: tuple[float, float]) -> System:
    """The same system with an `Opening` of each feature at both ends of the link.

    The device's scales (μ, log θ²), the network's the received ẑ: a closed feature leaves no
    rate, and lets no noise into the network. Each end has parameters of its own.

    Args:
        system: gated or plain; its modules are used, not copied.
        betas: the ends of the range of β.
    """
    device, network = (
        Gated(nn.Identity(), Opening(system.features, betas, copies), -1) for copies in (2, 1)
    )
    return System(
        nn.Sequential(system.device, device),
        nn.Sequential(network, system.network),
        system.channel,
        system.features,
    )


class Scaled(nn.Module):
    """h ⊙ s for a fixed s, which is what an opening folds to."""

    def __init__(self, s: Float[Tensor, " m"]) -> None:
        super().__init__()
        self.s = nn.Parameter(s)

    def forward(self, h: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch m"]:
        return h * self.s


def fold(model: Model, beta: float) -> Model:
    """The plain model that a gated one is at one β: gates multiplied into weights (12), (14).

    It gives the same outputs, needs no β and costs what the model cost before `hyperize`. A
    weight that layers share is no longer shared: each has its own gate in it.

    Raises:
        ValueError: β is not one number, finite and positive.
    """
    require(torch.as_tensor(beta).numel() == 1, "beta", beta, "fold at one β")
    model = copy.deepcopy(model)
    with at(beta), torch.no_grad():
        folded = {
            id(m): _modulated(m.layer, *m.gate.modulation(_log_beta.get()))
            for m in model.modules()
            if isinstance(m, Gated)
        }
    return _replace(model, folded)


def _modulated(
    layer: nn.Module, s: Float[Tensor, "1 m"], shift: Float[Tensor, "1 m"] | None
) -> nn.Module:
    """The layer with output unit i scaled by s_i, and moved by what the shift says."""
    s = s[0]
    if isinstance(layer, nn.Identity):
        return Scaled(s)
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
