"""Tables of methods, tasks and verdicts."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import Markdown

from hvib.book.curves import PAPER, VIB, Curve, Groups, Name, label_of, task_label
from hvib.book.figures.page import table
from hvib.book.figures.tasks import Tasks
from hvib.book.statistics import (
    Comparison,
    Interval,
    at_rate,
    at_selected,
    compare,
    excess,
    over_seeds,
    runs_of,
    shared_betas,
    training_seconds,
)
from hvib.book.text import beta_text, percent, with_interval
from hvib.book.verdict import Verdict
from hvib.book.verdicts import (
    Everywhere,
    best_response,
    best_response_alone,
    cheapest_match,
)
from hvib.tasks import TASKS


def best_metric(curves: Sequence[Curve]) -> str:
    """The test metric at the β selected, with its interval, in the metric's unit and digits."""
    metric = curves[0].metric
    return with_interval(at_selected(curves), metric.factor, metric.digits)


def selected_cell(curves: Sequence[Curve]) -> dict[str, str]:
    """`best_metric` as a cell of its row in a table."""
    metric = curves[0].metric
    return {f"test {metric.name} at the β selected ({metric.unit})": best_metric(curves)}


def excess_cells(found: Comparison) -> dict[str, str]:
    """The excess of a variant against VIB, as cells of its row in a table."""
    return {
        "mean excess, training (%)": with_interval(found.train, 100, 1),
        "mean excess, test (%)": with_interval(found.test, 100, 1),
        "largest, test": f"{percent(found.worst, 1)} at β = {beta_text(found.worst_beta)}",
    }


def end_cells(ours: Sequence[Curve], vib: Sequence[Curve]) -> dict[str, str]:
    """The test excess over VIB at both ends of the range, as cells of a row."""
    over_beta = excess(ours, vib, "test").mean
    return {
        "test, at the smallest β": percent(over_beta[0], 1),
        "test, at the largest β": percent(over_beta[-1], 1),
    }


def excess_table(curves: Groups, vib: Sequence[Curve]) -> Markdown:
    """The excess of each method against VIB, and its test metric at the β selected."""
    return table(
        {"method": label_of(name)} | excess_cells(compare(group, vib)) | selected_cell(group)
        for name, group in curves.items()
    )


def one_run_table(curves: Groups) -> Markdown:
    """Methods of one training run beside VIB's grid: their time, metric and excess."""
    vib = curves[VIB]

    def compared(name: Name, group: Sequence[Curve]) -> dict[str, str]:
        cells = excess_cells(compare(group, vib))
        return dict.fromkeys(cells, "") if name == VIB else cells

    return table(
        {"method": label_of(name), "time (VIB runs)": f"{runs_of(group, vib):.2f}"}
        | selected_cell(group)
        | compared(name, group)
        | {"seeds": len(group)}
        for name, group in curves.items()
    )


def beta_rows(curves: Groups) -> list[dict[str, str]]:
    """The test metric of each method at every β that all of them answer for, a row for each β."""

    def cell(group: Sequence[Curve], beta: float) -> str:
        metric, k = group[0].metric, group[0].betas.tolist().index(beta)
        return with_interval(over_seeds(group, "metric").at(k), metric.factor, metric.digits)

    unit = next(iter(curves.values()))[0].metric.unit
    betas = functools.reduce(np.intersect1d, [group[0].betas for group in curves.values()])
    return [
        {"β": beta_text(beta)}
        | {f"{label_of(name)} ({unit})": cell(g, beta) for name, g in curves.items()}
        for beta in betas.tolist()
    ]


def beta_table(curves: Groups) -> Markdown:
    """`beta_rows` as a table."""
    return table(beta_rows(curves))


def cost_rows(curves: Groups) -> list[dict[str, Any]]:
    """Time and parameters for the whole curve over β, as the paper's Table I, and the best β.

    The power is E‖z‖²/n on test data; the noise level assumes 1.
    """
    grid = training_seconds(curves[VIB])
    return [
        {
            "method": label_of(name),
            "training runs": len(group[0].records),
            "epochs a run": group[0].epochs,
            "time for all β (s)": f"{training_seconds(group):,.0f}",
            "grid time / time": f"{grid / training_seconds(group):.1f}",
            "parameters of one system": f"{group[0].parameters:,}",
            "power at the smallest β": f"{over_seeds(group, 'tx_power').mean[0]:.2f}",
            **selected_cell(group),
            "seeds": len(group),
        }
        for name, group in curves.items()
    ]


def end_table(curves: Groups) -> Markdown:
    """What each method does at the largest β on test data: its metric, rate and objective."""

    def cells(group: Sequence[Curve]) -> dict[str, str]:
        names = ("metric", "rate_nats", "objective")
        value, rate, objective = (over_seeds(group, name).at(-1) for name in names)
        metric = group[0].metric
        return {
            f"test {metric.name} ({metric.unit})": with_interval(
                value, metric.factor, metric.digits
            ),
            "rate (bits)": with_interval(rate, 1 / np.log(2), 1),
            "objective": with_interval(objective),
        }

    return table({"method": label_of(name)} | cells(group) for name, group in curves.items())


def excess_at_table(
    curves: Groups, vib: Sequence[Curve], betas: Iterable[float], column: str = "method"
) -> Markdown:
    """The test excess of each group against VIB at single β, and the epochs of its runs.

    Args:
        column: what the groups are, above their names.
    """

    def at(group: Sequence[Curve], beta: float) -> Interval:
        return excess(group, vib, "test").at(shared_betas(group, vib).tolist().index(beta))

    betas = list(betas)
    return table(
        {column: label_of(name), "epochs": group[0].epochs}
        | {f"excess at β = {beta_text(b)} (%)": with_interval(at(group, b), 100, 1) for b in betas}
        for name, group in curves.items()
    )


def cost_table(curves: Groups) -> Markdown:
    """`cost_rows` as a table."""
    return table(cost_rows(curves))


def table_by_task(rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> Markdown:
    """The rows of several tasks in one table, each with its task's label, under each other."""
    return table(
        {"task": task_label(task)} | dict(row) for task, its in rows.items() for row in its
    )


def table_one(tasks: Tasks) -> Markdown:
    """Parameters and time of each method on each task, beside the paper's Table I."""
    rows = []
    for task, curves in tasks.items():
        grid = training_seconds(curves[VIB])
        paper = TASKS.find(task).in_paper
        printed = {VIB: paper.grid_seconds, PAPER: paper.hyper_seconds} if paper else {}
        for name, group in curves.items():
            seconds = training_seconds(group)
            theirs = printed.get(name)
            rows.append(
                {
                    "task": task_label(task),
                    "method": label_of(name),
                    "parameters": f"{group[0].parameters:,}",
                    "time for all β (s)": f"{seconds:,.0f}",
                    "grid / this": f"{grid / seconds:.1f}",
                    "paper: time (s)": f"{theirs:,}" if theirs else "",
                    "paper: grid / this": f"{printed[VIB] / theirs:.1f}" if theirs else "",
                }
            )
    return table(rows)


def best_response_table(tasks: Tasks) -> Markdown:
    """Whether each method of one system is a best response for every β, and at what cost."""
    rows = []
    for task, curves in tasks.items():
        vib = curves[VIB]
        for name, ours in curves.items():
            if not ours[0].for_all_betas:
                continue
            found, runs = compare(ours, vib), runs_of(ours, vib)
            rows.append(
                {"task": task_label(task), "method": label_of(name)}
                | excess_cells(found)
                | {
                    "time (VIB runs)": f"{runs:.2f}",
                    "best response": f"**{best_response(found, runs)}**",
                    "seeds alone": best_response_alone(ours, vib),
                }
            )
    return table(rows)


def match_table(tasks: Tasks) -> Markdown:
    """The cheapest Hyper-VIB of each task that matches VIB's objective, as `cheapest_match` has it.

    Its time is told in VIB runs and as a share of the whole grid's.
    """

    def cells(curves: Groups) -> dict[str, str]:
        key, vib = cheapest_match(curves), curves[VIB]
        cost = runs_of(curves[key], vib) if key else np.nan
        return {
            "run": label_of(key) if key else "none on record",
            "time (VIB runs)": f"{cost:.2f}" if key else "",
            "share of the grid's time": f"{cost / len(vib[0].betas):.0%}" if key else "",
        }

    return table({"task": task_label(task)} | cells(curves) for task, curves in tasks.items())


def rate_table(tasks: Tasks, bits: Sequence[float] = (8, 16, 64)) -> Markdown:
    """The test metric of each method on each task at equal rates, in bits per inference."""

    def cell(group: Sequence[Curve], rate: float) -> str:
        value, metric = at_rate(group, rate * np.log(2)), group[0].metric
        if np.isnan(value.mean):
            return "beyond its curve"
        return with_interval(value, metric.factor, metric.digits)

    return table(
        {"task": task_label(task), "method": label_of(name)}
        | {f"{rate:g} bits": cell(group, rate) for rate in bits}
        for task, curves in tasks.items()
        for name, group in curves.items()
    )


def verdict_table(verdicts: Mapping[str, Verdict]) -> Markdown:
    """Claims, tests, measurements and outcomes, as `judge` gives them."""
    return table(
        {
            "claim": numbered(v.number, v.claim),
            "holds if": v.test,
            "measured": v.measured,
            "verdict": f"**{v.outcome}**",
            "seeds alone": v.agreement,
        }
        for v in verdicts.values()
    )


def claims_table(found: Mapping[str, Everywhere]) -> Markdown:
    """The outcome of each claim on each task and on all of them, as `together` gives them."""
    return table(
        {"claim": numbered(one.number, one.claim)}
        | {task_label(task): end for task, end in one.outcomes.items()}
        | {"all": f"**{one.whole}**"}
        for one in found.values()
    )


def numbered(number: int | None, claim: str) -> str:
    """A claim with its number among the paper's, if it has one."""
    return f"{number}. {claim}" if number else f"(not the paper's) {claim}"
