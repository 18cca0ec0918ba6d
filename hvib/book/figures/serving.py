"""Figure and table of choosing β at run time."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvib.book.figures.page import table
from hvib.book.figures.style import PALETTE, draw_interval, line, metric_axis
from hvib.book.serving import (
    BEST,
    BITS,
    BLIND,
    CHOSEN,
    POLICIES,
    SNRS_DB,
    Outcome,
    beta_over_snr,
    over_budget,
)
from hvib.book.statistics import Interval
from hvib.book.text import with_interval
from hvib.ledger import Record
from hvib.methods import Style
from hvib.tasks import TASKS, Metric

_STYLES = {
    BEST: Style("#555555", ""),
    CHOSEN: Style(PALETTE[1], ""),
    BLIND: Style(PALETTE[0], ""),
}


def chosen_at_run_time(records: Sequence[Record], budgets: Sequence[float] = (8, 16, 32)) -> Figure:
    """The test metric over the budget, mean over the SNR, and the β chosen over the SNR.

    Args:
        records: of runs at several SNR, one for each seed.
        budgets: in bits, whose β are drawn.
    """
    figure, (gained, chosen) = plt.subplots(1, 2, figsize=(9.5, 4.0))
    _draw_gain(gained, records)
    _draw_betas(chosen, records, budgets)
    return figure


def _draw_gain(axes: Axes, records: Sequence[Record]) -> None:
    metric = TASKS.find(records[0].config.task).metric
    bits = np.geomspace(*BITS, 41)
    found = over_budget(records, bits, tuple(_STYLES))
    for name, style in _STYLES.items():
        if name == BEST:  # on which the others lie for the most part
            line(axes, style, bits, metric.factor * found[name].mean, lw=5, alpha=0.3)
        else:
            draw_interval(axes, style, bits, found[name], metric.factor)
    axes.set_xscale("log", base=2)
    ticks = 2.0 ** np.arange(np.ceil(np.log2(BITS[0])), np.log2(BITS[1]) + 0.01)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("budget (bits per inference)")
    metric_axis(axes, metric)
    handles = [
        plt.Line2D([], [], color=style.color, label=POLICIES[name].label)
        for name, style in _STYLES.items()
    ]
    handles[0].set(lw=5, alpha=0.3)
    axes.legend(handles=handles, frameon=False, loc="best")


def _draw_betas(axes: Axes, records: Sequence[Record], budgets: Sequence[float]) -> None:
    snrs = np.linspace(*SNRS_DB, 121)
    for color, bits in zip(PALETTE[2:], budgets, strict=False):
        log_beta = beta_over_snr(records, snrs, bits)
        betas = Interval(*(10**part for part in log_beta))
        draw_interval(axes, Style(color, ""), snrs, betas)
        axes.text(
            1.015,
            float(betas.mean[-1]),
            f"{bits:g} bits",
            color=color,
            transform=axes.get_yaxis_transform(),
            va="center",
        )
    axes.set_yscale("log")
    axes.set_xlim(*SNRS_DB)
    axes.set_xlabel("SNR (dB)")
    axes.set_ylabel("β chosen")


def choice_table(metric: Metric, found: Mapping[str, Outcome]) -> Markdown:
    """What each policy gets, and how well it keeps its budgets.

    Args:
        found: as `hvib.book.serving.regret` gives it.
    """
    unit = "points" if metric.unit == "%" else metric.unit

    def told(values: Interval) -> str:
        return with_interval(values, metric.factor, metric.digits)

    def cells(name: str, one: Outcome) -> dict[str, Any]:
        return {
            "β chosen": POLICIES[name].label,
            f"test {metric.name} ({metric.unit})": told(one.metric),
            f"worse than the best ({unit})": told(one.regret) if name != BEST else "",
            "bits": f"{float(one.bits.mean):.1f}",
            "over the budget (% of requests)": f"{100 * float(one.over.mean):.0f}",
            "by at most (%)": f"{100 * float(one.most.mean):.1f}",
        }

    return table(cells(name, one) for name, one in found.items())
