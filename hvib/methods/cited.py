"""Earlier hypernetworks, which the paper cites, each as a method.

- `hyper-vib-full`: all weights of a layer are generated, in chunks (Ha et al. 2016).
- `hyper-vib-self-tuning`: weights are affine in log β (MacKay et al. 2019).
- `hyper-vib-multi-rate`: the gates of Multi-Rate VAE (Bae et al. 2023).

They differ from Hyper-VIB in how log β acts on the layers. Objective, draws of β and the plain
networks are the paper's. All three read t, log β scaled to mean 0 and variance 1 over its range.
The first two act on the weights of linear and convolutional layers, and leave norms as they are.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.checks.numbers import ends_of
from hvib.gates.closing import standardised
from hvib.hyper import Gate, Gated
from hvib.methods.hyper_vib import converted, gated
from hvib.methods.variants import Standardised
from hvib.system import System


def unit_variance(log_beta: Float[Tensor, " M"], betas: tuple[float, float]) -> Tensor:
    """t: log β mapped linearly so that, uniform over its range, it has mean 0 and variance 1.

    Returns:
        (M, 1) numbers, from −√3 to √3. A range of less than about a decade is not stretched to
        that length.
    """
    return math.sqrt(3) * standardised(log_beta, betas)


class SelfTuning(Gate):
    """What a self-tuning network adds to a layer: W + (v t) ⊙ W′ for W, b + (c t) ⊙ b′ for b.

    The product with the vector v t is row by row. As in the source's code, W′ and b′ start as a
    layer of their own does, and v and c are normal of deviation 0.01, so that the layer starts as
    nearly the plain one. For a layer of m outputs it has as many parameters as the layer, and 2·m
    more; m for a layer without bias.

    Args:
        size: m, the number of output units or filters of the layer.
        betas: the ends of the range of β.
    """

    needs_range = True
    other: nn.Module
    bias: Tensor | None

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        nn.Module.__init__(self)
        self.betas = ends_of(betas)
        self.v = nn.Parameter(0.01 * torch.randn(size))
        self.c: nn.Parameter | None = nn.Parameter(0.01 * torch.randn(size))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return self.modulation(log_beta)[0]

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor | None]:
        """What W′ and b′ are multiplied by."""
        t = unit_variance(log_beta.to(self.v), self.betas)
        return t * self.v, None if self.c is None else t * self.c

    def put_on(self, layer: nn.Module, axis: int) -> Gated:
        self.other = copy.deepcopy(layer)
        self.other._forward_hooks.clear()  # what is behind the layer happens once
        self.other.reset_parameters()  # type: ignore[operator]  # linear or convolutional
        self.bias = self.other.bias  # type: ignore[assignment]
        self.other.bias = None  # type: ignore[assignment]
        if self.bias is None:
            self.c = None
        return SelfTuned(layer, self, axis)


class SelfTuned(Gated):
    """A layer whose weight and bias are affine in t.

    The product with W′ is scaled unit by unit, so that all β share both products.
    """

    gate: SelfTuning

    def forward(self, h: Tensor) -> Tensor:
        log_beta = self.log_betas(h)
        scale, shift = self.gate.modulation(log_beta)  # (M, m)
        # (M·N, …) → (M, N, …)
        plain = self.layer(h).unflatten(0, (log_beta.shape[0], -1))
        other = self.gate.other(h).unflatten(0, (log_beta.shape[0], -1))
        shape = [log_beta.shape[0]] + [1] * (plain.dim() - 1)
        shape[self.axis + (self.axis > 0)] = -1  # of m; two axes are now where one was
        if shift is not None and self.gate.bias is not None:
            plain = plain + (shift * self.gate.bias).to(plain.dtype).view(shape)
        return torch.addcmul(plain, scale.to(plain.dtype).view(shape), other).flatten(0, 1)

    def folded(self, log_beta: Float[Tensor, " 1"]) -> nn.Module:
        layer, (scale, shift) = self.layer, self.gate.modulation(log_beta)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        rows = scale[0].view(-1, *[1] * (weight.dim() - 1))
        sum_ = weight + rows * self.gate.other.weight  # type: ignore[operator]
        layer.weight = nn.Parameter(sum_, weight.requires_grad)
        if shift is not None and self.gate.bias is not None:
            bias: Tensor = layer.bias  # type: ignore[assignment]
            layer.bias = nn.Parameter(bias + shift[0] * self.gate.bias, bias.requires_grad)
        return layer


class Generator(Gate):
    """Generates all weights of a layer from log β, a chunk for each of its m output units.

    Log β is embedded as e(β) = tanh(u t + w), and chunk i has a learnt embedding E_i. The chunk's
    hidden units are tanh(A e(β) + a + E_i), and one linear map K, shared by all chunks of the
    layer, takes them to the unit's weights and bias. None of the layer's own weights is kept.

    The start follows the hyperfan-in rule of Chang et al. (2020): K has the variance that gives
    the generated weights the mean square of those of the plain layer. A is small, so that the
    layer starts as nearly one and the same for all β. Adam moves all numbers alike, so E and K are
    kept in units in which they are about 0.1 in size. On the digits' validation data narrower
    layers of hidden units (64, 128), and ReLU in place of tanh, ended at higher objectives.

    Parameters, for m units of n weights and a bias each: `width`·(m + n + 1) for E and K, and
    `width`·(`features` + 1) + 2·`features` for the rest.

    Args:
        size: m, the number of output units or filters of the layer.
        betas: the ends of the range of β.
        width: number of hidden units, which bounds the rank of the generated weights.
        features: size of e(β).
    """

    needs_range = True
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, size: int, betas: tuple[float, float], width: int = 256, features: int = 16
    ) -> None:
        nn.Module.__init__(self)
        self.betas = ends_of(betas)
        self.u = nn.Parameter(2 * torch.randn(features))
        self.w = nn.Parameter(torch.randn(features))
        self.chunks = nn.Parameter(0.1 * torch.randn(width, size))
        self.hidden = nn.Linear(features, width)
        nn.init.normal_(self.hidden.weight, std=0.1)
        nn.init.zeros_(self.hidden.bias)

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M h m"]:
        """The hidden units of each chunk."""
        embedded = self.modulation(log_beta)[0].to(self.u).expand(-1, len(self.u))
        return torch.tanh(self.hidden(embedded)[..., None] + self.chunks / 0.1)

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        """e(β), which stands for the scales that other gates have here."""
        t = unit_variance(log_beta.to(self.u), self.betas)
        return torch.tanh(t * self.u + self.w), None

    @property
    def unit(self) -> float:
        """The unit in which K is kept."""
        return 8 / len(self.chunks)

    def put_on(self, layer: nn.Module, axis: int) -> Gated:
        middle = torch.tensor([math.log(beta) for beta in self.betas]).mean(0, keepdim=True)
        with torch.no_grad():
            power = self(middle.to(self.u)).square().mean() * len(self.chunks)
        for name in ("weight", "bias"):
            own: Tensor | None = getattr(layer, name)
            setattr(layer, name, None)
            if own is None:
                self.bias = None
                continue
            size = own.detach().square().mean().div(power).sqrt() / self.unit
            start = size * torch.randn(len(self.chunks), *own.shape[1:], device=own.device)
            setattr(self, name, nn.Parameter(start.to(own)))
        return Generated(layer, self, axis)


class Generated(Gated):
    """A layer whose weight and bias are generated for each β.

    A linear layer is not given its weights. As the hypernetwork ends in a linear map, which all
    chunks share, the input takes this map first and then meets each β's hidden units, which gives
    the product with the generated weights for fewer operations.
    """

    gate: Generator

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """The parts of K for the weights and for the biases."""
        bias = self.gate.bias
        return self.gate.weight * self.gate.unit, None if bias is None else bias * self.gate.unit

    def weights(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor | None]:
        """The weights and biases of each β."""
        hidden, (weight, bias) = self.gate(log_beta), self.kernel()  # (M, h, m), (h, …)
        made = torch.einsum("bhm,h...->bm...", hidden, weight)
        return made, None if bias is None else torch.einsum("bhm,h->bm", hidden, bias)

    def forward(self, h: Tensor) -> Tensor:
        log_beta = self.log_betas(h)
        shares = log_beta.shape[0]
        if isinstance(self.layer, nn.Linear):
            mapped = F.linear(h, *self.kernel()).unflatten(0, (shares, -1))  # (M, N, …, h)
            rows = mapped.flatten(1, -2)  # (M, N·…, h)
            return (rows @ self.gate(log_beta)).unflatten(1, mapped.shape[1:-1]).flatten(0, 1)
        weight, bias = self.weights(log_beta)
        parts = h.unflatten(0, (shares, -1))
        # A few convolutions of shares are faster than one of M groups.
        return torch.cat(
            [
                self.layer._conv_forward(parts[k], weight[k], None if bias is None else bias[k])  # type: ignore[operator]
                for k in range(shares)
            ]
        )

    def folded(self, log_beta: Float[Tensor, " 1"]) -> nn.Module:
        trains = any(p.requires_grad for p in self.gate.parameters())
        weight, bias = self.weights(log_beta)
        self.layer.weight = nn.Parameter(weight[0], trains)
        if bias is not None:
            self.layer.bias = nn.Parameter(bias[0], trains)
        return self.layer


class DeviceGate(Standardised):
    """Multi-Rate VAE's gate in the encoder, here the device: S(a t + b), S the logistic sigmoid.

    The source's code starts a and b uniform in (−1, 1), as PyTorch starts Linear(1, m). With this
    start half of the gates of the network are closed, and training hardly moves them: on the
    validation data of the digits the objective is then a multiple of VIB's. So a is uniform in
    (−0.1, 0.1) here and b = 2, as in the paper's gate.

    Args:
        size: m, the number of output units or filters of the layer.
        betas: the ends of the range of β.
    """

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        t = unit_variance(log_beta.to(self.u), self.betas)
        return self.bounded(torch.addcmul(self.v, t, self.u))


class NetworkGate(DeviceGate):
    """Multi-Rate VAE's gate in the decoder, here the network: √max(1 − exp(a t + b), 0).

    It can close at some β and be open at others. Here b starts at −2.
    """

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        super().__init__(size, betas)
        nn.init.constant_(self.v, -2.0)

    def bounded(self, h: Float[Tensor, "M m"]) -> Float[Tensor, "M m"]:
        # ReLU's gradient at a closed gate is 0 even though that of the root is infinite there.
        return torch.relu(-torch.expm1(h)).sqrt()


_one_kind = converted(DeviceGate)


def multi_rate(
    model: nn.Module, betas: tuple[float, float] | None, seed: int, example: Any = None
) -> nn.Module:
    """A plain system with a `DeviceGate` on the layers of its device, `NetworkGate` on the others.

    Raises:
        ValueError: the model is no System, or no range of β is given.
    """
    mend = "the gates of its device and of its network differ: give a System"
    require(isinstance(model, System), "model", type(model).__name__, mend)
    model = _one_kind(model, betas, seed, example)
    assert isinstance(model, System)  # for mypy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in model.network.modules():
            if isinstance(layer, Gated):
                layer.gate = NetworkGate(len(layer.gate.u), layer.gate.betas).to(layer.gate.u)  # type: ignore[arg-type]
    return model


DEFINED = (
    gated("hyper-vib-full", "full hypernetwork", Generator, behind_norms=False),
    gated("hyper-vib-self-tuning", "self-tuning network", SelfTuning, behind_norms=False),
    gated(
        "hyper-vib-multi-rate",
        "Multi-Rate VAE's gates",
        convert=multi_rate,
        gates=frozenset({DeviceGate, NetworkGate}),
    ),
)
