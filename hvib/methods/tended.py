"""Known remedies of a training's bad luck: β that rises, averaged weights, and the best epoch.

VIB with each of them alone and with all, and the gated methods with averaged weights. Both shares
of the steps were chosen by the objective on validation data.
"""

from dataclasses import replace

from hvib.methods import hyper_vib, vib
from hvib.methods.method import Style

WARM_UP = 0.2
"""Over which share of the steps β rises, linearly as in the ladder VAE (Sønderby et al., 2016)."""

AVERAGE = 0.05
"""Over which share of the steps averages reach back."""

REMEDIES = ("vib-warm-up", "vib-averaged", "vib-best-epoch")
"""VIB with one remedy each."""

_VIB = vib.DEFINED[0]
_GATED = {method.name: method for method in hyper_vib.DEFINED}

DEFINED = (
    replace(
        _VIB,
        name="vib-warm-up",
        label="VIB, β warm-up",
        warm_up=WARM_UP,
        style=Style("#009E73", "v"),
    ),
    replace(
        _VIB,
        name="vib-averaged",
        label="VIB, averaged",
        average=AVERAGE,
        style=Style("#E69F00", "^"),
    ),
    replace(
        _VIB,
        name="vib-best-epoch",
        label="VIB, best epoch",
        keeps_best=True,
        style=Style("#CC79A7", "P"),
    ),
    replace(
        _VIB,
        name="vib-tended",
        label="VIB, all remedies",
        warm_up=WARM_UP,
        average=AVERAGE,
        keeps_best=True,
        style=Style("#56B4E9", "D"),
    ),
    replace(
        _GATED["hyper-vib"],
        name="hyper-vib-averaged",
        label="Hyper-VIB, averaged",
        average=AVERAGE,
        style=Style("#AA4499", "D"),
    ),
    replace(
        _GATED["hyper-vib-ordered"],
        name="hyper-vib-ordered-averaged",
        label="Hyper-VIB, ordered and averaged",
        average=AVERAGE,
        style=Style("#777777", "d"),
    ),
)
