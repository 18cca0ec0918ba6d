"""Variants of Hyper-VIB that differ from it in one choice; their methods join by name.

`variants` gives the runs by what they vary, `hvib.claims.compare` what came of each.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hvib.config import Run, plan
from hvib.hyper import FreeGate, Gate, Gated, hyperize, range_of, standardised
from hvib.models import System, build
from hvib.objective import between, stratified
from hvib.train import METHODS, hyper, over_range


class Standardised(Gate):
    """S(u t + v), t = log β standardised over its range, from −1 to 1."""

    def __init__(self, size: int, betas: tuple[float, float]) -> None:
        super().__init__(size)
        self.betas = range_of(betas)

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


def _plain_heads(run: Run) -> System:
    """Hyper-VIB without gates on the last layer of the device and of the network."""
    system = hyperize(build(run), run.seed)
    for part in (system.device, system.network):
        gated = [m for m in part.modules() if isinstance(m, Gated)]
        for parent in part.modules():
            for name, child in parent.named_children():
                if child is gated[-1]:
                    setattr(parent, name, gated[-1].layer)
    return system


_PAPER, _FREE, _ORDERED = (METHODS[f"hyper-vib{end}"] for end in ("", "-free", "-ordered"))

METHODS |= {
    "hyper-vib-standardised": hyper(over_range(Standardised)),
    "hyper-vib-softplus": hyper(over_range(Softplus)),
    "hyper-vib-film": hyper(over_range(Film)),
    "hyper-vib-network": hyper(over_range(Network)),
    "hyper-vib-network-shift": hyper(over_range(FreeGate)),
    "hyper-vib-usual-start": hyper(lambda run: UsualStart),
    "hyper-vib-plain-heads": replace(_PAPER, build=_plain_heads),
    "hyper-vib-uniform": replace(_PAPER, draw=_uniform_betas),
    "hyper-vib-rising": replace(_PAPER, draw=_rising_betas),
    **{f"hyper-vib-power-{power:g}": replace(_PAPER, power=power) for power in (0.25, 0.5, 0.75)},
    "hyper-vib-free-opened": replace(_FREE, build=_ORDERED.build),
    "hyper-vib-ordered-unopened": replace(_ORDERED, build=_FREE.build),
}
"""Besides those that `variants` lists, the two halves of the step from `hyper-vib-free` to
`hyper-vib-ordered`: openings alone, and without them its power and its draws of β."""


def variants(run: Run) -> dict[str, dict[str, Run]]:
    """Runs by what they vary and how; the first of each group is `run` itself, the paper's.

    Args:
        run: of method `hyper-vib`.
    """

    def method(name: str) -> Run:
        return replace(run, method=f"hyper-vib-{name}")

    return {
        "gate": {
            "S(u log β + v)": run,
            "S(u t + v)": method("standardised"),
            "softplus(u t + v)": method("softplus"),
            "affine scale and shift": method("film"),
            "small network, scale": method("network"),
            "small network, scale and shift": method("network-shift"),
        },
        "start of the gate": {"nearly open": run, "as Linear(1, m)": method("usual-start")},
        "last layers": {"gated": run, "plain": method("plain-heads")},
        "β in a step": {
            f"{run.shares} shares": run,
            "one": replace(run, shares=1),
            "one an example": replace(run, shares=run.batch_size),
        },
        "density of β": {
            "uniform in log β": run,
            "rising in log β": method("rising"),
            "uniform in β": method("uniform"),
        },
        "power p of the scale": {
            "0": run,
            **{f"{power:g}": method(f"power-{power:g}") for power in (0.25, 0.5, 0.75)},
            "1": method("log"),
        },
        "epochs": {
            "1×": run,
            "½×": replace(run, epochs=max(run.epochs // 2, 1)),
            "2×": replace(run, epochs=2 * run.epochs),
            "4×": replace(run, epochs=4 * run.epochs),
        },
    }


def settings(seeds: Sequence[int] | None = None, profile: str = "full") -> dict[str, list[Run]]:
    """VIB and Hyper-VIB on the digits, under each setting of the book's that could turn a verdict.

    The first is the book's own. A prior q of variance r is not among them by that name: dividing
    the received feature by √r makes it the unit prior at an SNR that is 10 log₁₀ r dB higher, and
    so the SNR stands for both.

    Args:
        seeds: the profile's own if not given.
    """

    def both(hyper: str = "hyper-vib", **changes: Any) -> list[Run]:
        runs = plan("digits", profile, seeds=seeds, **changes)
        found = [run for run in runs if run.method in ("vib", "hyper-vib")]
        return [replace(run, method=hyper) if run.method == "hyper-vib" else run for run in found]

    return {
        "as on the pages": both(),
        "β uniform": both("hyper-vib-uniform"),
        "gate as Linear(1, m)": both("hyper-vib-usual-start"),
        "SNR 10 dB, or prior variance 0.1": both(snr_db=10.0),
        "SNR 30 dB, or prior variance 10": both(snr_db=30.0),
        "power limited": both(network="digits-power-limited"),
    }
