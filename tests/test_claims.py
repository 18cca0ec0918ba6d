"""Curves, intervals, selection, regret and verdicts, on records whose outcome is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hvib.claims import (
    TASKS,
    Curve,
    Verdict,
    above,
    at_rate,
    at_selected,
    best_response,
    best_response_alone,
    beta_text,
    cheapest_match,
    collect,
    compare,
    curve_rows,
    extremes,
    interval,
    judge,
    over_seeds,
    recorded,
    regret,
    runs_of,
    survived,
    task_rows,
    together,
    training_seconds,
    yardstick,
)
from hvib.config import METRICS, beta_grid, make_run
from hvib.ledger import Record

BETAS = beta_grid()
NO = "does not hold here"


def fake(
    method: str,
    seed: int,
    metric: Callable[[float], float],
    *,
    objective: Callable[[float], float] = lambda beta: 0.1 + beta,
    seconds: float = 10.0,
    parameters: int = 1000,
    betas: tuple[float, ...] = BETAS,
    twice: bool = False,
    task: str = "mnist",
) -> Record:
    run = make_run(task, method, seed=seed, betas=betas)
    run = replace(run, epochs=run.epochs * (1 + twice))
    curve = [
        {
            "split": split,
            "beta": beta,
            "metric": metric(beta),
            "distortion": 0.1,
            "rate_nats": 2.0,
            "objective": objective(beta),
            "tx_power": 1.0,
        }
        for split in ("train", "validation", "test")
        for beta in betas
    ]
    return Record(run, curve, seconds, 100, run.epochs, parameters, {}, "0" * 32, None)


def vib(beta: float) -> float:
    return 0.98 - 0.02 * np.log10(beta / 1e-6) / 6 if beta < 0.5 else 0.1


def experiment(
    hyper: Callable[[float], float] = lambda beta: 0.985 - 0.005 * np.log10(beta / 1e-6) / 6,
    **settings: object,
) -> list[Verdict]:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(3) for b in BETAS]
    records += [fake("hyper-vib", seed, hyper, **settings) for seed in range(3)]  # type: ignore[arg-type]
    return judge(collect(records))


def outcomes(verdicts: list[Verdict]) -> list[str]:
    return [v.outcome for v in verdicts]


def test_records_become_curves_by_label_and_seed() -> None:
    records = [fake("vib", s, vib, betas=(b,)) for b in reversed(BETAS) for s in (1, 0)]
    records += [fake("hyper-vib", 0, vib), fake("hyper-vib", 0, vib, twice=True)]
    curves = collect(records)
    assert list(curves) == ["VIB", "Hyper-VIB", "Hyper-VIB, 2× epochs"]
    grid = curves["VIB"][0]
    assert [c.seed for c in curves["VIB"]] == [0, 1]
    assert grid.betas == pytest.approx(BETAS)
    assert grid.column("metric", "test") == pytest.approx([vib(b) for b in BETAS])
    assert grid.seconds == pytest.approx(130)
    assert len(curve_rows(curves)) == 3 * 13 * 4
    of_two = task_rows({"ink": curves, "chalk": curves})
    assert [row["task"] for row in of_two] == ["ink"] * 156 + ["chalk"] * 156
    assert [{"task": "ink"} | row for row in curve_rows(curves)] == of_two[:156]


def test_seeds_with_other_betas_are_refused() -> None:
    records = [fake("vib", 0, vib, betas=(b,)) for b in BETAS]
    with pytest.raises(ValueError, match="its seeds differ in β"):
        collect([*records, fake("vib", 1, vib, betas=(1e-3,))])


def test_a_batched_grid_s_parameters_are_those_of_one_system() -> None:
    curves = collect([fake("vib-batched", 0, vib, parameters=13_000)])
    assert curves["VIB, batched grid"][0].parameters == 1000


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


def test_beta_is_selected_on_validation_and_reported_on_test() -> None:
    record = fake("hyper-vib", 0, lambda beta: 0.9)
    for row in record.curve:
        if row["split"] == "validation" and row["beta"] in (1e-4, 1e-3):
            row["metric"] = 0.95
        if row["split"] == "test":
            row["metric"] = 0.99 if row["beta"] == 1e-6 else 0.91
    (curve,) = collect([record])["Hyper-VIB"]
    assert curve.betas[curve.selected] == 1e-3  # the larger of a tie: fewer bits
    assert at_selected([curve]).mean == pytest.approx(0.91)


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
    few = curves["VIB"]
    assert compare(curves["Hyper-VIB"], few) == compare(curves["Hyper-VIB"][:2], few)
    with pytest.raises(ValueError, match="share no seed"):
        compare(curves["Hyper-VIB"][2:], few)


def test_regret_pairs_seeds() -> None:
    ours = [fake("hyper-vib", s, vib, objective=lambda b, s=s: 2.0 + s) for s in (0, 1)]  # type: ignore[misc]
    theirs = [fake("vib", s, vib, objective=lambda b, s=s: 1.0 + s, betas=(1e-3,)) for s in (0, 1)]  # type: ignore[misc]
    ours = [replace(r, config=replace(r.config, betas=(1e-3,))) for r in ours]
    ours = [
        replace(r, curve=[row for row in r.curve if row["beta"] == pytest.approx(1e-3)])
        for r in ours
    ]
    h, v = collect(ours)["Hyper-VIB"], collect(theirs)["VIB"]
    assert regret(h, v, "test", relative=False).mean == pytest.approx([1.0])
    assert regret(h, v, "test").mean == pytest.approx([(1 / 1 + 1 / 2) / 2])
    with pytest.raises(ValueError, match="share no seed"):
        regret(h[:1], v[1:], "test")


def test_regret_at_the_beta_that_both_answer_for() -> None:
    def curves(method: str, betas: tuple[float, ...], slope: float) -> list[Curve]:
        record = fake(method, 0, vib, objective=lambda beta: 1 + slope * beta, betas=betas)
        (found,) = collect([record]).values()
        return found

    grid, upper = curves("vib-batched", BETAS, 1), curves("hyper-vib", BETAS[-3:], 3)
    expected = [2 * beta / (1 + beta) for beta in BETAS[-3:]]
    assert regret(upper, grid, "test").mean == pytest.approx(expected)
    expected = [-2 * beta / (1 + 3 * beta) for beta in BETAS[-3:]]
    assert regret(grid, upper, "test").mean == pytest.approx(expected)
    steep = curves("hyper-vib", BETAS, 3)
    found = compare(steep, curves("vib-batched", (BETAS[2], BETAS[9]), 1))
    assert (found.worst_beta, found.worst) == pytest.approx(
        (BETAS[9], 2 * BETAS[9] / (1 + BETAS[9]))
    )
    with pytest.raises(ValueError, match="share no β"):
        regret(upper, curves("vib-batched", BETAS[:3], 1), "test")


def test_claims_hold_where_they_should() -> None:
    assert set(outcomes(experiment())) == {"holds"}


@pytest.mark.parametrize(
    ("which", "settings", "expected"),
    [
        (0, {"seconds": 50.0}, "does not hold here"),
        (0, {"seconds": 39.5}, "does not hold here"),
        (1, {"parameters": 1021}, "does not hold here"),
        (2, {"hyper": lambda b: 0.9}, "does not hold here"),
        (2, {"hyper": lambda b: vib(b) - 0.01 * (b < 2e-6)}, "holds in part"),
        (3, {"objective": lambda b: 1.05 * (0.1 + b)}, "does not hold here"),
        (3, {"objective": lambda b: (1.05 if b > 0.5 else 1) * (0.1 + b)}, "holds in part"),
        (4, {"hyper": lambda b: vib(b) - 0.001}, "holds in part"),
        (4, {"hyper": lambda b: vib(b) - 0.003}, "does not hold here"),
        (5, {"hyper": lambda b: 0.9 if b < 0.5 else 0.99}, "does not hold here"),
        (6, {"hyper": lambda b: 0.9 if b < 1e-2 else 0.99}, "holds in part"),
        (7, {"hyper": lambda b: 0.99 if b < 0.5 else 0.05}, "holds in part"),
    ],
)
def test_claims_fail_where_they_should(
    which: int, settings: dict[str, object], expected: str
) -> None:
    verdicts = experiment(**settings)  # type: ignore[arg-type]
    assert verdicts[which].outcome == expected, verdicts[which]


def test_a_claim_holds_on_all_tasks_in_part_or_on_none() -> None:
    good = experiment()
    slow = experiment(seconds=50.0, parameters=1021)
    bad = experiment(parameters=1021)
    found = together({"a": slow, "b": good, "c": bad})
    assert found[0] == (good[0].claim, {"a": NO, "b": "holds", "c": "holds"}, "holds in part")
    assert found[1][2] == "holds in part"
    assert found[2] == (good[2].claim, dict.fromkeys("abc", "holds"), "holds")
    assert together({"a": slow, "c": bad})[1][2] == NO
    partly = experiment(hyper=lambda b: vib(b) - 0.01 * (b < 2e-6))
    assert together({"a": partly, "c": experiment(hyper=lambda b: 0.9)})[2][2] == NO


def test_a_verdict_tells_on_how_many_seeds_alone_it_ends_the_same() -> None:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(3) for b in BETAS]
    # On average 0.1 points behind at the smallest β; seed 2 alone 0.9 points, which rivals not.
    behind = {0: -0.003, 1: -0.003, 2: 0.009}
    records += [
        fake("hyper-vib", seed, lambda b, d=less: vib(b) - d * (b < 2e-6))  # type: ignore[misc]
        for seed, less in behind.items()
    ]
    time, _, rivals, _, _, aligned, *_ = judge(collect(records))
    assert (rivals.outcome, rivals.agreement) == ("holds", "2 of 3")
    assert rivals.alone == ("holds", "holds", "holds in part")
    assert time.agreement == aligned.agreement == ""  # one test counts the seeds itself


def error(beta: float) -> float:
    return 0.2 if beta < 1e-2 else 0.2 + 5 * beta


def ranging(
    hyper: Callable[[float], float] = lambda beta: 0.19 if beta < 1e-2 else 0.19 + beta,
    method: str = "hyper-vib",
) -> list[Verdict]:
    records = [
        fake("vib", seed, error, betas=(b,), task="wifi") for seed in range(3) for b in BETAS
    ]
    records += [fake(method, seed, hyper, task="wifi") for seed in range(3)]
    curves = collect(records)
    return judge(curves, next(label for label in curves if label != "VIB"))


def test_claims_hold_of_a_squared_error_too() -> None:
    assert set(outcomes(ranging())) == {"holds"}
    assert "lowers the error" in ranging()[6].test
    assert ranging(method="hyper-vib-free")[2].claim.startswith("Hyper-VIB, free outperforms")


@pytest.mark.parametrize(
    ("which", "hyper", "expected"),
    [
        (2, lambda b: 2 * error(b), "does not hold here"),
        (2, lambda b: error(b) * (1.06 if b < 2e-6 else 1.04), "holds in part"),
        (4, lambda b: 1.04 * error(b), "holds in part"),
        (4, lambda b: 1.06 * error(b), "does not hold here"),
        (5, lambda b: 0.1 if b > 0.5 else error(b), "does not hold here"),
        (6, lambda b: 0.1 if b > 0.5 else 0.3, "holds in part"),
        (7, lambda b: error(b) + 10 * (b > 0.5), "holds in part"),
    ],
)
def test_claims_fail_of_a_squared_error_where_they_should(
    which: int, hyper: Callable[[float], float], expected: str
) -> None:
    verdict = ranging(hyper)[which]
    assert verdict.outcome == expected, verdict


def test_one_beta_tests_no_claim_about_several() -> None:
    records = [fake(m, 0, vib, betas=(1e-3,)) for m in ("vib", "hyper-vib")]
    ends = outcomes(judge(collect(records)))
    assert [k for k, end in enumerate(ends) if end == "not testable"] == [5, 6]


def test_time_lost_is_told_as_more() -> None:
    assert experiment(seconds=195.0)[0].measured == "50.0% more"


def test_the_smallest_error_is_selected() -> None:
    (curve,) = collect([fake("hyper-vib", 0, error, task="bluetooth")])["Hyper-VIB"]
    assert curve.betas[curve.selected] == pytest.approx(3.16228e-3)  # the largest on a tie


def test_time_claim_holds_in_part_where_only_the_short_run_is_fast() -> None:
    records = [fake("vib", 0, vib, betas=(b,)) for b in BETAS]
    records += [
        fake("hyper-vib", 0, vib, seconds=20),
        fake("hyper-vib", 0, vib, seconds=40, twice=True),
    ]
    assert judge(collect(records))[0].outcome == "holds in part"


def of_seeds(*shifts: Callable[[float], float]) -> list[Verdict]:
    """VIB against Hyper-VIB whose accuracy is VIB's plus a shift, one for each seed."""
    records = [fake("vib", s, vib, betas=(b,)) for s in range(len(shifts)) for b in BETAS]
    records += [
        fake("hyper-vib", seed, lambda b, d=shift: vib(b) + d(b))  # type: ignore[misc]
        for seed, shift in enumerate(shifts)
    ]
    return judge(collect(records))


def test_the_better_at_its_best_is_so_beyond_the_interval_over_seeds() -> None:
    sure = of_seeds(*(lambda b, d=d: d for d in (0.003, 0.004, 0.005)))[4]
    assert sure.outcome == "holds"
    assert sure.measured == "0.4 ± 0.25 points better"
    chance = of_seeds(*(lambda b, d=d: d for d in (0.012, 0.0, 0.0)))[4]
    assert (chance.outcome, chance.agreement) == ("holds in part", "")
    alone = of_seeds(lambda b: 0.004)[4]
    assert (alone.outcome, alone.measured) == ("holds in part", "0.4 points better")


def test_a_gain_from_a_larger_beta_counts_beyond_its_interval_only() -> None:
    def at_end(gain: float) -> Callable[[float], float]:
        return lambda b: gain if b > 0.5 else 0.0

    # VIB falls by 88 points at the end; a gain of 89 is a step up of about one point.
    up = [0.89, 0.89, 0.89]
    assert of_seeds(*map(at_end, up))[6].outcome == "holds in part"
    noisy = [0.92, 0.87, 0.87]
    verdict = of_seeds(*map(at_end, noisy))[6]
    assert verdict.outcome == "holds", verdict


def test_the_peaks_are_compared_beside_those_of_two_seeds_of_vib() -> None:
    def peak(beta: float, at: float) -> float:
        return 0.97 - 0.01 * abs(np.log10(beta / at))

    places = (1e-4, 1e-3)
    records = [
        fake("vib", seed, lambda b, at=at: peak(b, at), betas=(b,))  # type: ignore[misc]
        for seed, at in enumerate(places)
        for b in BETAS
    ]
    records += [fake("hyper-vib", s, lambda b: peak(b, 1e-4)) for s in range(2)]
    aligned = judge(collect(records))[5]
    assert aligned.measured == (
        "0.5 ± 6.4 points worse; the two β are 0.5 decades apart, those of two seeds of VIB 1.0"
    )
    assert aligned.outcome == "does not hold here"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.585, "58.5 points"), (0.0017, "0.17 points"), (0.002, "0.2 points"), (0.0, "0 points")],
)
def test_differences_of_accuracy_read_as_prose(difference: float, text: str) -> None:
    assert yardstick(METRICS["mnist"]).text(difference) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(7.451, "745%"), (0.626, "62.6%"), (0.05, "5%"), (0.0056, "0.6%")]
)
def test_differences_of_errors_read_as_prose(difference: float, text: str) -> None:
    assert yardstick(METRICS["wifi"]).text(difference) == text


@pytest.mark.parametrize(
    ("beta", "text"),
    [(1.0, "1"), (0.0316228, "0.032"), (1e-6, "10⁻⁶"), (3.16228e-4, "3.2 × 10⁻⁴")],
)
def test_betas_read_as_prose(beta: float, text: str) -> None:
    assert beta_text(beta) == text


def test_relative_differences_read_as_prose() -> None:
    assert above(0.139) == "14% above"
    assert above(-0.23) == "23% below"
    assert above(0.004) == above(-0.004) == "within 0.5% of"


def test_intervals_over_beta_have_its_length() -> None:
    records = [fake("hyper-vib", s, lambda b, s=s: 0.9 + s / 100) for s in range(3)]  # type: ignore[misc]
    values = over_seeds(collect(records)["Hyper-VIB"], "metric")
    assert values.mean == pytest.approx([0.91] * 13)
    assert (values.high > values.mean).all()


def against_grid(
    objective: Callable[[float], float], seconds: float = 15.0
) -> tuple[list[Curve], list[Curve]]:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(2) for b in BETAS]
    records += [
        fake("hyper-vib", seed, vib, objective=objective, seconds=seconds) for seed in range(2)
    ]
    curves = collect(records)
    return curves["Hyper-VIB"], curves["VIB"]


def test_cost_is_counted_in_runs_of_the_grid_s_mean() -> None:
    assert runs_of(*against_grid(lambda beta: 0.1 + beta)) == pytest.approx(1.5)


def test_times_are_of_one_machine() -> None:
    records = [fake("hyper-vib", seed, vib, seconds=10.0 + seed) for seed in range(4)]
    for record in records[2:]:
        record.environment.update(products="float32")
    (curves,) = collect(records).values()
    assert training_seconds(curves) == pytest.approx(10.5)
    assert training_seconds(curves[2:]) == pytest.approx(12.5)


@pytest.mark.parametrize(
    ("objective", "seconds", "ends"),
    [
        (lambda beta: 0.1 + beta, 15.0, "holds"),
        (lambda beta: 0.1 + beta, 25.0, "holds in part"),  # it costs too much
        (lambda beta: (0.1 + beta) * (1.04 if beta > 0.5 else 0.9), 15.0, "holds in part"),
        (lambda beta: (0.1 + beta) * (1.02 if beta > 0.5 else 0.9), 15.0, "holds"),
        (lambda beta: (0.1 + beta) * 1.01, 15.0, NO),
    ],
)
def test_a_best_response_is_below_vib_nowhere_far_above_and_cheap(
    objective: Callable[[float], float], seconds: float, ends: str
) -> None:
    ours, vib = against_grid(objective, seconds)
    assert best_response(compare(ours, vib), runs_of(ours, vib)) == ends
    assert best_response_alone(ours, vib) == "2 of 2"


def test_metric_at_a_rate_is_interpolated_and_not_beyond_the_curve() -> None:
    record = fake("hyper-vib", 0, lambda beta: float(np.log10(beta)))
    for row in record.curve:
        row["rate_nats"] = 1e-2 / row["beta"]  # from 10⁴ at the smallest β to 10⁻² at the largest
    (curves,) = collect([record]).values()
    assert at_rate(curves, 10**2.75).mean == pytest.approx(-4.75)
    assert at_rate(curves, 1e-2).mean == pytest.approx(0)
    assert np.isnan(at_rate(curves, 1e5).mean)
    assert np.isnan(at_rate(curves, 1e-3).mean)


def test_the_cheapest_match_is_within_a_percent_of_the_grid() -> None:
    records = [fake("vib", 0, vib, betas=(b,)) for b in BETAS]
    for name, factor, seconds in (
        ("log", 1.02, 5.0),
        ("free", 1.005, 20.0),
        ("ordered", 0.9, 30.0),
    ):
        above_grid = lambda beta, factor=factor: factor * (0.1 + beta)  # noqa: E731
        records.append(fake(f"hyper-vib-{name}", 0, vib, objective=above_grid, seconds=seconds))
    curves = collect(records)
    assert cheapest_match(curves) == "Hyper-VIB, free"
    del curves["Hyper-VIB, free"], curves["Hyper-VIB, ordered"]
    assert cheapest_match(curves) is None


def test_recorded_curves_are_those_of_a_task_s_page() -> None:
    assert list(TASKS) == ["mnist", "cifar10", "bluetooth", "wifi"]
    curves = recorded("wifi")
    assert len(curves["VIB"]) == 5
    assert {"Hyper-VIB", "Hyper-VIB, ordered", "Hyper-VIB, ordered, 1.3× epochs"} <= set(curves)
