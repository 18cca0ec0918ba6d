"""Figures of the linear case."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hvib.book.curves import label_of
from hvib.book.figures.style import line, method_style


def regret_of_known(
    x: np.ndarray, regret: Mapping[Any, Sequence[np.ndarray]], xlabel: str
) -> Figure:
    """Relative regret against a known minimum: each seed thin, their mean thick.

    Args:
        x: what the regret is drawn over.
        regret: one array a seed, by what `hvib.book.curves.label_of` takes.
    """
    figure, axes = plt.subplots()
    ends = []
    for name, seeds in regret.items():
        mean = 100 * np.mean(seeds, 0)
        for one in seeds:
            axes.plot(x, 100 * one, color=method_style(name).color, lw=0.7, alpha=0.5)
        line(axes, method_style(name), x, mean)
        ends.append((name, float(mean[0])))
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="regret (% of the minimum)")
    axes.set_ylim(bottom=0.01)
    apart = 10 ** (0.055 * np.ptp(np.log10(axes.get_ylim())))
    below = 0.0
    for name, height in sorted(ends, key=lambda end: end[1]):
        below = max(height, below * apart)
        axes.annotate(
            label_of(name),
            (x[0], below),
            (-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=method_style(name).color,
        )
    axes.set_xlim(x[0] * (x[0] / x[-1]) ** 0.38, x[-1] * 1.3)
    return figure
