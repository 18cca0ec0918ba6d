"""Figures and tables of two devices over the plane (β_1, β_2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib import ticker
from matplotlib.figure import Figure

from hvib.book.curves import task_label
from hvib.book.figures.page import table
from hvib.book.figures.style import PALETTE, change_axis, line, log_axis, method_style
from hvib.book.several import JOINT, ONE, ORDERED, TOLD
from hvib.book.several_results import (
    KINDS,
    LOSES,
    Pair,
    Several,
    excess,
    mean_excess,
    over_others,
    rates_for,
    with_both,
    without,
)
from hvib.book.statistics import interval
from hvib.book.text import beta_text, with_interval
from hvib.methods import METHODS, Style
from hvib.tasks import Metric

VIB_LABEL = "VIB for the pair"


def label_of_kind(kind: str) -> str:
    """A gated network of two devices as the pages call it."""
    if kind == ONE:
        return "Hyper-VIB, one β for both"
    if kind == LOSES:
        return METHODS.find(JOINT).label + ", trained with losses"
    return METHODS.find(kind).label


def style_of_kind(kind: str) -> Style:
    """How it is drawn."""
    return Style("#56B4E9", "D") if kind == ONE else method_style((kind, 1.0))  # type: ignore[arg-type]


def at_pair(where: Pair) -> str:
    """A pair of β as text: (10⁻³, 0.1)."""
    return f"({', '.join(map(beta_text, where))})"


def in_units(metric: Metric, value: float) -> str:
    """A metric as a cell has it: 98.91, or 0.162."""
    return f"{metric.factor * value:.{metric.digits}f}"


def metric_surfaces(found: Several) -> Figure:
    """The test metric over (β_1, β_2): of three networks, and of VIB at its pairs."""
    kinds = [kind for kind in (JOINT, TOLD, ORDERED) if kind in found.surfaces]
    metric, scale = found.metric, found.metric.factor
    betas = found.surfaces[kinds[0]].betas
    planes = {
        label_of_kind(kind): scale * found.surfaces[kind].plane("metric").mean(0) for kind in kinds
    }
    planes[VIB_LABEL] = np.full((len(betas), len(betas)), np.nan)
    for where in found.pairs:
        at = tuple(int(np.abs(np.log(betas / beta)).argmin()) for beta in where)
        planes[VIB_LABEL][at] = scale * np.mean(list(found.vib(where, "metric").values()))
    # Shaded by the logarithm of the error, so that 98% and 99% differ as 0.2 and 0.1 do.
    shades = {
        label: np.log(np.maximum(scale - plane if metric.higher_is_better else plane, 1e-9))
        for label, plane in planes.items()
    }
    every = np.concatenate([shade.ravel() for shade in shades.values()])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    figure, panels = plt.subplots(2, 2, figsize=(9.5, 7.0), squeeze=False)
    ticks = [beta_text(beta) for beta in betas]
    digits = 1 if metric.higher_is_better else 2
    for axes, (label, plane) in zip(panels.flat, planes.items(), strict=False):
        shade = shades[label]
        axes.imshow(shade, origin="lower", cmap="cividis_r", aspect="auto", vmin=low, vmax=high)
        for (j, k), value in np.ndenumerate(plane):
            if np.isfinite(value):
                color = "white" if shade[j, k] > (low + high) / 2 else "black"
                axes.text(k, j, f"{value:.{digits}f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(betas)), ticks)
        axes.set_yticks(range(len(betas)), ticks)
        axes.set(title=label, xlabel="$\\beta_2$", ylabel="$\\beta_1$")
        axes.grid(visible=False)
    figure.suptitle(f"test {metric.name} ({metric.unit})", fontsize=11)
    return figure


def surface_rows(cases: Mapping[str, Several]) -> list[dict[str, Any]]:
    """What each network and VIB have at each (β_1, β_2) and seed: the data behind the figures."""
    names = ("metric", "distortion", "objective")
    rows: list[dict[str, Any]] = []
    for task, found in cases.items():
        for kind, surface in found.surfaces.items():
            columns = {name: surface.column(name) for name in (*names, "rates_nats")}
            for s, seed in enumerate(surface.seeds):
                for k, (a, b) in enumerate(surface.pairs):
                    told = {"task": task_label(task), "label": label_of_kind(kind), "seed": seed}
                    one, two = columns["rates_nats"][s, k]
                    values = {name: float(columns[name][s, k]) for name in names}
                    rows.append(told | {"beta_1": a, "beta_2": b, "R_1": one, "R_2": two} | values)
        for where in found.pairs:
            for seed, rates in found.vib(where, "rates_nats").items():
                told = {"task": task_label(task), "label": VIB_LABEL, "seed": seed}
                values = {name: found.vib(where, name)[seed] for name in names}
                told |= {"beta_1": where[0], "beta_2": where[1], "R_1": rates[0], "R_2": rates[1]}
                rows.append(told | values)
    return rows


def excess_at_pairs(cases: Mapping[str, Several], kinds: Sequence[str] = KINDS[:4]) -> Figure:
    """How far each network's test objective is above VIB's at each pair, with 95% intervals."""
    figure, panels = plt.subplots(1, len(cases), figsize=(9.5, 4.6), sharey=True, squeeze=False)
    for axes, (task, found) in zip(panels.flat, cases.items(), strict=True):
        axes.axhline(0, color=PALETTE[0], lw=1.2)
        names = list(found.pairs)
        for n, kind in enumerate(kinds):
            values = excess(found, kind) if kind in found.surfaces else {}
            style = style_of_kind(kind)
            shift = 0.16 * (n - (len(kinds) - 1) / 2)
            for where, one in values.items():
                at = names.index(where) + shift
                line(axes, style, [at], [100 * float(one.mean)], ls="")
                axes.plot([at, at], [100 * one.low, 100 * one.high], color=style.color, lw=1.2)
        axes.set_xticks(range(len(names)), list(map(at_pair, names)), rotation=60, ha="right")
        axes.set(title=task_label(task), xlabel="$(\\beta_1, \\beta_2)$")
        change_axis(axes)
    panels[0, 0].set_ylabel("excess over VIB (%)")
    handles = [
        plt.Line2D([], [], label=label_of_kind(kind), **style_of_kind(kind)._asdict() | {"ls": ""})
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def traced_rates(
    cases: Mapping[str, Several], levels: Mapping[str, Sequence[float]], kind: str = ORDERED
) -> Figure:
    """The rates with which a network reaches some levels of its metric.

    Args:
        levels: of each task's metric, in the records' units.
    """
    figure, panels = plt.subplots(1, len(cases), figsize=(9.5, 4.2), squeeze=False)
    for axes, (task, found) in zip(panels.flat, cases.items(), strict=True):
        metric = found.metric
        for level, color in zip(levels[task], PALETTE, strict=False):
            reached = rates_for(found.surfaces[kind], level)
            label = f"{in_units(metric, level)} {metric.unit}"
            if len(reached.first):
                axes.plot(reached.first, reached.second, "o-", color=color, label=label)
        axes.set(xlabel="$R_1$ (nats)", ylabel="$R_2$ (nats)", title=task_label(task))
        if not axes.get_lines():  # no level is crossed: a logarithmic axis would have no ends
            continue
        log_axis(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 3}
        axes.legend(**place, frameon=False, title=f"test {metric.name}")
    return figure


def mean_excess_rows(cases: Mapping[str, Several]) -> Markdown:
    """The mean excess of each network over VIB, over its pairs, and on those of equal β."""

    def cell(found: Several, kind: str) -> str:
        if not found.compared(kind):
            return "no records"
        return with_interval(mean_excess(found, kind), 100, 0)

    def on_diagonal(found: Several, kind: str) -> str:
        if not {kind, ONE} <= set(found.surfaces) or kind == ONE:
            return "–"
        return with_interval(over_others(found, kind, ONE), 100, 0)

    return table(
        {"network": label_of_kind(kind)}
        | {
            f"{task_label(task)}: {name}": value
            for task, found in cases.items()
            for name, value in (
                ("over VIB (%)", cell(found, kind)),
                ("over one β for both (%)", on_diagonal(found, kind)),
            )
        }
        for kind in (JOINT, TOLD, ORDERED, ONE)
    )


def unequal_table(found: Several, kind: str, wheres: Sequence[Pair]) -> Markdown:
    """What the prices of both devices do: rates and metric of a network, and of VIB there."""
    surface, metric = found.surfaces[kind], found.metric

    def cells(where: Pair) -> dict[str, str]:
        ours = np.mean(list(surface.at(where, "rates_nats").values()), 0)
        cells = {"(β₁, β₂)": at_pair(where), "R₁ (nats)": f"{ours[0]:.1f}"}
        cells |= {"R₂ (nats)": f"{ours[1]:.1f}"}
        values = interval(np.array(list(surface.at(where, "metric").values())))
        name = f"{metric.name} ({metric.unit})"
        cells[name] = with_interval(values, metric.factor, metric.digits)
        if where in found.pairs:
            rates = np.mean(list(found.vib(where, "rates_nats").values()), 0)
            theirs = interval(np.array(list(found.vib(where, "metric").values())))
            cells["VIB: R₁, R₂ (nats)"] = f"{rates[0]:.1f}, {rates[1]:.1f}"
            cells[f"VIB: {name}"] = with_interval(theirs, metric.factor, metric.digits)
        return cells

    return table(map(cells, wheres))


def lost_table(found: Several, where: Pair) -> Markdown:
    """The test metric with both devices and once one is lost, and of a device trained alone."""
    metric = found.metric

    def text(values: Any) -> str:
        return with_interval(values, metric.factor, metric.digits)

    rows = [
        {
            "network": label_of_kind(kind),
            "both": text(with_both(found, kind, where)),
            "without the first": text(without(found, kind, where, 0)),
            "without the second": text(without(found, kind, where, 1)),
        }
        for kind in (JOINT, ORDERED, LOSES)
        if kind in found.surfaces
    ]
    for (network, beta), records in sorted(found.alone.items(), reverse=True):
        if beta == min(b for _, b in found.alone):
            values = np.array([r.rows("test")[0]["metric"] for r in records.values()])
            first = not network.endswith("lower")
            cells = ("–", text(interval(values))) if first else (text(interval(values)), "–")
            rows.append(
                {"network": f"VIB of the {'first' if first else 'second'} device alone"}
                | {"both": "–", "without the first": cells[0], "without the second": cells[1]}
            )
    return table(rows)


SHORT = {JOINT: "joint", TOLD: "told", ORDERED: "ordered", ONE: "one", LOSES: "lossy"}
"""The networks in the names of quoted numbers."""


def several_facts(found: Several) -> dict[str, str]:
    """The numbers of one task that prose quotes, under names that begin with the task's."""
    metric = found.metric
    small = found.surfaces[JOINT].pairs[0]
    corner = next((p for p in found.pairs if np.allclose(p, (0.1, 0.1))), next(iter(found.pairs)))

    def text(values: Any) -> str:
        return with_interval(values, metric.factor, metric.digits)

    facts: dict[str, Any] = {"seeds": found.seeds, "runs": found.records}
    vib = interval(np.array(list(found.vib(corner, "objective").values())))
    facts["corner-vib"] = with_interval(vib, 1, 2)
    if small in found.pairs:
        facts["best-vib"] = text(interval(np.array(list(found.vib(small, "metric").values()))))
    for kind, surface in found.surfaces.items():
        name = SHORT[kind]
        facts[f"best-{name}"] = text(with_both(found, kind, small))
        if kind != ONE:
            for j in (0, 1):
                facts[f"without-{j}-{name}"] = text(without(found, kind, small, j))
        if kind == LOSES:
            continue
        facts[f"excess-{name}"] = with_interval(mean_excess(found, kind), 100, 0)
        if kind != ONE and ONE in found.surfaces:
            facts[f"diagonal-{name}"] = with_interval(over_others(found, kind, ONE), 100, 0)
        if corner in surface.pairs:
            values = interval(np.array(list(surface.at(corner, "objective").values())))
            facts[f"corner-{name}"] = with_interval(values, 1, 2)
            facts[f"corner-excess-{name}"] = with_interval(excess(found, kind)[corner], 100, 0)
    dear = next((p for p in found.pairs if np.allclose(p, (0.1, 1e-3))), corner)
    told, untold = (found.surfaces[kind].at(corner, "objective") for kind in (TOLD, JOINT))
    gained = interval(np.array([told[s] / untold[s] - 1 for s in told if s in untold]))
    facts["corner-telling"] = with_interval(gained, 100, 0)
    for place, where in (("corner", corner), ("dear", dear)):
        rates = {"vib": found.vib(where, "rates_nats")}
        for kind in (JOINT, TOLD, ORDERED):
            rates[SHORT[kind]] = found.surfaces[kind].at(where, "rates_nats")
        for name, by_seed in rates.items():
            first = interval(np.array([one[0] for one in by_seed.values()]))
            facts[f"rate-{place}-{name}"] = with_interval(first, 1, 1)
    for network, beta in sorted(found.alone):
        if beta == min(b for _, b in found.alone):
            records = found.alone[network, beta].values()
            values = interval(np.array([r.rows("test")[0]["metric"] for r in records]))
            facts[f"alone-{network}"] = text(values)
    return {f"{found.task}-{name}": str(value) for name, value in facts.items()}
