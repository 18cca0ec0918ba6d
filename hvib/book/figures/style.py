"""The book's one plot style, and what every figure over β is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from hvib.book.curves import Groups, Name, label_of
from hvib.book.statistics import Interval
from hvib.methods import METHODS, PLAIN, Style
from hvib.tasks import Metric

# Okabe and Ito's colours, which the common kinds of colour blindness keep apart, and a purple.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#AA4499")

plt.rcParams.update(
    {
        "figure.figsize": (7.0, 4.0),
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }
)
try:  # sharp at twice the zoom where a notebook shows it
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
except (ImportError, AttributeError):
    pass  # no notebook


def method_style(name: Name) -> Style:
    """The style of a curve: its method's, which has another at twice the epochs."""
    known = METHODS.all()
    if isinstance(name, str) or name[0] not in known:
        return PLAIN
    method = known[name[0]]
    styles = {1.0: method.style, 2.0: method.longer_style}
    return styles.get(name[1], PLAIN)


def line(
    axes: Axes, style: Style, x: Sequence[float] | np.ndarray, y: Any, **settings: Any
) -> None:
    """A curve in a style, its markers edged in white.

    Args:
        settings: matplotlib's, where they differ.
    """
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot(x, y, **{**edge, **style._asdict(), **settings})


def draw_interval(
    axes: Axes, style: Style, x: np.ndarray, values: Interval, factor: float = 1
) -> None:
    """A mean over seeds as a line, and its 95% interval as a band.

    Args:
        factor: from the values to the axis' unit.
    """
    line(axes, style, x, factor * values.mean)
    low, high = factor * values.low, factor * values.high
    axes.fill_between(x, low, high, color=style.color, alpha=0.18, lw=0)


def label_directly(axes: Axes, ends: Sequence[tuple[str, Style, float]]) -> None:
    """Labels beside the right end of their curves, moved apart where they would overlap.

    Args:
        ends: label, style and last value of each curve.
    """
    low, high = axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    placed: list[float] = []
    for label, style, y in sorted(ends, key=lambda end: end[2]):
        height = float(to_axes.transform((x, np.clip(y, low, high)))[1])
        # 0.075 of the axes is a line of text.
        height = max(height, placed[-1] + 0.075 if placed else 0.0)
        placed.append(height)
        axes.text(1.015, height, label, color=style.color, transform=axes.transAxes, va="center")


def end_of(name: Name, value: float) -> tuple[str, Style, float]:
    """What `label_directly` takes of a curve that ends in a value."""
    return label_of(name), method_style(name), float(value)


def beta_axis(axes: Axes, curves: Groups) -> None:
    """A logarithmic axis of β that ends a little beyond the curves."""
    axes.set_xscale("log")
    axes.set_xlabel("trade-off β")
    betas = next(iter(curves.values()))[0].betas
    if len(betas) > 1:
        axes.set_xlim(betas[0] / 1.3, betas[-1] * 1.3)


def log_axis(axes: Axes) -> None:
    """A logarithmic axis of errors, with 0.2, 0.5 and 1 at its ticks, not powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def metric_axis(axes: Axes, metric: Metric) -> None:
    """An axis of the test metric, logarithmic for errors."""
    axes.set_ylabel(f"test {metric.name} ({metric.unit})")
    if metric.relative:
        log_axis(axes)


def legend_handles(styles: Mapping[Any, Style]) -> list[plt.Line2D]:
    """Legend entries of curves, each by its `Name`."""
    return [
        plt.Line2D([], [], label=label_of(name), **style._asdict())
        for name, style in styles.items()
    ]


def change_axis(axes: Axes, ticks: Sequence[int] = (-30, -10, 0, 10, 30, 100, 300)) -> None:
    """A vertical axis of changes in percent, linear within ±10 and logarithmic beyond."""
    axes.set_yscale("symlog", linthresh=10)
    axes.set_yticks(ticks, change_ticks(ticks))


def change_ticks(ticks: Sequence[int], plus: str = "+") -> list[str]:
    """Labels of an axis of changes: −10, 0, +10.

    Args:
        plus: empty where there is no room for a sign.
    """
    return [f"{tick:{plus}d}".replace("-", "−") if tick else "0" for tick in ticks]
