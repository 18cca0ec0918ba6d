"""Drawings after the paper's Figures 1 to 3: the system, the hypernetwork, one gated layer."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

Point = tuple[float, float]

DEVICE, NETWORK, GATE, LINE = "#0072B2", "#D55E00", "#009E73", "#333333"

PAPER: dict[Any, Any] = {"mathtext.fontset": "cm", "font.size": 15}


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A blank drawing area, measured in half inches, so that text keeps its size."""
    figure, axes = plt.subplots(figsize=(width / 2, height / 2), facecolor="white")
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def _box(
    axes: Axes, center: Point, size: Point, text: str = "", *, color: str = LINE, fill: str = "w"
) -> None:
    """A rounded box with text in its middle."""
    corner = (center[0] - size[0] / 2, center[1] - size[1] / 2)
    style = "round,pad=0,rounding_size=0.18"
    axes.add_patch(FancyBboxPatch(corner, *size, style, ec=color, fc=fill, lw=1.5, zorder=2))
    _text(axes, center, text)


def _panel(axes: Axes, left: float, right: float, span: Point, text: str, color: str) -> None:
    """A tinted area with its name above."""
    style = "round,pad=0,rounding_size=0.3"
    area = FancyBboxPatch(
        (left, span[0]), right - left, span[1] - span[0], style, ec="none", fc=color, alpha=0.10
    )
    axes.add_patch(area)
    _text(axes, ((left + right) / 2, span[1] + 0.38), text, color=color)


def _text(axes: Axes, at: Point, text: str, **style: Any) -> None:
    axes.text(*at, text, **{"ha": "center", "va": "center", "zorder": 4, **style})


def _arrow(axes: Axes, *points: Point, color: str = LINE) -> None:
    """A line through the points with a head at its end."""
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), color=color, lw=1.5, solid_capstyle="butt")
    style = "-|>,head_length=5,head_width=2.6"
    axes.add_patch(
        FancyArrowPatch(
            *points[-2:], arrowstyle=style, color=color, lw=1.5, shrinkA=0, shrinkB=0, zorder=3
        )
    )


def _operation(axes: Axes, at: Point, sign: str) -> None:
    """A small circle with an operation's sign."""
    axes.add_patch(Circle(at, 0.32, ec=LINE, fc="white", lw=1.5, zorder=3))
    _text(axes, (at[0], at[1] - 0.02), sign)


def _styled(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    def styled() -> Figure:
        with plt.rc_context(PAPER):
            return draw()

    styled.__name__, styled.__doc__ = draw.__name__, draw.__doc__
    return styled


@_styled
def system() -> Figure:
    """Figure 1: device, wireless channel, network."""
    figure, axes = _canvas(16, 6.2)
    y = 2.4
    _panel(axes, 1.1, 8.3, (0.6, 4.9), "device", DEVICE)
    _panel(axes, 11.5, 14.7, (0.6, 4.9), "network", NETWORK)
    _text(axes, (9.9, 5.28), "channel")
    _text(axes, (0.3, y), "$x$")
    _arrow(axes, (0.55, y), (1.4, y))
    _box(axes, (2.25, y), (1.7, 2.4), "DNN\n$\\phi$", color=DEVICE)
    for way, name in ((y + 0.8, "$\\mu(x;\\phi)$"), (y - 0.8, "$\\theta(x;\\phi)$")):
        _arrow(axes, (3.1, way), (5.3, way))
        _text(axes, (4.1, way + 0.42), name)
    _box(axes, (6.65, y), (2.7, 2.4), "$\\mu+\\theta\\odot\\xi$", color=DEVICE)
    _arrow(axes, (6.65, 4.15), (6.65, y + 1.2))
    _text(axes, (6.65, 4.45), "$\\xi\\sim\\mathcal{N}(0,I)$")
    _arrow(axes, (8.0, y), (9.58, y))
    _text(axes, (8.85, y + 0.4), "$z$")
    _operation(axes, (9.9, y), "$+$")
    _arrow(axes, (9.9, 4.15), (9.9, y + 0.32))
    _text(axes, (9.9, 4.45), "$\\varepsilon\\sim\\mathcal{N}(0,\\sigma^2I)$")
    _arrow(axes, (10.22, y), (12.1, y))
    _text(axes, (10.95, y + 0.4), "$\\hat z$")
    _box(axes, (13.1, y), (2.0, 2.4), "DNN\n$\\psi$", color=NETWORK)
    _arrow(axes, (14.1, y), (15.3, y))
    _text(axes, (15.65, y), "$\\hat y$")
    return figure


@_styled
def hypernetwork() -> Figure:
    """Figure 2: the original networks below, the adjustment module above them."""
    figure, axes = _canvas(16, 7.4)
    low, high, bus = 1.6, 3.9, 5.5
    _panel(axes, 1.0, 7.0, (0.5, 6.1), "device  $\\phi_h$", DEVICE)
    _panel(axes, 9.1, 15.1, (0.5, 6.1), "network  $\\psi_h$", NETWORK)
    for left, color in ((1.3, DEVICE), (9.4, NETWORK)):
        for at, name in ((left + 0.85, "1"), (left + 4.55, "L")):
            _box(axes, (at, low), (1.7, 1.3), f"$W_{name},\\,b_{name}$", color=color)
            _box(axes, (at, high), (1.7, 1.3), f"$s_{name}(\\beta)$", color=GATE)
            _arrow(axes, (at, high - 0.65), (at, low + 0.65), color=GATE)
            _arrow(axes, (at, bus), (at, high + 0.65), color=GATE)
        _arrow(axes, (left + 1.7, low), (left + 2.3, low))
        _text(axes, (left + 2.7, low), "$\\cdots$")
        _text(axes, (left + 2.7, high), "$\\cdots$")
        _arrow(axes, (left + 3.1, low), (left + 3.7, low))
    axes.plot([2.15, 13.95], [bus, bus], color=GATE, lw=1.5)
    axes.plot([8.05, 8.05], [6.35, bus], color=GATE, lw=1.5)
    _text(axes, (8.05, 6.7), "$\\log\\beta$", color=GATE)
    _text(axes, (0.3, low), "$x$")
    _arrow(axes, (0.55, low), (1.3, low))
    _arrow(axes, (6.7, low), (7.73, low))
    _text(axes, (7.3, low + 0.42), "$z$")
    _operation(axes, (8.05, low), "$+$")
    _text(axes, (8.05, 2.85), "$\\varepsilon$")
    _arrow(axes, (8.05, 2.6), (8.05, low + 0.32))
    _arrow(axes, (8.37, low), (9.4, low))
    _text(axes, (8.8, low + 0.42), "$\\hat z$")
    _arrow(axes, (14.8, low), (15.45, low))
    _text(axes, (15.72, low), "$\\hat y$")
    return figure


@_styled
def layer() -> Figure:
    """Figure 3: one fully connected layer and its gate."""
    figure, axes = _canvas(14, 5.4)
    low, high = 1.2, 4.0
    _text(axes, (0.7, low), "$h_{l-1}$")
    _arrow(axes, (1.3, low), (2.4, low))
    _box(axes, (4.4, low), (4.0, 1.4), "$W_l\\,h_{l-1}+b_l$", color=DEVICE)
    _arrow(axes, (6.4, low), (10.28, low))
    _operation(axes, (10.6, low), "•")  # with its circle, ⊙
    _arrow(axes, (10.92, low), (12.4, low))
    _text(axes, (12.9, low), "$h_l$")
    _text(axes, (0.7, high), "$\\log\\beta$", color=GATE)
    _arrow(axes, (1.4, high), (2.4, high), color=GATE)
    _box(axes, (4.4, high), (4.0, 1.4), "$u_l\\,\\log\\beta+v_l$", color=GATE)
    _arrow(axes, (6.4, high), (7.4, high), color=GATE)
    _box(axes, (8.1, high), (1.4, 1.4), color=GATE)
    _sigmoid(axes, (8.1, high), 0.48)
    _text(axes, (8.1, high + 1.0), "$S$", color=GATE)
    _arrow(axes, (8.8, high), (10.6, high), (10.6, low + 0.32), color=GATE)
    _text(axes, (10.95, 3.1), "$s_l(\\beta)\\in(0,1)^{m_l}$", ha="left", color=GATE)
    return figure


def _sigmoid(axes: Axes, center: Point, size: float) -> None:
    """The logistic curve, as a sign."""
    t = [k / 10 for k in range(-10, 11)]
    s = [2 / (1 + 2.718281828 ** (-5 * x)) - 1 for x in t]
    axes.plot(
        [center[0] + size * x for x in t],
        [center[1] + size * y for y in s],
        color=GATE,
        lw=2,
        zorder=4,
    )
