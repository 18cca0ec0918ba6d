"""Variants of Hyper-VIB that each differ from it in one choice: gates, draws of β, weights."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hvib.checks.numbers import ends_of
from hvib.gates.closing import FreeGate, standardised
from hvib.hyper import Gate, Gated, hyperize
from hvib.methods.hyper_vib import draw_beyond, gated
from hvib.objective import between, stratified
from hvib.system import System


class Standardised(Gate):
    """S(u t + v), t = log β standardised over its range, from −1 to 1."""

    needs_range = True

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        super().__init__(size)
        self.betas = ends_of(betas)

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        t = standardised(log_beta.to(self.u), self.betas)
        return self.bounded(torch.addcmul(self.v, t, self.u))

    def bounded(self, h: Float[Tensor, "M m"]) -> Float[Tensor, "M m"]:
        """What keeps the scale in its range."""
        return torch.sigmoid(h)


class Softplus(Standardised):
    """ln(1 + e^(u t + v)): a scale above 0 without an upper bound, 1 at the start."""

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        super().__init__(size, betas)
        nn.init.constant_(self.v, math.log(math.e - 1))

    def bounded(self, h: Float[Tensor, "M m"]) -> Float[Tensor, "M m"]:
        return F.softplus(h)


class Film(Standardised):
    """Scale and shift, each affine in t: 4·m parameters; the plain model at the start."""

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        super().__init__(size, betas)
        nn.init.ones_(self.v)
        self.shift = nn.Parameter(torch.zeros(2, size))

    def bounded(self, h: Float[Tensor, "M m"]) -> Float[Tensor, "M m"]:
        return h

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        t = standardised(log_beta.to(self.u), self.betas)
        return self(log_beta), torch.addcmul(self.shift[1], t, self.shift[0])


class Network(FreeGate):
    """The scale of a `FreeGate` without its shift."""

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        scale, shift = super().modulation(log_beta)
        return scale, torch.zeros_like(shift)


class UsualStart(Gate):
    """The paper's gate, u and v started as PyTorch starts Linear(1, m): uniform in (−1, 1)."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        nn.init.uniform_(self.u, -1, 1)
        nn.init.uniform_(self.v, -1, 1)


def _uniform_betas(
    low: float, high: float, count: int, generator: torch.Generator
) -> Float[Tensor, " M"]:
    """M draws uniform in β itself, stratified: all but a few are large."""
    return low + (high - low) * stratified(count, generator)


def _rising_betas(
    low: float, high: float, count: int, generator: torch.Generator
) -> Float[Tensor, " M"]:
    """M draws whose density in log β rises linearly from 0, stratified: more where regret is."""
    return between(low, high, stratified(count, generator).sqrt())


def _plain_heads(
    model: nn.Module, betas: tuple[float, float] | None, seed: int, example: Any = None
) -> System:
    """Hyper-VIB without gates on the last layer of the device and of the network."""
    system = hyperize(model, seed, example=example)
    assert isinstance(system, System)  # for mypy
    for part in (system.device, system.network):
        last = [m for m in part.modules() if isinstance(m, Gated)][-1]
        for parent in part.modules():
            for name, child in parent.named_children():
                if child is last:
                    setattr(parent, name, last.layer)
    return system


DEFINED = (
    gated("hyper-vib-standardised", "Hyper-VIB, S(u t + v)", Standardised),
    gated("hyper-vib-softplus", "Hyper-VIB, softplus gate", Softplus),
    gated("hyper-vib-film", "Hyper-VIB, affine scale and shift", Film),
    gated("hyper-vib-network", "Hyper-VIB, small network, scale", Network),
    gated("hyper-vib-network-shift", "Hyper-VIB, free gates alone", FreeGate),
    gated("hyper-vib-usual-start", "Hyper-VIB, gate as Linear(1, m)", UsualStart),
    gated("hyper-vib-plain-heads", "Hyper-VIB, last layers plain", convert=_plain_heads),
    gated("hyper-vib-uniform", "Hyper-VIB, β uniform", draw_betas=_uniform_betas),
    gated("hyper-vib-rising", "Hyper-VIB, β rising", draw_betas=_rising_betas),
    *(gated(f"hyper-vib-power-{p:g}", f"Hyper-VIB, p = {p:g}", power=p) for p in (0.25, 0.5, 0.75)),
    # The two halves of the step from free gates to the ordered method: openings alone, and its
    # power and its draws of β without them.
    gated(
        "hyper-vib-free-opened",
        "Hyper-VIB, free, with openings",
        FreeGate,
        opening=True,
        power=1.0,
    ),
    gated(
        "hyper-vib-ordered-unopened",
        "Hyper-VIB, ordered, without openings",
        FreeGate,
        power=0.5,
        draw_betas=draw_beyond,
    ),
)
