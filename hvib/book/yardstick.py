"""How two values of a metric compare: how much worse one is, and which difference counts."""

from dataclasses import dataclass

import numpy as np

from hvib.book.statistics import Array, Interval
from hvib.tasks import Metric


@dataclass(frozen=True)
class Yardstick:
    """How two values of a metric compare: how much worse one is, and what counts."""

    noun: str
    rises: str
    """what a change for the better is called"""
    rival: float
    """as much worse still rivals"""
    drop: float
    """as much worse is a fast drop"""
    relative: bool
    """errors compare by their ratio, accuracies by their difference"""

    def worse(self, metric: Array, reference: Array) -> Array:
        """How much worse than a reference: positive where it is."""
        return metric / reference - 1 if self.relative else reference - metric

    def _number(self, difference: float) -> str:
        size = 100 * difference
        digits = 0 if size >= 100 else 1 if self.relative or size >= 1 else 2
        return f"{round(size, digits):g}"

    @property
    def _unit(self) -> str:
        return "%" if self.relative else " points"

    def text(self, difference: float) -> str:
        """A difference ≥ 0 as prose has it: 1.3 points, 0.17 points, 5.2%."""
        return self._number(difference) + self._unit

    def among_seeds(self, found: Interval) -> str:
        """How much worse (or better) in the mean over seeds, with its interval if it has one."""
        half = "" if np.isnan(found.half) else f" ± {self._number(float(found.half))}"
        way = "better" if found.mean < 0 else "worse"
        return self._number(abs(float(found.mean))) + half + self._unit + " " + way


_OF_ACCURACY = Yardstick("accuracy", "raises the accuracy", 0.002, 0.1, relative=False)
"""0.2 points is about what the seed alone changes on MNIST, 10 points what no one overlooks."""

_OF_ERROR = Yardstick("error", "lowers the error", 0.05, 1.0, relative=True)
"""5% of a mean squared error is about what the seed alone changes in ranging; twofold a drop."""


def yardstick(metric: Metric) -> Yardstick:
    """How values of a metric are compared."""
    return _OF_ERROR if metric.relative else _OF_ACCURACY
