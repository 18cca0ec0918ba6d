"""What (7) takes for the distortion d(y, ŷ): the default, some ready-made ones, and your own."""

from hvib.distortions.default import BY_KIND, as_distortion
from hvib.distortions.distortion import Distortion, Function, Own
from hvib.distortions.made import (
    Part,
    absolute_error,
    multi_label,
    several,
    weighted_cross_entropy,
)

__all__ = [
    "BY_KIND",
    "Distortion",
    "Function",
    "Own",
    "Part",
    "absolute_error",
    "as_distortion",
    "multi_label",
    "several",
    "weighted_cross_entropy",
]
