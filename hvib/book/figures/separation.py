"""Figures and tables of source coding and channel coding apart."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.figures.page import table
from hvib.book.figures.style import PALETTE, draw_interval, line
from hvib.book.statistics import Interval, interval
from hvib.book.text import with_interval
from hvib.check import require
from hvib.methods import Style
from hvib.separation.budget import Ladder
from hvib.separation.capacity import capacity, seconds, uses_for
from hvib.separation.measure import CLASS, CLASS_MLP, LOGITS, LOSSLESS, Separation
from hvib.separation.published import Points

_STYLES = {
    CLASS: Style("#000000", ""),
    CLASS_MLP: Style("#777777", ""),
    LOGITS: Style(PALETTE[5], ""),
    "pixels": Style(PALETTE[2], ""),
    "JPEG": Style(PALETTE[4], ""),
    "WebP": Style(PALETTE[3], ""),
    LOSSLESS: Style(PALETTE[6], ""),
}
_OTHERS = (Style(PALETTE[0], "o"), Style(PALETTE[1], "D"), Style("#999999", "v"))
_PUBLISHED = Style(PALETTE[3], "X")

LABELS = {
    CLASS: "the class, found in the device",
    CLASS_MLP: "the class, by the task's MLP",
    LOGITS: "quantised logits",
    "pixels": "few pixels and levels",
    "JPEG": "JPEG",
    "WebP": "WebP",
    LOSSLESS: "lossless pixels",
}
"""what figures and tables call the coders"""

CLASSES = 10
"""of the image tasks"""

SNR_DB = np.arange(-15, 40.1, 0.25)
"""the SNR of the curves in dB"""


class Curve(NamedTuple):
    """Another system's accuracy over the SNR, to be drawn beside the separate designs."""

    snr_db: Sequence[float] | np.ndarray
    accuracy: Float[np.ndarray, "*seeds snr"]
    """in [0, 1]; a row for each seed, or one for all"""


Others = Mapping[int, Mapping[str, Curve]]
"""for each number of channel uses the curves by their label"""


_TICKS = (20, 50, 80, 90, 95, 98, 99, 99.5)


def _error_axis(axes: Axes) -> None:
    """An axis of accuracy in % that is logarithmic in the error, but for the last fifth of a %."""
    axes.set_yscale(
        "function",
        functions=(
            lambda shown: -np.log10(np.maximum(100.2 - np.asarray(shown), 1e-3)),
            lambda drawn: 100.2 - 10 ** -np.asarray(drawn),
        ),
    )
    axes.set_ylim(5, 99.8)
    axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])


def coder_over_snr(ladders: Sequence[Ladder], snr_db: np.ndarray, uses: int) -> Interval:
    """Test accuracy of a coder with an ideal channel code, over seeds.

    Args:
        ladders: of the coder, one for each seed.
        snr_db: (S,), in dB.
        uses: channel uses of a block.
    """
    return interval(np.stack([one.over_awgn(snr_db, uses) for one in ladders]))


def accuracy_over_snr(
    found: Separation,
    uses: Sequence[int] = (8, 16, 32, 64),
    *,
    others: Others | None = None,
    published: Mapping[int, Points] | None = None,
    snr_db: np.ndarray = SNR_DB,
    coders: Sequence[str] = (CLASS, CLASS_MLP, "pixels", "JPEG"),
) -> Figure:
    """Accuracy over the SNR, a panel for each number of channel uses.

    Lines without markers are separate designs: solid with ideal channel codes, at capacity; dotted
    the class with a code of that length that can be built. Where the capacity is too small for ten
    classes that one errs more often, and the ideal one sends fewer classes without error.

    Args:
        found: what is on record of a task.
        uses: channel uses, a panel each.
        others: further curves of a panel, with markers.
        published: points of others, by the number of channel uses of the panel they belong to.
        snr_db: (S,), where separate designs are drawn.
        coders: those drawn.

    Raises:
        ValueError: a coder is not on record.
    """
    for coder in coders:
        known = ", ".join(found.ladders)
        require(coder in found.ladders, "coders", coder, f"choose of those on record: {known}")
    rows = -(-len(uses) // 2)
    figure, panels = plt.subplots(
        rows, min(len(uses), 2), figsize=(9.5, 0.6 + 3.2 * rows), sharey=True, squeeze=False
    )
    for axes, n in zip(panels.flat, uses, strict=False):
        axes.set_title(f"{n} channel uses")
        _error_axis(axes)
        _draw_separate(axes, {coder: found.ladders[coder] for coder in coders}, snr_db, n)
        _draw_others(axes, (others or {}).get(n, {}))
        _draw_published(axes, (published or {}).get(n))
    for axes in panels.flat[len(uses) :]:
        axes.remove()
    for axes in panels[-1]:
        axes.set_xlabel("SNR (dB)")
    for axes in panels[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    _legend(figure, coders, others or {}, published or {})
    return figure


def _draw_separate(
    axes: Axes, found: Mapping[str, Sequence[Ladder]], snr_db: np.ndarray, uses: int
) -> None:
    for coder, ladders in found.items():
        draw_interval(axes, _STYLES[coder], snr_db, coder_over_snr(ladders, snr_db, uses), 100)
    if CLASS in found:
        built = [one.over_small_code(snr_db, uses, CLASSES) for one in found[CLASS]]
        line(axes, _STYLES[CLASS], snr_db, 100 * np.mean(built, 0), ls=":")


def _draw_published(axes: Axes, points: Points | None) -> None:
    if points is not None:
        accuracy = 100 * np.array(points.accuracy)
        line(axes, _PUBLISHED, points.snr_db, accuracy, ls="", markersize=7)


def _style_of(label: str, labels: Sequence[str]) -> Style:
    return _OTHERS[labels.index(label) % len(_OTHERS)]


def _draw_others(axes: Axes, curves: Mapping[str, Curve]) -> None:
    labels = list(curves)
    for label, curve in curves.items():
        values = interval(np.atleast_2d(np.asarray(curve.accuracy, dtype=float)))
        draw_interval(axes, _style_of(label, labels), np.asarray(curve.snr_db), values, 100)


def _legend(
    figure: Figure, coders: Sequence[str], others: Others, published: Mapping[int, Points]
) -> None:
    """One legend above all panels."""
    entries = [(LABELS[coder], _STYLES[coder], "-") for coder in coders]
    if CLASS in coders:
        entries.append((f"{LABELS[CLASS]}, sent by a simple code", _STYLES[CLASS], ":"))
    for curves in others.values():
        entries += [(label, _style_of(label, list(curves)), "-") for label in curves]
    entries += [(_label_of(points), _PUBLISHED, "") for points in published.values()]
    once = {label: (style, ls) for label, style, ls in entries}
    handles = [
        plt.Line2D([], [], label=label, **{**style._asdict(), "ls": ls})
        for label, (style, ls) in once.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)


def _label_of(points: Points) -> str:
    few, many = sorted(points.uses)
    return f"{points.label} ({few} to {many} uses, SNR of the peak)"


def accuracy_over_bits(found: Separation) -> Figure:
    """Accuracy of each coder over the bits that each image may take: means over seeds."""
    figure, axes = plt.subplots(figsize=(8.6, 4.0))
    bits = np.geomspace(1, 8192, 600)
    for coder, ladders in found.ladders.items():
        values = interval(np.stack([one.at(bits) for one in ladders]))
        draw_interval(axes, _STYLES[coder], bits, values, 100)
    _error_axis(axes)
    axes.set_xscale("log", base=2)
    ticks = [2**k for k in range(0, 14, 2)]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.set_xlabel("bits for each image")
    axes.set_ylabel("test accuracy (%)")
    handles = [
        plt.Line2D([], [], label=LABELS[coder], **_STYLES[coder]._asdict())
        for coder in found.ladders
    ]
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def separation_table(
    found: Separation, points: Sequence[tuple[int, float]] = ((64, 20), (64, 10), (32, 10), (8, 10))
) -> Markdown:
    """Test accuracy in % of each coder at numbers of channel uses and SNR, with an ideal code.

    Args:
        points: channel uses, and the SNR in dB.
    """

    def head(uses: int, snr_db: float) -> str:
        return f"{uses} uses, {snr_db:g} dB: {float(capacity(snr_db, uses)):.0f} bits"

    return table(
        {"sent": LABELS[coder]}
        | {
            head(n, snr): with_interval(coder_over_snr(ladders, np.array([snr]), n).at(0), 100)
            for n, snr in points
        }
        for coder, ladders in found.ladders.items()
    )


def bits_needed(ladders: Sequence[Ladder], accuracy: float) -> float:
    """The fewest bits at which the mean over seeds has an accuracy; infinite where none do."""
    bits = np.unique(np.concatenate([one.bits for one in ladders]))
    mean = np.mean([one.at(bits) for one in ladders], 0)
    enough = np.flatnonzero(mean >= accuracy)
    return float(bits[enough[0]]) if len(enough) else np.inf


def latency_table(
    found: Separation, accuracy: float, snr_db: float, bandwidth_hz: float = 1e4
) -> Markdown:
    """What each coder needs for an accuracy: bits, channel uses at capacity, and time on air.

    Args:
        accuracy: in [0, 1].
        snr_db: in dB.
        bandwidth_hz: of the band, which carries twice as many real channel uses a second.
    """

    def row(coder: str, ladders: Sequence[Ladder]) -> dict[str, Any]:
        bits = bits_needed(ladders, accuracy)
        told = dict.fromkeys(("bits", "channel uses", "time on air (ms)"), "not reached")
        if np.isfinite(bits):
            uses = float(uses_for(bits, snr_db))
            time = 1e3 * float(seconds(uses, bandwidth_hz))
            numbers = (f"{bits:.1f}", f"{uses:.0f}", f"{time:.2f}")
            told = dict(zip(told, numbers, strict=True))
        return {"sent": LABELS[coder]} | told

    return table(row(coder, ladders) for coder, ladders in found.ladders.items())


def separation_rows(
    found: Separation, uses: Sequence[int] = (8, 16, 32, 64), snr_db: np.ndarray = SNR_DB
) -> list[dict[str, Any]]:
    """The data behind `accuracy_over_snr`: a row for each coder, number of uses and SNR."""
    rows = []
    for coder, ladders in found.ladders.items():
        for n in uses:
            values = coder_over_snr(ladders, snr_db, n)
            rows += [
                {
                    "sent": LABELS[coder],
                    "channel uses": n,
                    "SNR (dB)": float(snr),
                    "bits": round(float(capacity(snr, n)), 2),
                    "test accuracy": round(float(mean), 5),
                }
                for snr, mean in zip(snr_db, values.mean, strict=True)
            ]
    return rows
