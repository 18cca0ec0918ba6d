"""Two devices: what is read off their records, and the linear pair beside its closed form."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import lines
from torch import nn

import hvib
from hvib.book import figures, several_results
from hvib.book.figures.several import label_of_kind
from hvib.book.figures.several_theory import equal_branches
from hvib.book.several import (
    BETAS,
    JOINT,
    LOSSY,
    ONE,
    ORDERED,
    PAIRS,
    TOLD,
    joint,
    pair,
    study,
)
from hvib.book.several_anchors import baselines, trilaterated
from hvib.book.several_linear import exact, least, linear_system, own_only, sources_of, views_of
from hvib.book.several_losses import LOSS, losses_of
from hvib.book.several_results import LOSES, Several, Surface, arranged, rates_for, runs_of
from hvib.channels import Steady
from hvib.devices import joined
from hvib.ledger import Record
from hvib.ranging.anchors import HALL
from hvib.run import Run
from hvib.theory.distributed import distributed_response, noisy_views
from hvib.theory.distributed_rates import equal_prices, pair_of_views, separate_rates

Of = Callable[[float, float], float]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def made(run: Run, objective: Of, metric: Of = lambda a, b: 0.9) -> Record:
    """A record whose rates are 1/β of each device, scaled; without a device the metric halves."""
    if run.method == "vib":
        wheres = [(run.betas[0], run.betas[0] * (*run.prices, 1.0, 1.0)[1])]
    elif run.method == ONE:
        wheres = [(beta, beta) for beta in run.betas]
    else:
        wheres = list(itertools.product(run.betas, run.betas))
    rows: list[dict[str, Any]] = []
    for split, share in (("test", 1.0), ("validation", 1.0), ("train", 1.0)):
        for a, b in wheres:
            row = {"split": split, "beta": a, "betas": [a, b], "metric": share * metric(a, b)}
            row |= {"distortion": 0.1, "rate_nats": 2.0, "rates_nats": [0.1 / a, 0.2 / b]}
            rows.append(row | {"objective": objective(a, b), "tx_power": 1.0})
    for j in (0, 1):
        rows += [
            row | {"split": f"test without {j}", "metric": row["metric"] / (2 + j)}
            for row in rows
            if row["split"] == "test"
        ]
    return Record(run, rows, 10.0, 100, run.epochs, 1000, {}, "0" * 32, None)


def records(task: str = "mnist-halves", seeds: int = 3) -> list[Record]:
    """VIB at 1; the networks at 1.5, 1.2, 1.02 and 1.1, more by 0.1 for each seed."""
    levels = {JOINT: 1.5, TOLD: 1.2, ORDERED: 1.0, ONE: 1.1, "vib": 1.0}
    found = []
    for run in study(task, range(seeds)):
        level = levels[run.method] + 0.1 * run.seed * (run.method != "vib")
        # Steeper in β_1 than in β_2, so that they cannot be mistaken for each other.
        found.append(
            made(
                run,
                lambda a, b, level=level: level * (1 + a + 10 * b),  # type: ignore[misc]
                lambda a, b, run=run: 0.99 - 0.3 * a - 0.1 * b if not run.network else 0.8,  # type: ignore[misc]
            )
        )
    return found


def whole(task: str = "mnist-halves") -> Several:
    return arranged(records(task))


def test_records_are_told_apart() -> None:
    found = whole()
    assert list(found.surfaces) == [JOINT, TOLD, ORDERED, ONE, LOSES]
    assert found.surfaces[JOINT].records[1].config.channel != LOSSY
    assert found.surfaces[LOSES].records[1].config.channel == LOSSY
    assert list(found.pairs) == list(PAIRS)
    assert {name for name, _ in found.alone} == {"mnist-upper", "mnist-lower"}
    assert (found.seeds, found.records) == (3, len(study("mnist-halves")))
    with pytest.raises(ValueError, match="records"):
        arranged([])


def test_only_seeds_that_have_all_runs_are_counted() -> None:
    some = [r for r in records() if r.config.seed < 2 or r.config.method != "vib"]
    assert arranged(some).seeds == 2
    assert arranged(some[:5]).seeds == 1


def test_the_plane_has_the_first_beta_first() -> None:
    surface = whole().surfaces[JOINT]
    assert surface.betas.tolist() == list(BETAS)
    plane = surface.plane("metric")
    assert plane.shape == (3, 5, 5)
    assert plane[0, 4, 0] == pytest.approx(0.99 - 0.3 - 1e-7)
    assert plane[0, 0, 4] == pytest.approx(0.99 - 0.1 - 3e-7)
    assert surface.plane("rates_nats").shape == (3, 5, 5, 2)
    assert surface.at((0.1, 1.0), "rates_nats")[2] == pytest.approx([1.0, 0.2])
    with pytest.raises(ValueError, match="kind"):
        whole().surfaces[ONE].plane("metric")


def test_excess_is_over_vib_of_the_same_pair_and_seed() -> None:
    found = whole()
    values = several_results.excess(found, JOINT)
    assert list(values) == list(PAIRS)
    for one in values.values():
        assert one.mean == pytest.approx(0.6)
        assert one.half == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-4)
    assert several_results.mean_excess(found, TOLD).mean == pytest.approx(0.3)
    equal = [where for where in PAIRS if where[0] == where[1]]
    assert list(several_results.excess(found, ONE)) == equal
    assert several_results.mean_excess(found, ONE).mean == pytest.approx(0.2)


def test_a_seed_that_vib_lacks_is_left_out() -> None:
    some = [r for r in records() if r.config.method != "vib" or r.config.seed != 2]
    found = arranged(some)
    assert several_results.excess(found, JOINT)[PAIRS[0]].mean == pytest.approx(0.55)
    assert several_results.mean_excess(found, JOINT).mean == pytest.approx(0.55)
    none = arranged([r for r in records() if r.config.method == JOINT])
    assert several_results.excess(none, JOINT) == {}


def test_two_networks_compare_where_both_answer() -> None:
    found = whole()
    over = several_results.over_others(found, JOINT, ONE)
    expected = np.mean([(1.5 + s / 10) / (1.1 + s / 10) - 1 for s in range(3)])
    assert over.mean == pytest.approx(expected)


def test_rates_that_reach_a_level_are_read_off_the_rows() -> None:
    run = joint("mnist-halves", 0)

    def metric(a: float, b: float) -> float:
        return 1 + 0.1 * np.log10(0.1 / a) + 0.1 * np.log10(0.2 / b)  # of both rates

    surface = Surface(JOINT, {0: made(run, lambda a, b: 1.0, metric)})
    reached = rates_for(surface, 1.15)
    assert len(reached.first) > 1
    # ln R_1 + ln R_2 is what the level fixes, and the interpolation is exact for it.
    assert np.log10(reached.first * reached.second) == pytest.approx(1.5, abs=1e-6)
    falling = Surface(JOINT, {0: made(run, lambda a, b: 1.0, lambda a, b: -metric(a, b))})
    assert rates_for(falling, -1.15).first == pytest.approx(reached.first)
    assert len(rates_for(surface, 99.0).first) == 0


def test_a_lost_device_is_the_one_that_is_named() -> None:
    found = whole()
    best = 0.99 - 4e-7
    assert several_results.without(found, JOINT, PAIRS[0], 0).mean == pytest.approx(best / 2)
    assert several_results.without(found, JOINT, PAIRS[0], 1).mean == pytest.approx(best / 3)
    assert several_results.with_both(found, JOINT, PAIRS[0]).mean == pytest.approx(best)


def test_losses_of_the_channel_are_taken_off() -> None:
    run = joint("anchors", 0, channel=LOSSY)
    share = losses_of(run, 10_000)
    assert share.of_each == pytest.approx((LOSS, LOSS), abs=0.02)
    assert share.of_both == pytest.approx(LOSS**2, abs=0.01)
    guess, single, both = several_results.guess_of("anchors"), (14.0, 15.0), 0.3
    assert guess == pytest.approx(20**2 / 12 + 9**2 / 12)
    record = made(run, lambda a, b: 1.0)
    first, second = share.of_each
    mixed = share.kept * both + share.of_both * guess
    mixed += (first - share.of_both) * single[0] + (second - share.of_both) * single[1]
    alone = [
        (1 - other) * s + other * guess for s, other in zip(single, (second, first), strict=True)
    ]
    values = {"test": mixed, "test without 0": alone[0], "test without 1": alone[1]}
    for row in record.curve:
        row["metric"] = values.get(row["split"], 0.0)
    found = Several("anchors", {LOSES: Surface(LOSES, {0: record})}, {}, {})
    for j in (0, 1):
        assert several_results.without(found, LOSES, PAIRS[0], j).mean == pytest.approx(single[j])
    assert several_results.with_both(found, LOSES, PAIRS[0]).mean == pytest.approx(both)


def test_losses_are_those_of_an_evaluation() -> None:
    """A network that answers with what it has lost, evaluated, has the predicted shares."""

    class Lost(nn.Module):
        def forward(self, received: torch.Tensor) -> torch.Tensor:
            halves = (received == 0).view(*received.shape[:-1], 2, -1).all(-1)
            return 10.0 * torch.stack([halves[..., 0], halves[..., 1]], -1)

    run = joint("digits-halves", 0, channel=LOSSY, profile="smoke", epochs=1)
    system = hvib.methods.registry.method_of(run).build(run)
    system.network = Lost()
    split = hvib.Split(torch.rand(700, 1, 8, 8), torch.tensor([[0.0, 0.0]]).expand(700, 2))
    system.distortion = hvib.System(nn.Identity(), nn.Identity(), Steady(20.0), 2).distortion
    rows = hvib.evaluate(system, split, [(0.1, 0.1)], draws=1)
    assert rows[0]["metric"] == pytest.approx(100 * sum(losses_of(run, 700).of_each), rel=1e-5)


def test_the_verdict_counts_pairs_on_all_tasks() -> None:
    cases = {task: whole(task) for task in ("mnist-halves", "anchors")}
    worse = several_results.carries_over(cases, JOINT)
    assert worse.outcome == "does not hold here"
    assert "at 0 of 8 pairs; on average 60 ± 25%" in worse.measured
    near = [
        made(r.config, lambda a, b: 1.02 if r.config.method != "vib" else 1.0)  # noqa: B023
        for r in records()
    ]
    assert several_results.carries_over({"mnist-halves": arranged(near)}).outcome == "holds"
    some = [
        made(r.config, lambda a, b: 2.0 if r.config.method != "vib" and a != b else 1.0)  # noqa: B023
        for r in records()
    ]
    ended = several_results.carries_over({"mnist-halves": arranged(some)})
    assert ended.outcome == "does not hold here"  # at half of the pairs, and not at more
    assert "at 4 of 8 pairs" in ended.measured
    none = arranged([r for r in records() if r.config.method == ONE])
    assert several_results.carries_over({"mnist-halves": none}).outcome == "not testable"


def test_the_runs_of_a_page() -> None:
    assert runs_of("mnist-halves", (0, 1)) == study("mnist-halves", (0, 1))
    runs = runs_of("digits-halves", (3,), "smoke", snr_db=10.0, betas=(0.1, 0.3))
    assert {(r.profile, r.snr_db, r.seed, r.epochs) for r in runs} == {("smoke", 10.0, 3, 2)}
    vib = [r for r in runs if r.method == "vib"]
    prices = {(r.betas[0], r.prices[1]) for r in vib}
    assert prices == {(0.1, 1.0), (0.3, 1.0), (0.1, 3.0), (0.3, 0.333333)}
    assert [r.betas for r in runs if r.method != "vib"] == [(0.1, 0.3)] * 5
    quick = runs_of("mnist-halves", (0,), "quick")
    assert {r.epochs for r in quick} == {3}
    assert {r.network for r in quick} == {"", "mnist-upper", "mnist-lower"}


def test_what_is_on_record_is_not_trained(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [joint("digits-halves", 0), pair("digits-halves", 0, (0.1, 0.1))]
    known = [made(runs[0], lambda a, b: 1.0)]
    monkeypatch.setattr(several_results, "on_record", lambda runs: known)
    monkeypatch.setattr(several_results, "sweep", lambda runs, **_: pytest.fail("trained"))
    assert several_results.obtained(runs).records == 1
    assert list(several_results.recorded(["digits-halves"])) == ["digits-halves"]
    asked: list[Run] = []

    def swept(runs: list[Run], **settings: Any) -> list[Record]:
        asked.extend(runs)
        return known

    monkeypatch.setattr(several_results, "sweep", swept)
    several_results.obtained(runs, fresh=True)
    assert asked == runs
    monkeypatch.setattr(several_results, "on_record", lambda runs: [])
    assert several_results.recorded(["digits-halves"]) == {}


def test_figures_and_tables_of_two_devices() -> None:
    cases = {task: whole(task) for task in ("mnist-halves", "anchors")}
    found = cases["mnist-halves"]
    panels = figures.metric_surfaces(found).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        *(label_of_kind(kind) for kind in (JOINT, TOLD, ORDERED)),
        "VIB for the pair",
    ]
    shown = [[text.get_text() for text in axes.texts] for axes in panels]
    assert list(map(len, shown)) == [25, 25, 25, 8]
    assert shown[0][20] == "69.0"  # β_1 = 1, β_2 = 10⁻⁶: the first of the top row
    left, _ = figures.excess_at_pairs(cases).axes
    assert left.get_title(loc="left") == "MNIST, two halves"
    marks = [one for one in left.get_lines() if one.get_marker() == "s"]
    heights = np.concatenate([np.asarray(one.get_ydata()) for one in marks])
    assert heights == pytest.approx([60.0] * 8)
    levels = {"mnist-halves": (0.97,), "anchors": (0.97,)}
    (axes, _) = figures.traced_rates(cases, levels).axes
    assert len(axes.get_lines()) == 1
    nowhere = {"mnist-halves": (9.0,), "anchors": (9.0,)}
    figures.traced_rates(cases, nowhere).canvas.draw()
    rows = figures.surface_rows({"mnist-halves": found})
    assert len(rows) == 3 * (4 * 25 + 5 + 8)
    assert rows[5]["beta_1"] == 1e-3
    assert rows[5]["R_1"] == pytest.approx(100.0)
    table = lines(figures.mean_excess_rows(cases))
    assert table[1].startswith(f"| {label_of_kind(JOINT)} | 60 ± 25 | 33 ±")
    assert table[4].startswith(f"| {label_of_kind(ONE)} | 20 ± 25 | – |")
    table = lines(figures.unequal_table(found, ORDERED, [(1e-3, 0.1)]))
    assert table[1] == "| (10⁻³, 0.1) | 100.0 | 2.0 | 97.97 ± 0.00 | 100.0, 2.0 | 97.97 ± 0.00 |"


def test_the_table_of_losses_has_each_device_alone() -> None:
    table = lines(figures.lost_table(whole(), PAIRS[0]))
    assert table[1] == f"| {label_of_kind(JOINT)} | 99.00 ± 0.00 | 49.50 ± 0.00 | 33.00 ± 0.00 |"
    assert "trained with losses" in table[3]
    assert table[4] == "| VIB of the first device alone | – | – | 80.00 ± 0.00 |"
    assert table[5] == "| VIB of the second device alone | – | 80.00 ± 0.00 | – |"


def test_facts_of_a_task() -> None:
    facts = figures.several_facts(whole())
    assert facts["mnist-halves-seeds"] == "3"
    assert facts["mnist-halves-excess-joint"] == "60 ± 25"
    assert facts["mnist-halves-corner-vib"] == "2.10 ± 0.00"
    expected = 100 * np.mean([(1.2 + s / 10) / (1.5 + s / 10) - 1 for s in range(3)])
    assert facts["mnist-halves-corner-telling"].startswith(f"−{-expected:.0f} ±")
    assert facts["mnist-halves-corner-told"] == "2.73 ± 0.52"
    assert facts["mnist-halves-without-1-joint"] == "33.00 ± 0.00"
    assert facts["mnist-halves-rate-dear-ordered"] == "1.0 ± 0.0"
    assert facts["mnist-halves-alone-mnist-upper"] == "80.00 ± 0.00"


def test_trilateration_finds_a_position_from_its_distances() -> None:
    place = HALL.draw(200, np.random.default_rng(0))
    assert trilaterated(HALL, HALL.distances_m(place)) == pytest.approx(place)
    far = trilaterated(HALL, np.array([[1.0, 30.0]]))
    assert (far >= (0, HALL.clearance_m)).all()
    assert (far <= (HALL.length_m, HALL.width_m)).all()


def test_baselines_are_above_the_bound() -> None:
    slope, fourier, bound = baselines(400).values()
    assert bound.mean < 0.01 < fourier.mean < slope.mean
    assert fourier.median < fourier.mean


# The linear pair.

SPLIT = views_of(500, 1.0, (0.5, 0.5), seed=0)
PRICES = [(0.02, 0.3), (0.3, 0.02), (0.1, 0.1)]


def test_the_exact_objective_is_what_evaluation_estimates() -> None:
    system = joined(linear_system(10.0, 0), (0.01, 1.0), ordered=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    found = exact(system.eval(), SPLIT, PRICES)
    rows = hvib.evaluate(system, SPLIT, PRICES, draws=400)
    for k, row in enumerate(rows):
        assert row["rates_nats"] == pytest.approx(found.rates[k].tolist(), rel=1e-4)
        assert row["distortion"] == pytest.approx(found.distortion[k], rel=0.02)
        assert row["objective"] == pytest.approx(found.objective[k], rel=0.02)


def test_no_linear_system_is_below_the_closed_form() -> None:
    closed = least(SPLIT, PRICES, 0.1)
    data = sources_of(SPLIT)
    assert data.correlation[0, 1] == pytest.approx(1 / 1.5, abs=0.05)
    assert closed.objective[0] == distributed_response(data, (0.02, 0.3), 0.1).objective
    system = joined(linear_system(10.0, 0), (0.01, 1.0))
    assert (exact(system, SPLIT, PRICES).objective > closed.objective).all()


def test_devices_that_know_their_own_price_only() -> None:
    grid = np.geomspace(0.01, 1, 3).tolist()
    for noise, most in ((20.0, 0.001), (0.1, 0.5)):
        data = noisy_views(1.0, [noise, noise])
        found = own_only(data, grid, 1e-3)
        assert found.min() > -1e-9
        assert found.mean() < most
    assert found.mean() > 0.02  # good views are substitutes, and each should know of the other
    assert own_only(data, grid[:1], 1e-3) == pytest.approx(0.0, abs=1e-6)  # nothing to know


def test_the_figure_of_one_or_both_has_its_jump() -> None:
    prices = equal_prices(1.0, 0.25)
    data = noisy_views(1.0, [0.25, 0.25])
    for beta, least_of in ((1.05 * prices.switches, 0), (0.95 * prices.switches, 1)):
        branches = [one.objective for one in equal_branches(data, beta, 1e-3)]
        assert int(np.argmin(branches)) == least_of
        best = distributed_response(data, beta, 1e-3).objective
        assert min(branches) == pytest.approx(best)
    figure, rows = figures.one_or_both(1.0, 0.25, 1e-3)
    below = [row for row in rows if row["beta"] < prices.switches][-1]
    above = next(row for row in rows if row["beta"] > prices.switches)
    assert below["R_1"] == pytest.approx(below["R_2"])
    assert above["R_2"] == pytest.approx(0, abs=1e-9)
    assert above["R_1"] > below["R_1"]
    assert len(figure.axes) == 2


def test_the_figure_of_the_rate_region() -> None:
    figure, rows = figures.rate_region(1.0, 0.25, (0.2,))
    ours = [(row["R_1"], row["R_2"]) for row in rows if row["rates"] == "without"]
    least_sum = separate_rates(pair_of_views(1.0, (0.25, 0.25), 0.2), (1.0, 1.0)).sum()
    assert min(a + b for a, b in ours) == pytest.approx(least_sum, rel=1e-3)
    bins = [row["R_1"] + row["R_2"] for row in rows if row["rates"] == "with bins"]
    assert min(bins) < least_sum - 0.2
    assert len(figure.axes) == 2


def test_the_figure_on_the_closed_form() -> None:
    grid = [0.02, 0.3]
    wheres = list(itertools.product(grid, grid))
    closed = least(SPLIT, wheres, 0.1)
    networks = {JOINT: exact(joined(linear_system(10.0, 0), (0.01, 1.0)), SPLIT, wheres)}
    panels = figures.on_closed_form(grid, closed, networks, (0, 1)).axes
    drawn = panels[1].get_lines()[0].get_ydata()
    assert drawn == pytest.approx(closed.objective[[1, 3]])  # β_2 = 0.3
    rows = figures.closed_form_rows(wheres, closed, networks)
    assert rows[1]["beta_2"] == 0.3
    assert rows[1]["closed form"] == closed.objective[1]
