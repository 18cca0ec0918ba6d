"""Intervals, excess, times and values at equal rate, on records whose outcome is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import BETAS, against_grid, fake, rewritten, vib
from scipy import stats

from hvib.book.curves import (
    PAPER,
    VIB,
    Curve,
    collect,
)
from hvib.book.statistics import (
    Interval,
    at_rate,
    bits_off_prior,
    class_rows,
    compare,
    excess,
    extremes,
    growth,
    interval,
    on_plateau,
    over_seeds,
    runs_of,
    survived,
    training_seconds,
)
from hvib.ledger import Record


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9).filter(lambda v: np.std(v) > 1e-6))
def test_interval_is_student_s(values: list[float]) -> None:
    found = interval(np.array(values))
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert np.isnan(interval(np.array([[1.0, 2.0]])).low).all()


def test_intervals_over_beta_have_its_length() -> None:
    records = [fake("hyper-vib", s, lambda b, s=s: 0.9 + s / 100) for s in range(3)]  # type: ignore[misc]
    values = over_seeds(collect(records)[PAPER], "metric")
    assert values.mean == pytest.approx([0.91] * 13)
    assert (values.high > values.mean).all()


def test_survival_ends_at_the_first_beta_that_fails() -> None:
    shares = np.array([[1.0, 0.9, 0.4, 0.6], [0.8, 0.5, 1.0, 0.7], [0.6, 1.0, 1.0, 0.1]])
    assert survived(shares).tolist() == [3, 1, 0, 2]


def test_extremes_are_the_first_of_each_class() -> None:
    count = np.array([3, 0, 2, 3, 5, 1, 0, 0, 2])
    classes = np.array([0, 0, 0, 0, 1, 1, 2, 2, 0])
    longest, soonest = extremes(count, classes)
    assert longest == [0, 4, 6]
    assert soonest == [2, 5, 6]  # 1 was never inferred; all of class 2 were not


def test_a_comparison_leaves_out_the_seeds_of_one_alone() -> None:
    records = [fake("vib", s, vib, betas=(b,)) for s in range(2) for b in BETAS]
    records += [fake("hyper-vib", s, vib, objective=lambda b, s=s: s + b) for s in range(3)]  # type: ignore[misc]
    curves = collect(records)
    few = curves[VIB]
    assert compare(curves[PAPER], few) == compare(curves[PAPER][:2], few)
    with pytest.raises(ValueError, match="share no seed"):
        compare(curves[PAPER][2:], few)


def test_a_comparison_tells_the_mean_and_the_worst_excess() -> None:
    def cost(seed: int) -> Callable[[float], float]:
        return lambda beta: 1 + seed + (beta > 0.5)

    ours = [fake("hyper-vib", s, lambda b: 0.9, objective=cost(s)) for s in (0, 1)]
    vib = [
        fake("vib", s, lambda b: 0.8, objective=lambda b: 1.0, betas=(b,))
        for s in (0, 1)
        for b in BETAS
    ]
    found = compare(*(next(iter(collect(part).values())) for part in (ours, vib)))
    assert found.test.mean == pytest.approx(1 / 13 + 0.5)
    assert found.test.mean - found.test.low == pytest.approx(12.706 * 0.5, rel=1e-3)  # t, 1 degree
    assert (found.worst, found.worst_beta) == pytest.approx((1.5, 1.0))
    assert found.metric == pytest.approx(0.9)


def test_excess_pairs_seeds() -> None:
    ours = [fake("hyper-vib", s, vib, objective=lambda b, s=s: 2.0 + s) for s in (0, 1)]  # type: ignore[misc]
    theirs = [fake("vib", s, vib, objective=lambda b, s=s: 1.0 + s, betas=(1e-3,)) for s in (0, 1)]  # type: ignore[misc]
    ours = [replace(r, config=replace(r.config, betas=(1e-3,))) for r in ours]
    ours = [
        replace(r, curve=[row for row in r.curve if row["beta"] == pytest.approx(1e-3)])
        for r in ours
    ]
    h, v = collect(ours)[PAPER], collect(theirs)[VIB]
    assert excess(h, v, "test", relative=False).mean == pytest.approx([1.0])
    assert excess(h, v, "test").mean == pytest.approx([(1 / 1 + 1 / 2) / 2])
    with pytest.raises(ValueError, match="share no seed"):
        excess(h[:1], v[1:], "test")


def test_excess_at_the_beta_that_both_answer_for() -> None:
    def curves(method: str, betas: tuple[float, ...], slope: float) -> list[Curve]:
        record = fake(method, 0, vib, objective=lambda beta: 1 + slope * beta, betas=betas)
        (found,) = collect([record]).values()
        return found

    grid, upper = curves("vib-batched", BETAS, 1), curves("hyper-vib", BETAS[-3:], 3)
    expected = [2 * beta / (1 + beta) for beta in BETAS[-3:]]
    assert excess(upper, grid, "test").mean == pytest.approx(expected)
    expected = [-2 * beta / (1 + 3 * beta) for beta in BETAS[-3:]]
    assert excess(grid, upper, "test").mean == pytest.approx(expected)
    steep = curves("hyper-vib", BETAS, 3)
    found = compare(steep, curves("vib-batched", (BETAS[2], BETAS[9]), 1))
    assert (found.worst_beta, found.worst) == pytest.approx(
        (BETAS[9], 2 * BETAS[9] / (1 + BETAS[9]))
    )
    with pytest.raises(ValueError, match="share no β"):
        excess(upper, curves("vib-batched", BETAS[:3], 1), "test")


def test_cost_is_counted_in_runs_of_the_grid_s_mean() -> None:
    assert runs_of(*against_grid(lambda beta: 0.1 + beta)) == pytest.approx(1.5)


def test_times_are_of_one_machine() -> None:
    records = [fake("hyper-vib", seed, vib, seconds=10.0 + seed) for seed in range(4)]
    for record in records[2:]:
        record.environment.update(products="float32")
    (curves,) = collect(records).values()
    assert training_seconds(curves) == pytest.approx(10.5)
    assert training_seconds(curves[2:]) == pytest.approx(12.5)


def test_metric_at_a_rate_is_interpolated_and_not_beyond_the_curve() -> None:
    record = fake("hyper-vib", 0, lambda beta: float(np.log10(beta)))
    for row in record.curve:
        row["rate_nats"] = 1e-2 / row["beta"]  # from 10⁴ at the smallest β to 10⁻² at the largest
    (curves,) = collect([record]).values()
    assert at_rate(curves, 10**2.75).mean == pytest.approx(-4.75)
    assert at_rate(curves, 1e-2).mean == pytest.approx(0)
    assert np.isnan(at_rate(curves, 1e5).mean)
    assert np.isnan(at_rate(curves, 1e-3).mean)


@pytest.mark.parametrize(
    ("low", "high", "sign"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False), (np.nan, np.nan, False)],
)
def test_an_interval_has_a_sign_if_it_leaves_zero_out(low: float, high: float, sign: bool) -> None:
    assert Interval(*np.array([0.2, low, high])).has_a_sign is sign


def test_the_plateau_ends_at_a_beta_and_has_the_first_at_least() -> None:
    def plateau(betas: tuple[float, ...], **end: float) -> Interval:
        def one(seed: int) -> Record:
            return fake("hyper-vib", seed, lambda b: seed + np.log10(b), betas=betas)

        return on_plateau(collect([one(0), one(2)])[PAPER], **end)

    assert plateau(BETAS).mean == pytest.approx([-5, -4.5, -4, -3.5, -3, -2.5, -2], abs=1e-5)
    assert plateau(BETAS).half == pytest.approx([12.706] * 7, rel=1e-3)  # t, 1 degree
    assert plateau(BETAS, end=1e-5).mean == pytest.approx([-5, -4.5, -4], abs=1e-5)
    assert plateau(BETAS[-3:]).mean == pytest.approx([0], abs=1e-5)
    assert plateau((1.0,)).mean == pytest.approx([1])


def test_growth_is_of_the_mean_objective_from_end_to_end() -> None:
    def ends(first: float, last: float, seed: int) -> list[Curve]:
        record = fake("hyper-vib", seed, vib, objective=lambda b: last if b > 0.5 else first)
        return collect([record])[PAPER]

    assert growth(ends(1, 2, seed=0) + ends(3, 12, seed=1)) == pytest.approx(14 / 4)
    assert growth(collect([fake("vib", 0, vib, betas=(1.0,))])[VIB]) == 1


def test_bits_off_the_prior_follow_from_the_received_power() -> None:
    record = rewritten(
        fake("hyper-vib", 0, vib),
        rate_nats=lambda b: 1e-2 / b,
        tx_power=lambda b: np.e - 0.01 if b < 0.05 else 0.99,  # the noise of 20 dB adds 0.01
    )
    (curves,) = collect([record]).values()
    assert bits_off_prior(curves, 100) == pytest.approx(32 * (np.e - 2) / np.log(2))  # 64 features
    assert bits_off_prior(curves, 0.1) == pytest.approx(0)  # at the prior's power
    assert np.isnan(bits_off_prior(curves, 1e5))


def test_the_accuracy_of_each_class_is_a_mean_over_seeds() -> None:
    records = [
        rewritten(
            fake("hyper-vib", seed, vib, betas=(1e-2, 1.0)),
            by_class=lambda b, s=seed: [b, 0.2 + 0.4 * s],  # type: ignore[misc]
        )
        for seed in (0, 1)
    ]
    rewritten(records[0], "train", by_class=lambda b: [0.0, 0.0])
    rows = class_rows(collect(records), ["cat", "dog"])
    assert [list(row.values()) for row in rows] == [
        ["Hyper-VIB", 1e-2, "cat", pytest.approx(1e-2)],
        ["Hyper-VIB", 1e-2, "dog", pytest.approx(0.4)],
        ["Hyper-VIB", 1.0, "cat", pytest.approx(1.0)],
        ["Hyper-VIB", 1.0, "dog", pytest.approx(0.4)],
    ]
    assert list(rows[0]) == ["label", "beta", "class", "accuracy"]
