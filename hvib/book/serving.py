"""What choosing β at run time is worth: its regret, and that of one β for all SNR.

A policy sees the surface of validation data and a request, and names a β. What the request then
gets is read off the surface of test data. Both are smooth surfaces through the measured points, and
the policy's has the points of the study's grid alone, also where the record has more.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.book.states import BETAS, BOTH, SNRS, mixed
from hvib.book.statistics import Interval, interval
from hvib.book.text import with_interval
from hvib.check import require
from hvib.ledger import Record
from hvib.run import Run, beta_grid
from hvib.serving import Surface, choose, choose_blind
from hvib.tasks import TASKS

Array = Float[np.ndarray, "..."]

SNRS_DB = (-5.0, 25.0)
"""Between which the SNR of a request lies in dB, each dB alike."""

BITS = (4.0, 128.0)
"""Between which the budget of a request lies in bits, each doubling alike."""

KEPT_BACK = 0.05
"""The share of a budget that the careful policy leaves unused: the rate of test data is about 1%
above that of validation data, and up to 4% above a smooth surface between points a decade apart."""

FINE_BETAS, FINE_SNRS = beta_grid(per_decade=4), tuple(np.linspace(*SNRS_DB, 13).tolist())
"""The grid of records that show what is between the points of the study's."""


class Requests(NamedTuple):
    """What K requests ask for."""

    snr_db: Float[np.ndarray, " K"]
    """in dB"""
    bits: Float[np.ndarray, " K"]
    """the most bits of the inference"""


def requests(
    count: int = 20_000,
    seed: int = 0,
    *,
    snrs_db: tuple[float, float] = SNRS_DB,
    bits: tuple[float, float] = BITS,
) -> Requests:
    """Requests of uniform SNR in dB and log-uniform budgets, independent of each other."""
    snr, budget = np.random.default_rng(seed).random((2, count))
    return Requests(
        snrs_db[0] + snr * (snrs_db[1] - snrs_db[0]), bits[0] * (bits[1] / bits[0]) ** budget
    )


class Policy(NamedTuple):
    """Who chooses β, and by what."""

    label: str
    betas: Callable[[Surface, Surface, Requests], Array]
    """the β of each request, from the surfaces of validation and of test data"""


def _least_budget(validation: Surface, test: Surface, asked: Requests) -> Array:
    return np.full(len(asked.bits), choose_blind(validation, asked.bits.min()).beta)


BEST, CHOSEN, CAREFUL, ON_GRID, BLIND, ONE = "best", "chosen", "careful", "grid", "blind", "one"

POLICIES: dict[str, Policy] = {
    BEST: Policy(
        "best possible, chosen on test data",
        lambda validation, test, asked: choose(test, asked.snr_db, bits=asked.bits).beta,
    ),
    CHOSEN: Policy(
        "by SNR and budget",
        lambda validation, test, asked: choose(validation, asked.snr_db, bits=asked.bits).beta,
    ),
    CAREFUL: Policy(
        f"by SNR and budget, {KEPT_BACK:.0%} kept back",
        lambda validation, test, asked: (
            choose(validation, asked.snr_db, bits=(1 - KEPT_BACK) * asked.bits).beta
        ),
    ),
    ON_GRID: Policy(
        "by SNR and budget, β of the grid alone",
        lambda validation, test, asked: (
            choose(validation, asked.snr_db, bits=asked.bits, betas=BETAS).beta
        ),
    ),
    BLIND: Policy(
        "by budget, one β for all SNR",
        lambda validation, test, asked: choose_blind(validation, asked.bits).beta,
    ),
    ONE: Policy("one β for all requests", _least_budget),
}
"""The policies by the names that facts have for them."""


class Outcome(NamedTuple):
    """What a policy gets for a sequence of requests; means over it, with intervals over seeds."""

    metric: Interval
    """on test data"""
    regret: Interval
    """how much better the best choice's metric is"""
    bits: Interval
    """of an inference, on test data"""
    over: Interval
    """the share of requests whose test rate is over their budget"""
    most: Interval
    """by what share of its budget the request is over that is so most"""


def surfaces(record: Record) -> tuple[Surface, Surface]:
    """The smooth surfaces of a record: of validation data on the study's grid, and of test data."""
    validation, test = (Surface.of_record(record, name) for name in ("validation", "test"))
    if set(BETAS) <= set(validation.betas) and set(SNRS) <= set(validation.snrs_db):
        validation = validation.only(BETAS, SNRS)
    return _smooth(validation), _smooth(test)


def _smooth(surface: Surface, steps: int = 48) -> Surface:
    """A smooth surface of about so many steps of β, however fine its own grid is."""
    return surface.smooth(max(steps // max(len(surface.betas) - 1, 1), 1))


def study(
    task: str = "mnist",
    channel: str = "awgn",
    seeds: Sequence[int] = (0, 1, 2),
    *,
    fine: bool = False,
) -> list[Run]:
    """The runs of the networks that both ends tell the SNR.

    Args:
        fine: evaluated on a finer grid of β and SNR, which shows what interpolation gets wrong.
    """
    more: dict[str, Any] = {"betas": FINE_BETAS, "snrs": FINE_SNRS} if fine else {}
    return [mixed(task, channel, seed, BOTH, **more) for seed in seeds]


def regret(records: Sequence[Record], asked: Requests | None = None) -> dict[str, Outcome]:
    """Each policy's outcome for one sequence of requests, the same for every record.

    Args:
        records: of runs at several SNR, one for each seed.
        asked: the requests; `requests()` by default.

    Raises:
        ValueError: there is no record, or a request that no β fits.
    """
    require(bool(records), "records", 0, "give at least one, of a run at several SNR")
    asked = requests() if asked is None else asked
    parts: dict[str, list[list[float]]] = {name: [] for name in POLICIES}
    for record in records:
        validation, test = surfaces(record)
        best = None
        for name, policy in POLICIES.items():
            got = test.at(policy.betas(validation, test, asked), asked.snr_db)
            best = got["metric"] if best is None else best  # the first policy's
            beyond = got["bits"] / asked.bits - 1
            lost = test.sign * (best - got["metric"])
            means = [got["metric"].mean(), lost.mean(), got["bits"].mean()]
            # What rounding leaves of a budget that is met exactly is not over it.
            parts[name].append([*means, (beyond > 1e-6).mean(), max(beyond.max(), 0.0)])
    return {
        name: Outcome(*(interval(column) for column in np.array(rows).T))
        for name, rows in parts.items()
    }


def over_budget(
    records: Sequence[Record], bits: Array, policies: Sequence[str] = (BEST, CHOSEN, BLIND)
) -> dict[str, Interval]:
    """The test metric of each policy at each budget, mean over the SNR: (budgets,).

    Args:
        bits: the budgets.
    """
    snrs = SNRS_DB[0] + (np.arange(60) + 0.5) / 60 * (SNRS_DB[1] - SNRS_DB[0])
    mesh = Requests(*(part.ravel() for part in np.meshgrid(snrs, bits, indexing="ij")))
    found: dict[str, list[Array]] = {name: [] for name in policies}
    for record in records:
        validation, test = surfaces(record)
        for name in policies:
            betas = POLICIES[name].betas(validation, test, mesh)
            metric = test.at(betas, mesh.snr_db)["metric"]
            found[name].append(metric.reshape(len(snrs), -1).mean(0))
    return {name: interval(np.stack(rows)) for name, rows in found.items()}


def beta_over_snr(records: Sequence[Record], snrs_db: Array, bits: float) -> Interval:
    """log₁₀ of the β chosen at each SNR for one budget, over seeds."""
    of_seeds = [surfaces(record)[0] for record in records]
    return interval(np.stack([np.log10(choose(one, snrs_db, bits=bits).beta) for one in of_seeds]))


def left_out(record: Record, split: str = "validation") -> dict[str, Float[np.ndarray, "s b"]]:
    """How far the smooth surface is off at points that it is not told, at twice the grid's steps.

    Every second β and every second SNR are kept, and the points between both looked up.

    Returns:
        `metric`: the difference, positive where the surface is too good; `bits`: the relative
        difference. A row for each SNR left out and a column for each β.
    """
    whole = Surface.of_record(record, split)
    half = whole.only(whole.betas[::2], whole.snrs_db[::2]).smooth()
    betas, snrs = (axis[1 : len(axis) - 1 : 2] for axis in (whole.betas, whole.snrs_db))
    measured, told = (one.at(betas, snrs[:, None]) for one in (whole, half))
    return {
        "metric": whole.sign * (told["metric"] - measured["metric"]),
        "bits": told["bits"] / measured["bits"] - 1,
    }


def facts(
    records: Sequence[Record], found: Mapping[str, Outcome], name: str = "choice"
) -> dict[str, Any]:
    """What the page's sentences quote: each policy's numbers, by its name.

    Args:
        found: as `regret` gives it for the records.
        name: what the facts' names begin with.
    """
    metric = TASKS.find(records[0].config.task).metric

    def told(values: Interval) -> str:
        return with_interval(values, metric.factor, metric.digits)

    quoted: dict[str, Any] = {f"{name}-seeds": len(records)}
    for key, one in found.items():
        quoted |= {
            f"{name}-{key}-metric": told(one.metric),
            f"{name}-{key}-regret": told(one.regret),
            f"{name}-{key}-bits": f"{float(one.bits.mean):.1f}",
            f"{name}-{key}-over": f"{float(one.over.mean):.0%}",
            f"{name}-{key}-most": f"{float(one.most.mean):.1%}",
        }
    return quoted
