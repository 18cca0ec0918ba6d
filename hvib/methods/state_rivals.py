"""Rivals of Hyper-VIB's gates of (log β, SNR): earlier ways of telling a network the SNR.

- `hyper-vib-affine`: scales that are affine in the SNR, as Hyper-AJSCC has them (Xie et al. 2024).
- `hyper-vib-attention`: ADJSCC's attention feature modules (Xu et al. 2021).

Each acts beside the paper's gates of β, at both ends of the link, and is trained as Hyper-VIB is.
"""

from functools import partial
from typing import Any

from torch import nn

from hvib.gates.rivals import AffineGate, AttentionGate
from hvib.gates.state import SNRS
from hvib.hyper import Gate, hyperize
from hvib.methods.belonging import mark
from hvib.methods.hyper_vib import gated
from hvib.methods.method import Method, Style
from hvib.methods.state import range_for
from hvib.run import Run
from hvib.system import System
from hvib.tasks.registry import build


def _rival(
    name: str, label: str, gate: type[AffineGate] | type[AttentionGate], style: Style
) -> Method:
    def convert(
        model: nn.Module,
        betas: tuple[float, float] | None,
        seed: int,
        example: Any = None,
        snrs: tuple[float, float] = SNRS,
    ) -> nn.Module:
        return hyperize(model, seed, partial(gate, snrs=snrs), example=example)

    def system(run: Run) -> System:
        betas = (run.betas[0], run.betas[-1])
        model = convert(build(run), betas, run.seed, snrs=range_for(run))
        assert isinstance(model, System)  # for mypy
        mark(model, run.method, betas)
        return model

    own: frozenset[type[Gate]] = frozenset({gate})
    return gated(name, label, build=system, convert=convert, gates=own, style=style)


DEFINED = (
    _rival("hyper-vib-affine", "affine in SNR (Hyper-AJSCC)", AffineGate, Style("#009E73", "P")),
    _rival("hyper-vib-attention", "attention (ADJSCC)", AttentionGate, Style("#CC79A7", "^")),
)
