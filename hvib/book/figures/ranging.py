"""Figures of estimators of a delay."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hvib.book.figures.style import PALETTE, label_directly, line
from hvib.book.figures.tasks import row_of_axes
from hvib.book.ranging import BOUND
from hvib.methods import Style
from hvib.ranging.estimators import POSTERIOR
from hvib.ranging.roots import one_way
from hvib.ranging.simulate import Measurements

_STYLES = {
    "phase slope": Style("#999999", "v"),
    "inverse FFT": Style(PALETTE[3], "^"),
    "MUSIC": Style(PALETTE[4], "s"),
    POSTERIOR: Style(PALETTE[1], "D"),
    BOUND: Style("#000000", ""),
}
"""the styles of the classical estimators, and of the bound"""


def _dashes(name: str) -> str:
    """Dashed for the bound, which is no estimator."""
    return "--" if name == BOUND else "-"


def error_cdfs(errors: Mapping[str, np.ndarray], unit: str = "m") -> Figure:
    """Distribution of the absolute error of each estimator, the best median first.

    Args:
        errors: absolute errors by name; other names than those of `classical`, those of networks,
            are drawn in shades of green.
        unit: of the errors.
    """
    figure, axes = plt.subplots()
    axes.set_xscale("log")
    others = [name for name in errors if name not in _STYLES]
    greens = plt.get_cmap("Greens")(np.linspace(0.9, 0.45, len(others)))
    colors = {name: style.color for name, style in _STYLES.items()}
    colors |= dict(zip(others, greens, strict=True))
    for label in sorted(errors, key=lambda name: float(np.median(errors[name]))):
        values = np.sort(errors[label])
        level = (np.arange(len(values)) + 0.5) / len(values)
        told = f"{label}: {np.median(values):.2g} {unit}"
        axes.plot(values, level, label=told, color=colors[label], ls=_dashes(label))
    axes.set_xlim(3e-3, 30)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"absolute error ({unit})")
    axes.set_ylabel("share of the test set")
    axes.legend(title="median error", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def over_snr(snr_db: Sequence[float], links: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """The root mean squared error of each estimator over the measurement's SNR, link by link.

    Args:
        links: for each link the errors in metres by estimator; other names than those of
            `classical` are those of networks.
    """
    figure, panels = row_of_axes(links, sharey=True)
    networks = itertools.cycle((Style(PALETTE[2], "P"), Style(PALETTE[0], "o")))
    names = dict.fromkeys(name for errors in links.values() for name in errors)
    styles = {name: _STYLES.get(name) or next(networks) for name in names}
    for axes, errors in zip(panels, links.values(), strict=True):
        axes.set_yscale("log")
        axes.set_xlabel("measurement SNR (dB)")
        for name, values in errors.items():
            line(axes, styles[name], snr_db, values, ls=_dashes(name))
    panels[0].set_ylabel("RMSE (m)")
    ends = [(name, styles[name], values[-1]) for name, values in errors.items()]
    label_directly(panels[-1], ends)
    return figure


def delay_profiles(scene: Measurements, index: int) -> Figure:
    """Power over delay of one measured response, by the inverse FFT of its tones.

    A two-way product is drawn beside its root, several antennas beside each other; lines
    mark the line of sight, and for a product twice its delay.
    """
    figure, axes = plt.subplots()
    link, delay = scene.link, float(scene.delay_ns[index])
    measured = scene.response[index : index + 1]
    if link.two_way:
        parts = {"product, both ways": measured[0], "its root, one way": one_way(measured)[0]}
        marks = {"τ": delay, "2τ": 2 * delay}
    else:
        parts = {f"antenna {k + 1}": part for k, part in enumerate(measured[0])}
        marks = {"τ": delay}
    length = 32 * link.tones
    delays = np.arange(length) / (length * link.spacing_hz) * 1e9
    kept = delays <= 250
    for (label, part), color in zip(parts.items(), PALETTE, strict=False):
        power = np.abs(np.fft.ifft(part, length)) ** 2
        level = 10 * np.log10(power / power.max())
        axes.plot(delays[kept], level[kept], label=label, color=color)
    for label, at in marks.items():
        axes.axvline(at, color="#555555", lw=1, ls="--")
        axes.annotate(label, (at, 1), (3, 0), textcoords="offset points", color="#555555")
    axes.set_ylim(-35, 4)
    axes.set_xlabel("delay (ns)")
    axes.set_ylabel("power (dB of its peak)")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
