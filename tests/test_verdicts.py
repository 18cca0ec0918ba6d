"""The paper's claims, judged on records whose outcome is known."""

from collections.abc import Callable

import numpy as np
import pytest
from made_up import BETAS, against_grid, error, fake, vib

from hvib.book.curves import (
    ANSWER,
    FLEXIBLE,
    ORDERED,
    PAPER,
    REFIT,
    VIB,
    Curve,
    Key,
    collect,
    label_of,
)
from hvib.book.statistics import (
    compare,
    runs_of,
)
from hvib.book.verdicts import (
    Verdict,
    best_response,
    best_response_alone,
    cheapest_match,
    judge,
    tally,
    together,
)
from hvib.book.yardstick import yardstick
from hvib.tasks import TASKS

NO = "does not hold here"


def experiment(
    hyper: Callable[[float], float] = lambda beta: 0.985 - 0.005 * np.log10(beta / 1e-6) / 6,
    **settings: object,
) -> dict[str, Verdict]:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(3) for b in BETAS]
    records += [fake("hyper-vib", seed, hyper, **settings) for seed in range(3)]  # type: ignore[arg-type]
    return judge(collect(records))


def outcomes(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {key: verdict.outcome for key, verdict in verdicts.items()}


def test_claims_hold_where_they_should() -> None:
    assert set(outcomes(experiment()).values()) == {"holds"}


@pytest.mark.parametrize(
    ("which", "settings", "expected"),
    [
        ("time", {"seconds": 50.0}, "does not hold here"),
        ("time", {"seconds": 39.5}, "does not hold here"),
        ("parameters", {"parameters": 1021}, "does not hold here"),
        ("rivals", {"hyper": lambda b: 0.9}, "does not hold here"),
        ("rivals", {"hyper": lambda b: vib(b) - 0.01 * (b < 2e-6)}, "holds in part"),
        ("objective", {"objective": lambda b: 1.05 * (0.1 + b)}, "does not hold here"),
        (
            "objective",
            {"objective": lambda b: (1.05 if b > 0.5 else 1) * (0.1 + b)},
            "holds in part",
        ),
        ("best", {"hyper": lambda b: vib(b) - 0.001}, "holds in part"),
        ("best", {"hyper": lambda b: vib(b) - 0.003}, "does not hold here"),
        ("peaks", {"hyper": lambda b: 0.9 if b < 0.5 else 0.99}, "does not hold here"),
        ("smaller", {"hyper": lambda b: 0.9 if b < 1e-2 else 0.99}, "holds in part"),
        ("large", {"hyper": lambda b: 0.99 if b < 0.5 else 0.05}, "holds in part"),
    ],
)
def test_claims_fail_where_they_should(
    which: str, settings: dict[str, object], expected: str
) -> None:
    verdicts = experiment(**settings)  # type: ignore[arg-type]
    assert verdicts[which].outcome == expected, verdicts[which]


def test_a_claim_holds_on_all_tasks_in_part_or_on_none() -> None:
    good = experiment()
    slow = experiment(seconds=50.0, parameters=1021)
    bad = experiment(parameters=1021)
    found = together({"a": slow, "b": good, "c": bad})
    ends = {"a": NO, "b": "holds", "c": "holds"}
    assert found["time"] == (1, good["time"].claim, ends, "holds in part")
    assert found["parameters"].whole == "holds in part"
    ends = dict.fromkeys("abc", "holds")
    assert found["rivals"] == (3, good["rivals"].claim, ends, "holds")
    assert found["objective"].number is None
    assert together({"a": slow, "c": bad})["parameters"].whole == NO
    partly = experiment(hyper=lambda b: vib(b) - 0.01 * (b < 2e-6))
    found = together({"a": partly, "c": experiment(hyper=lambda b: 0.9)})
    assert found["rivals"].whole == NO


def test_a_verdict_tells_on_how_many_seeds_alone_it_ends_the_same() -> None:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(3) for b in BETAS]
    # On average 0.1 points behind at the smallest β; seed 2 alone 0.9 points, which rivals not.
    behind = {0: -0.003, 1: -0.003, 2: 0.009}
    records += [
        fake("hyper-vib", seed, lambda b, d=less: vib(b) - d * (b < 2e-6))  # type: ignore[misc]
        for seed, less in behind.items()
    ]
    verdicts = judge(collect(records))
    rivals = verdicts["rivals"]
    assert (rivals.outcome, rivals.agreement) == ("holds", "2 of 3")
    assert rivals.alone == ("holds", "holds", "holds in part")
    assert verdicts["time"].agreement == ""
    assert verdicts["peaks"].agreement == ""  # its test counts the seeds itself


def ranging(
    hyper: Callable[[float], float] = lambda beta: 0.19 if beta < 1e-2 else 0.19 + beta,
    method: str = "hyper-vib",
) -> dict[str, Verdict]:
    records = [
        fake("vib", seed, error, betas=(b,), task="wifi") for seed in range(3) for b in BETAS
    ]
    records += [fake(method, seed, hyper, task="wifi") for seed in range(3)]
    curves = collect(records)
    return judge(curves, next(key for key in curves if key != VIB))


def test_claims_hold_of_a_squared_error_too() -> None:
    assert set(outcomes(ranging()).values()) == {"holds"}
    assert "lowers the error" in ranging()["smaller"].test
    assert ranging(method="hyper-vib-free")["rivals"].claim.startswith(
        "Hyper-VIB, free outperforms"
    )


@pytest.mark.parametrize(
    ("which", "hyper", "expected"),
    [
        ("rivals", lambda b: 2 * error(b), "does not hold here"),
        ("rivals", lambda b: error(b) * (1.06 if b < 2e-6 else 1.04), "holds in part"),
        ("best", lambda b: 1.04 * error(b), "holds in part"),
        ("best", lambda b: 1.06 * error(b), "does not hold here"),
        ("peaks", lambda b: 0.1 if b > 0.5 else error(b), "does not hold here"),
        ("smaller", lambda b: 0.1 if b > 0.5 else 0.3, "holds in part"),
        ("large", lambda b: error(b) + 10 * (b > 0.5), "holds in part"),
    ],
)
def test_claims_fail_of_a_squared_error_where_they_should(
    which: str, hyper: Callable[[float], float], expected: str
) -> None:
    verdict = ranging(hyper)[which]
    assert verdict.outcome == expected, verdict


def test_one_beta_tests_no_claim_about_several() -> None:
    records = [fake(m, 0, vib, betas=(1e-3,)) for m in ("vib", "hyper-vib")]
    ends = outcomes(judge(collect(records)))
    untold = [key for key, end in ends.items() if end == "not testable"]
    assert untold == ["peaks", "smaller"]


def test_time_lost_is_told_as_more() -> None:
    assert experiment(seconds=195.0)["time"].measured == "50.0% more"


def test_time_claim_holds_in_part_where_only_the_short_run_is_fast() -> None:
    records = [fake("vib", 0, vib, betas=(b,)) for b in BETAS]
    records += [
        fake("hyper-vib", 0, vib, seconds=20),
        fake("hyper-vib", 0, vib, seconds=40, twice=True),
    ]
    assert judge(collect(records))["time"].outcome == "holds in part"


def of_seeds(*shifts: Callable[[float], float]) -> dict[str, Verdict]:
    """VIB against Hyper-VIB whose accuracy is VIB's plus a shift, one for each seed."""
    records = [fake("vib", s, vib, betas=(b,)) for s in range(len(shifts)) for b in BETAS]
    records += [
        fake("hyper-vib", seed, lambda b, d=shift: vib(b) + d(b))  # type: ignore[misc]
        for seed, shift in enumerate(shifts)
    ]
    return judge(collect(records))


def test_the_better_at_its_best_is_so_beyond_the_interval_over_seeds() -> None:
    sure = of_seeds(*(lambda b, d=d: d for d in (0.003, 0.004, 0.005)))["best"]
    assert sure.outcome == "holds"
    assert sure.measured == "0.4 ± 0.25 points better"
    chance = of_seeds(*(lambda b, d=d: d for d in (0.012, 0.0, 0.0)))["best"]
    assert (chance.outcome, chance.agreement) == ("holds in part", "")
    alone = of_seeds(lambda b: 0.004)["best"]
    assert (alone.outcome, alone.measured) == ("holds in part", "0.4 points better")


def test_a_gain_from_a_larger_beta_counts_beyond_its_interval_only() -> None:
    def at_end(gain: float) -> Callable[[float], float]:
        return lambda b: gain if b > 0.5 else 0.0

    # VIB falls by 88 points at the end; a gain of 89 is a step up of about one point.
    up = [0.89, 0.89, 0.89]
    assert of_seeds(*map(at_end, up))["smaller"].outcome == "holds in part"
    noisy = [0.92, 0.87, 0.87]
    verdict = of_seeds(*map(at_end, noisy))["smaller"]
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
    aligned = judge(collect(records))["peaks"]
    assert aligned.measured == (
        "0.5 ± 6.4 points worse; the two β are 0.5 decades apart, those of two seeds of VIB 1.0"
    )
    assert aligned.outcome == "does not hold here"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.585, "58.5 points"), (0.0017, "0.17 points"), (0.002, "0.2 points"), (0.0, "0 points")],
)
def test_differences_of_accuracy_read_as_prose(difference: float, text: str) -> None:
    assert yardstick(TASKS.find("mnist").metric).text(difference) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(7.451, "745%"), (0.626, "62.6%"), (0.05, "5%"), (0.0056, "0.6%")]
)
def test_differences_of_errors_read_as_prose(difference: float, text: str) -> None:
    assert yardstick(TASKS.find("wifi").metric).text(difference) == text


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


@pytest.mark.parametrize("key", [FLEXIBLE, REFIT, ANSWER])
def test_methods_of_one_run_are_judged_by_their_seeds_and_without_longer_runs(key: Key) -> None:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(5) for b in BETAS]
    better = lambda beta: min(vib(beta) + 0.005, 1.0)  # noqa: E731
    records += [fake(key.method, seed, better, seconds=15.0) for seed in (0, 2, 4)]
    curves = collect(records)
    verdicts = judge(curves, key)
    assert verdicts["time"].measured == "88.5% less"
    assert "twice" not in verdicts["time"].test
    assert verdicts["rivals"].claim == f"{label_of(key)} outperforms or rivals VIB for all β"
    assert (verdicts["best"].measured, verdicts["best"].outcome) == (
        "0.5 ± 0 points better",
        "holds",
    )
    assert verdicts["rivals"].alone == ("holds",) * 3  # the seeds that both have
    assert best_response_alone(curves[key], curves[VIB]) == "3 of 3"


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
    assert cheapest_match(curves) == ("hyper-vib-free", 1)
    del curves[Key("hyper-vib-free")], curves[ORDERED]
    assert cheapest_match(curves) is None


def test_a_tally_tells_which_tasks_pass_which_part() -> None:
    def task(factor: Callable[[float], float], **settings: float) -> dict[Key, list[Curve]]:
        ours, vib = against_grid(lambda b: factor(b) * (0.1 + b), **settings)
        return {VIB: vib, PAPER: ours}

    tasks = {
        "passes": task(lambda b: 0.9),
        "far above at one end": task(lambda b: 1.04 if b > 0.5 else 0.9),
        "slow": task(lambda b: 0.9, seconds=25.0),
        "slow and far above": task(lambda b: 1.05 if b > 0.5 else 0.9, seconds=25.0),
        "above": task(lambda b: 1.01),
        "one seed": {key: group[:1] for key, group in task(lambda b: 0.9).items()},
    }
    found = tally(tasks, PAPER)
    sure = ["passes", "far above at one end", "slow", "slow and far above"]
    assert found.below == [*sure, "one seed"]
    assert found.surely == sure
    assert found.passed == ["passes", "one seed"]
    assert found.but_for_price == ["slow"]
    assert found.worst == pytest.approx(0.05)
