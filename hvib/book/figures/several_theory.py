"""Figures of the linear case with several devices."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hvib.book.figures.style import PALETTE, line, log_axis
from hvib.book.several_linear import Exact, Pair
from hvib.book.text import beta_text
from hvib.methods import METHODS
from hvib.theory.distributed import (
    DistributedResponse,
    Sources,
    distributed_response,
    noisy_views,
    shrunk,
    system_of,
)
from hvib.theory.distributed_rates import (
    boundary,
    equal_prices,
    joint_rates,
    pair_of_views,
    separate_rates,
)


def equal_branches(
    data: Sources, beta: float, noise_variance: float
) -> tuple[DistributedResponse, DistributedResponse]:
    """Compute the system of one device alone and that of equal use, of two equal devices."""
    c, rho = abs(float(data.cross[0])), float(data.correlation[0, 1])
    sign = np.sign(data.cross)
    alone = np.array([float(shrunk(c, beta, noise_variance)), 0.0])
    e = (c + np.sqrt(c**2 + 2 * rho * (1 + rho) * beta)) / (2 * (1 + rho))
    both = np.full(2, max(e - beta / (2 * e), 0.0))
    one, two = (system_of(data, sign * gain, beta, noise_variance) for gain in (alone, both))
    return one, two


def one_or_both(power: float, noise: float, noise_variance: float) -> tuple[Figure, list[dict]]:
    """Two equal devices over β: the rates of the best system, and how far each branch is above it.

    Args:
        power, noise: P and N.
        noise_variance: σ² of both channels.

    Returns:
        The figure, and the rows behind it.
    """
    data, prices = noisy_views(power, [noise, noise]), equal_prices(power, noise)
    # Both sides of the jump are drawn, so that it is a vertical line.
    at = np.geomspace(prices.lonely / 20, 1.2 * prices.opens, 240)
    betas = np.sort(np.append(at, prices.switches * np.array([1 - 1e-6, 1 + 1e-6])))
    best = [distributed_response(data, beta, noise_variance) for beta in betas]
    branches = [equal_branches(data, beta, noise_variance) for beta in betas]
    rates = np.array([np.sort(one.rates)[::-1] for one in best])
    least = np.array([one.objective for one in best])
    above = np.array([[one.objective for one in pair] for pair in branches]) / least[:, None] - 1
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.0))
    left.plot(betas, rates[:, 0], color=PALETTE[0], label="the device with the larger rate")
    left.plot(betas, rates[:, 1], color=PALETTE[1], ls="--", label="the other device")
    left.set(ylabel="rate $R_j$ of the best system (nats)", title="one or both devices")
    kept = (betas >= prices.lonely, betas <= prices.symmetric)
    for values, shown, label, color in zip(
        above.T, kept, ("one device alone", "both equally"), PALETTE, strict=False
    ):
        right.plot(betas[shown], 100 * values[shown], color=color, label=label)
    right.set(ylabel="above the best system (%)", title="two local minima")
    for axes in (left, right):
        axes.axvline(prices.switches, color="#555555", lw=1, ls=":")
        axes.set(xscale="log", xlabel="price β of both devices")
        axes.legend(frameon=False)
    right.set_xlim(prices.lonely / 1.3, prices.symmetric * 1.3)
    rows = [
        {"beta": b, "R_1": r[0], "R_2": r[1], "min C": c, "one alone": o, "both equally": t}
        for b, r, c, (o, t) in zip(betas, rates, least, (1 + above) * least[:, None], strict=True)
    ]
    return figure, rows


def rate_region(
    power: float, noise: float, distortions: Sequence[float]
) -> tuple[Figure, list[dict]]:
    """The least rates of two equal devices at some distortions, with bins and without.

    Returns:
        The figure, and the rows behind it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2))
    rows: list[dict[str, Any]] = []
    for distortion, color in zip(distortions, PALETTE, strict=False):
        pair = pair_of_views(power, (noise, noise), distortion)
        for joint, style in ((False, "-"), (True, "--")):
            points = boundary(pair, 201, joint=joint)
            left.plot(points[:, 0], points[:, 1], style, color=color)
            kind = "with bins" if joint else "without"
            rows += [{"D": distortion, "rates": kind, "R_1": a, "R_2": b} for a, b in points]
        ours = boundary(pair, 201, joint=False)
        middle = ours[np.abs(ours[:, 0] - ours[:, 1]).argmin()]
        text = {"textcoords": "offset points", "color": color}
        left.annotate(f"D = {distortion:g}", middle, (4, 4), **text)
    left.set(xlim=(0, 4), ylim=(0, 4), xlabel="$R_1$ (nats)", ylabel="$R_2$ (nats)")
    left.set_title("least rates at a distortion")
    low = 1 / (1 / power + 2 / noise)
    grid = low + (power - low) * np.geomspace(1e-3, 0.999, 120)
    found = [pair_of_views(power, (noise, noise), float(D)) for D in grid]
    ours, theirs = (
        np.array([rate(one, (1.0, 1.0)).sum() for one in found])
        for rate in (separate_rates, joint_rates)
    )
    right.plot(grid, ours, color="#222222", label="without bins: ours")
    right.plot(grid, theirs, "--", color="#222222", label="with bins: best codes")
    right.plot(grid, ours - theirs, color=PALETTE[2], label="difference")
    rho = power / (power + noise)
    right.axhline(-0.5 * np.log(1 - rho**2), color=PALETTE[2], lw=1, ls=":")
    right.set(xlabel="distortion $D$", ylabel="$R_1 + R_2$ (nats)", ylim=(0, 6), title="their sum")
    right.legend(frameon=False)
    return figure, rows


def on_closed_form(
    grid: Sequence[float], least: Exact, networks: Mapping[str, Exact], seconds: Sequence[int]
) -> Figure:
    """The objective of trained linear networks over β_1, on the closed form's lines.

    Args:
        grid: the K values of each β; all pairs of them are in the results, β_1 slowest.
        networks: by method.
        seconds: which of the K values of β_2 are drawn.
    """
    figure, panels = plt.subplots(1, len(seconds), figsize=(9.5, 3.9), sharey=True)
    K = len(grid)
    for axes, k in zip(panels, seconds, strict=True):
        lines = least.objective.reshape(K, K)[:, k]
        axes.plot(grid, lines, color="#999999", lw=5, alpha=0.5, label="closed form")
        for method, found in networks.items():
            style = METHODS.find(method).style
            values = found.objective.reshape(K, K)[:, k]
            line(axes, style, grid, values, lw=0.8, ls=":", label=METHODS.find(method).label)
        axes.set(xscale="log", xlabel="$\\beta_1$")
        log_axis(axes)
        axes.set_title(f"$\\beta_2$ = {beta_text(grid[k])}")
    panels[0].set_ylabel("objective")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def closed_form_rows(
    pairs: Sequence[Pair], least: Exact, networks: Mapping[str, Exact]
) -> list[dict[str, Any]]:
    """The objectives behind `on_closed_form`."""
    return [
        {"beta_1": a, "beta_2": b, "closed form": float(least.objective[k])}
        | {METHODS.find(name).label: float(one.objective[k]) for name, one in networks.items()}
        for k, (a, b) in enumerate(pairs)
    ]
