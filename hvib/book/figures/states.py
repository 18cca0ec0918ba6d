"""Figures and tables over the plane β × SNR."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from hvib.book.figures.page import table
from hvib.book.figures.separation import Curve
from hvib.book.figures.style import PALETTE, draw_interval, log_axis, method_style
from hvib.book.state_results import (
    EACH,
    ONLY,
    ORDERED_EACH,
    ORDERED_TOLD,
    ORDERED_UNTOLD,
    TOLD,
    TOLD_ONCE,
    TOLD_RECEIVER,
    UNTOLD,
    Case,
    Over,
    Plane,
    Planes,
    Who,
    case_label,
    excess,
    loss,
    loss_text,
    mean_excess,
    price,
    real_snr,
    whole_excess,
)
from hvib.book.statistics import interval
from hvib.book.text import beta_text, with_interval
from hvib.book.yardstick import yardstick
from hvib.methods import METHODS, Style
from hvib.tasks import Metric

_LABELS = {
    EACH: "one network for each SNR",
    ONLY: "trained at {nominal:.0f} dB only",
    UNTOLD: "all SNRs, told to nobody",
    TOLD_RECEIVER: "all SNRs, told to the receiver",
    TOLD: "all SNRs, told to both ends",
    TOLD_ONCE: "told to both ends, epochs of one run",
    ORDERED_EACH: "ordered, one for each SNR",
    ORDERED_UNTOLD: "ordered, told to nobody",
    ORDERED_TOLD: "ordered, told to both ends",
}

_STYLES = {
    EACH: Style("#000000", "."),
    ONLY: Style("#999999", "x"),
    UNTOLD: Style(PALETTE[0], "o"),
    TOLD_RECEIVER: Style(PALETTE[4], "v"),
    TOLD: Style(PALETTE[1], "s"),
    ORDERED_TOLD: Style(PALETTE[2], "D"),
}

MAIN = (ONLY, UNTOLD, TOLD_RECEIVER, TOLD, EACH)
"""What most figures and tables compare, from the worst to the dearest."""


def who_label(who: Who, nominal: float = 20.0) -> str:
    """What the book calls a kind of training."""
    if who in _LABELS:
        return _LABELS[who].format(nominal=nominal).replace("-", "−")
    known = METHODS.all()
    return known[who.method].label if who.method in known else who.method


def _style(who: Who) -> Style:
    return _STYLES.get(who) or method_style((who.method, 1.0))  # type: ignore[arg-type]


def db(snr_db: float) -> str:
    """An SNR as prose has it: −5 dB."""
    return f"{snr_db:g} dB".replace("-", "−")


_TICKS = (20, 50, 70, 80, 90, 95, 98, 99)


def _metric_axis(axes: Axes, metric: Metric) -> None:
    """An axis of the test metric; that of accuracies is logarithmic in the error."""
    axes.set_ylabel(f"test {metric.name} ({metric.unit})")
    if metric.relative:
        log_axis(axes)
        return
    axes.set_yscale(
        "function",
        functions=(
            lambda shown: -np.log10(np.maximum(100.4 - np.asarray(shown), 1e-3)),
            lambda drawn: 100.4 - 10 ** -np.asarray(drawn),
        ),
    )
    low = axes.dataLim.y0
    axes.set_ylim(max(low - 0.1 * (100 - low), 0), 99.5)
    axes.set_yticks([tick for tick in _TICKS if tick >= low - 0.1 * (100 - low)])
    axes.yaxis.set_major_formatter("{x:g}")


def _one_column(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure, panels = plt.subplots(count, 1, figsize=(6.4, 0.9 + height * count), squeeze=False)
    return figure, list(panels[:, 0])


def _legend(figure: Figure, names: Sequence[Who], nominal: float) -> None:
    handles = [
        plt.Line2D([], [], label=who_label(who, nominal), **_style(who)._asdict()) for who in names
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)


def _draw(
    axes: Axes, plane: Plane, values: np.ndarray, factor: float = 1.0, *, real: bool = False
) -> None:
    at = real_snr(plane) if real else np.array(plane.snrs)
    draw_interval(axes, _style(plane.who), at, interval(values), factor)


def metric_over_snr(
    cases: Mapping[Case, Planes],
    names: Sequence[Who] = MAIN,
    nominal: float = 20.0,
    *,
    real: bool = False,
) -> Figure:
    """The test metric at the β that validation selects for each SNR, a panel for each case.

    Args:
        real: over the SNR of the power that is really sent.
    """
    figure, panels = _one_column(len(cases), 2.9)
    drawn = [who for who in names if any(who in planes for planes in cases.values())]
    for axes, (case, planes) in zip(panels, cases.items(), strict=True):
        for who in drawn:
            if who in planes:
                plane = planes[who]
                _draw(axes, plane, plane.at_selected(), plane.metric.factor, real=real)
        axes.set_title(case_label(case))
        faded = case[1] in ("rayleigh", "rician")
        axes.set_xlabel(("mean SNR" if faded else "SNR") + (" of what is sent" * real) + " (dB)")
        _metric_axis(axes, next(iter(planes.values())).metric)
    _legend(figure, drawn, nominal)
    return figure


def objective_over_snr(
    planes: Planes, betas: Sequence[float], names: Sequence[Who] = MAIN, nominal: float = 20.0
) -> Figure:
    """The test objective over the SNR, a panel for each of some β."""
    figure, panels = _one_column(len(betas), 2.9)
    drawn = [who for who in names if who in planes]
    for axes, beta in zip(panels, betas, strict=True):
        for who in drawn:
            k = int(np.abs(np.log(planes[who].betas / beta)).argmin())
            _draw(axes, planes[who], planes[who].column("objective")[..., k])
        axes.set_title(f"β = {beta_text(float(planes[drawn[0]].betas[k]))}")
        axes.set_xlabel("SNR (dB)")
        axes.set_ylabel("test objective")
        log_axis(axes)
    _legend(figure, drawn, nominal)
    return figure


def plane_of_excess(planes: Planes, pairs: Sequence[tuple[Who, Who]]) -> Figure:
    """How far one kind's objective is above another's, over SNR and β: a panel for each pair."""
    figure, panels = _one_column(len(pairs), 3.4)
    norm = SymLogNorm(10, vmin=-100, vmax=100)
    for axes, (ours, theirs) in zip(panels, pairs, strict=True):
        found = excess(planes[ours], planes[theirs])
        mean, betas = 100 * found.values.mean, planes[ours].betas
        image = axes.imshow(mean, cmap="PuOr_r", norm=norm, origin="lower", aspect="auto")
        axes.grid(False)
        for (row, column), value in np.ndenumerate(mean):
            text = f"{value:+.0f}".replace("-", "−") if round(value) else "0"
            light = np.dot(image.to_rgba(value)[:3], (0.3, 0.6, 0.1)) > 0.5
            color = "black" if light else "white"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=10)
        axes.set_xticks(range(len(betas)), [beta_text(float(beta)) for beta in betas])
        axes.set_yticks(
            range(len(found.snrs)), [f"{snr:g}".replace("-", "−") for snr in found.snrs]
        )
        axes.set_xlabel("trade-off β")
        axes.set_ylabel("SNR (dB)")
        axes.set_title(f"{who_label(ours)}\nover {who_label(theirs)} (%)")
    return figure


def plane_rows(
    cases: Mapping[Case, Planes], names: Sequence[Who] | None = None, nominal: float = 20.0
) -> list[dict[str, Any]]:
    """Every number of some planes: the data behind a figure."""
    columns = ("metric", "distortion", "rate_nats", "objective", "tx_power")
    return [
        {
            "case": case_label(case),
            "trained": who_label(who, nominal),
            "seed": seed,
            "snr_db": snr,
            "beta": float(beta),
        }
        | {name: round(float(values[name][i, j, k]), 6) for name in columns}
        for case, planes in cases.items()
        for who, plane in planes.items()
        if names is None or who in names
        for values in ({name: plane.column(name) for name in columns},)
        for i, seed in enumerate(plane.seeds)
        for j, snr in enumerate(plane.snrs)
        for k, beta in enumerate(plane.betas)
    ]


def _cell(found: Over, snr: float, metric: Metric | None = None) -> str:
    """A loss at one SNR with its unit; without a metric in %, and "not trained" where none is."""
    if snr not in found.snrs:
        return "not trained"
    one = found.at(snr)
    if metric is None:
        return with_interval(one, 100, 1)
    if metric.relative and one.mean >= 9:
        return loss_text(one, yardstick(metric)).replace("the error", "as large")
    unit = "%" if metric.relative else "points"
    return f"{with_interval(one, 100, 1 if metric.relative else 2)} {unit}"


def gains_table(cases: Mapping[Case, Planes], nominal: float = 20.0) -> Markdown:
    """At each SNR: what training over SNRs gives, what knowing the SNR gives, what is missing.

    A gain is positive where the first of two is better. In points of accuracy, or in % of an error;
    the mean over β of the objective in % of it.
    """
    rows = []
    for case, planes in cases.items():
        if not {ONLY, UNTOLD, TOLD, EACH} <= planes.keys():
            continue
        metric = planes[TOLD].metric
        over, knows = loss(planes[ONLY], planes[UNTOLD]), loss(planes[UNTOLD], planes[TOLD])
        objective = mean_excess(planes[TOLD], planes[UNTOLD])
        behind = loss(planes[TOLD], planes[EACH])
        rows += [
            {
                "task, channel": case_label(case),
                "SNR": db(snr),
                f"all SNRs over {nominal:.0f} dB only": _cell(over, snr, metric),
                "told over untold": _cell(knows, snr, metric),
                "the same, objective (%)": _cell(objective, snr),
                "told behind one for each SNR": _cell(behind, snr, metric),
            }
            for snr in planes[TOLD].snrs
        ]
    return table(rows)


def elsewhere_table(planes: Planes, nominal: float) -> Markdown:
    """The metric of the system trained at the nominal SNR at all others, and of those of each."""
    only, each = planes[ONLY], planes[EACH]
    metric, lost = only.metric, loss(only, each)
    values = {
        f"trained at {nominal:.0f} dB, β kept": (only, only.at_kept(nominal)),
        f"trained at {nominal:.0f} dB, β selected here": (only, only.at_selected()),
        "trained here": (each, each.at_selected()),
    }

    def row(snr: float) -> dict[str, str]:
        cells = {"SNR": db(snr)}
        for name, (plane, found) in values.items():
            one = interval(found[:, plane.snrs.index(snr)])
            cells[f"{name} ({metric.unit})"] = with_interval(one, metric.factor, 2)
        return cells | {"lost": yardstick(metric).among_seeds(lost.at(snr))}

    return table(row(snr) for snr in only.snrs if snr in each.snrs)


def kinds_table(planes: Planes, nominal: float = 20.0) -> Markdown:
    """Each kind of training: metric at the ends of the SNR, objective, training time, parameters.

    The objective is the mean over β and the SNR that all have, relative to the networks for each.
    """
    each = planes[EACH]

    def row(who: Who, plane: Plane) -> dict[str, str]:
        metric = plane.metric
        found = interval(plane.at_selected())
        low, high = (with_interval(found.at(k), metric.factor, metric.digits) for k in (0, -1))
        power = interval(plane.at_selected("tx_power")[:, 0])
        mean = whole_excess(plane, each)
        networks = len(plane.snrs) if who.trained == "each" else 1
        size = next(iter(plane.records.values()))[0].parameters
        return {
            "training": who_label(who, nominal)
            + (f" ({networks} SNRs)" if who.trained == "each" else ""),
            f"{metric.name} at {db(plane.snrs[0])} ({metric.unit})": low,
            f"at {db(plane.snrs[-1])}": high,
            f"power sent at {db(plane.snrs[0])}": with_interval(power, 1, 1),
            "objective over one for each SNR (%)": with_interval(mean, 100, 1)
            if who != EACH
            else "0",
            "time (runs for one SNR)": f"{networks * price(plane, each):.1f}",
            "parameters": f"{networks * size:,}",
            "seeds": str(len(plane.seeds)),
        }

    return table(row(who, plane) for who, plane in planes.items())


def told_apart(cases: Mapping[Case, Planes]) -> Markdown:
    """What each end's knowledge of the state is worth: the mean over SNR and β of the objective."""

    def cell(planes: Planes, ours: Who, theirs: Who) -> str:
        return with_interval(whole_excess(planes[ours], planes[theirs]), 100, 1)

    return table(
        {
            "task, channel": case_label(case),
            "receiver told (%)": cell(planes, TOLD_RECEIVER, UNTOLD),
            "both told (%)": cell(planes, TOLD, UNTOLD),
            "device too (%)": cell(planes, TOLD, TOLD_RECEIVER),
        }
        for case, planes in cases.items()
        if {TOLD, TOLD_RECEIVER, UNTOLD} <= planes.keys()
    )


def learned_curves(planes: Planes, names: Sequence[Who], nominal: float = 20.0) -> dict[str, Curve]:
    """Accuracy at the β selected over the real SNR, to be drawn beside separate designs."""
    return {
        who_label(who, nominal): Curve(real_snr(planes[who]), planes[who].at_selected())
        for who in names
        if who in planes
    }


def excess_rows(planes: Planes, pairs: Sequence[tuple[Who, Who]]) -> list[dict[str, Any]]:
    """The data behind `plane_of_excess`."""
    return [
        {
            "objective of": who_label(ours),
            "over": who_label(theirs),
            "snr_db": snr,
            "beta": float(beta),
            "excess": round(float(found.values.mean[j, k]), 5),
            "half_interval": round(float(found.values.half[j, k]), 5),
        }
        for ours, theirs in pairs
        for found in (excess(planes[ours], planes[theirs]),)
        for j, snr in enumerate(found.snrs)
        for k, beta in enumerate(planes[ours].betas)
    ]
