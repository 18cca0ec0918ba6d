"""The numbers that a task's page quotes of each method."""

from collections.abc import Sequence

import numpy as np

from hvib.book.curves import VIB, Curve, Curves, Key
from hvib.book.fair import MIDDLE
from hvib.book.figures.tables import best_metric
from hvib.book.statistics import (
    compare,
    excess,
    interval,
    over_seeds,
    paired,
    runs_of,
    shared_betas,
    training_seconds,
)
from hvib.book.text import above, beta_text
from hvib.book.yardstick import yardstick


def quoted_as(key: Key) -> str:
    """A curve's name in the names of what is quoted: `hyper-ordered-2x`."""
    name = key.method.replace("hyper-vib", "hyper")
    return name if key.multiple == 1 else f"{name}-{key.multiple:g}x"


def facts_of(curves: Curves) -> dict[str, str]:
    """What a page's prose quotes of each method, as `<method>-<what>`.

    `best`: the test metric at the β selected, with its interval; `seconds`: training time of
    the whole curve; `runs`: the same in VIB runs; `speedup`: the grid's time over it; `bits` and
    `power`: rate and transmitted power at the smallest β; `end`: the objective at the largest. Of
    what answers every β also its test excess: `excess`, the mean over β; `worst` and `worst-beta`,
    the largest and where it is; `end-excess`, at the largest β.
    """
    grid = training_seconds(curves[VIB])
    facts = {"seeds": str(len(curves[VIB]))}
    for key, group in curves.items():
        name = quoted_as(key)
        seconds = training_seconds(group)
        facts |= {
            f"{name}-best": best_metric(group),
            f"{name}-seconds": f"{seconds:,.0f}",
            f"{name}-runs": f"{runs_of(group, curves[VIB]):.1f}",
            f"{name}-speedup": f"{grid / seconds:.1f}",
            f"{name}-bits": f"{over_seeds(group, 'rate_nats').mean[0] / np.log(2):.0f}",
            f"{name}-power": f"{over_seeds(group, 'tx_power').mean[0]:.2f}",
            f"{name}-end": f"{over_seeds(group, 'objective').mean[-1]:.2f}",
            f"{name}-parameters": f"{group[0].parameters:,}",
        }
        if group[0].for_all_betas:
            vib = curves[VIB]
            found = compare(group, vib)
            facts |= {
                f"{name}-excess": above(float(found.test.mean)),
                f"{name}-worst": above(found.worst),
                f"{name}-worst-beta": beta_text(found.worst_beta),
                f"{name}-end-excess": above(float(excess(group, vib, "test").mean[-1])),
            }
    machine = curves[VIB][0].records[0].environment
    facts["machine"] = (
        f"{machine['name']}, {machine['threads']} "
        f"thread{'s' * (machine['threads'] > 1)}, {machine['products']} products"
    )
    return facts


def facts_of_stretches(curves: Curves) -> dict[str, str]:
    """How each method of one run compares with VIB at small, middle and large β, on test data.

    `small`, `middle`, `large`: its mean excess over the β below, within and beyond `MIDDLE`;
    `gain`: by how much its metric at the smallest β is better than VIB's, paired by seed.
    """
    vib, facts = curves[VIB], {}
    for key, group in curves.items():
        if not group[0].for_all_betas:
            continue
        name, over_beta = quoted_as(key), excess(group, vib, "test").mean
        # A little beyond the middle β, which rounding may put on either side of its ends.
        ends = MIDDLE[0] / 1.2, MIDDLE[1] * 1.2
        stretch = np.searchsorted(ends, shared_betas(group, vib))
        for k, what in enumerate(("small", "middle", "large")):
            within = over_beta[stretch == k]
            facts[f"{name}-{what}"] = above(float(within.mean())) if len(within) else "no β of"
        by = yardstick(group[0].metric)
        behind = [
            by.worse(*(curve.column("metric", "test")[:1] for curve in pair))[0]
            for pair in paired(group, vib)
        ]
        facts[f"{name}-gain"] = by.among_seeds(interval(np.array(behind)))
    return facts


def facts_of_gates(ours: Sequence[Curve], vib: Sequence[Curve]) -> dict[str, str]:
    """What a gated system has more of than a plain one: `extra` parameters, `extra-share`."""
    more = ours[0].parameters - vib[0].parameters
    return {"extra": f"{more:,}", "extra-share": f"{more / vib[0].parameters:.2%}"}


def elsewhere(curves: Sequence[Curve]) -> str:
    """The machines that trained other seeds than the first's, whose times do not count."""
    first, *others = [curve.records[0].environment["name"] for curve in curves]
    return ", ".join(sorted(set(others) - {first})) or "none"
