"""Tables of all claims, all searches and all variants."""

import numpy as np
import pytest
from conftest import lines
from made_up import against_grid

from hvib.book import figures
from hvib.book.claims import Ended
from hvib.book.curves import PAPER, VIB, Curve, Key
from hvib.book.search import SEARCHES, Found
from hvib.book.statistics import Comparison, Interval
from hvib.tasks import ACCURACY, SQUARED_ERROR


def test_ten_claims_stand_beside_each_other_at_both_epochs() -> None:
    once = [Ended(1, "Time falls", "holds"), Ended(2, "Few parameters", "holds in part")]
    twice = [Ended(1, "Time falls", "does not hold here"), Ended(2, "Few parameters", "holds")]
    assert lines(figures.ten_claims_table(once, twice)) == [
        "| no. | claim of the paper | at equal epochs | at twice VIB's epochs |",
        "| 1 | Time falls | **holds** | **does not hold here** |",
        "| 2 | Few parameters | **holds in part** | **holds** |",
    ]
    with pytest.raises(ValueError, match="zip"):
        figures.ten_claims_table(once, twice[:1])


def tasks() -> dict[str, dict[Key, list[Curve]]]:
    """Hyper-VIB 10% below VIB on MNIST for 2.5 runs' time, 20% above on WiFi with one seed."""
    below, mnist = against_grid(lambda b: 0.9 * (0.1 + b), seconds=25.0)
    above, wifi = against_grid(lambda b: 1.2 * (0.1 + b))
    return {"mnist": {VIB: mnist, PAPER: below}, "wifi": {VIB: wifi[:1], PAPER: above[:1]}}


def test_mean_excess_stands_task_by_task() -> None:
    assert lines(figures.mean_excess_table(tasks(), [PAPER, VIB])) == [
        "| method | MNIST (%) | WiFi (%) |",
        "| Hyper-VIB | −10 ± 0 | 20 |",
        "| VIB | 0 ± 0 | 0 |",
    ]


def test_tasks_that_pass_are_counted() -> None:
    (head, row) = lines(figures.tally_table(tasks(), [PAPER]))
    assert head.count("|") == row.count("|")
    assert row == "| Hyper-VIB | 1 | 1 | +20% | 0 | MNIST |"
    assert lines(figures.tally_table({"wifi": tasks()["wifi"]}, [PAPER]))[1].endswith("| none |")


def course(*reached: float) -> list[Found]:
    """A course that has found so much after each VIB run, on validation and on test."""
    return [Found(k, 10.0 * k, 1e-3, value, value) for k, value in enumerate(reached, 1)]


COURSES = {
    "grid": [course(0.8, 0.9), course(0.7, 0.8)],
    "random": [course(0.5, 0.9), course(0.8, 0.8)],
    "hyper": [course(0.85), course(0.6)],
}


def test_all_searches_have_a_cell_on_each_task() -> None:
    every = {key: COURSES.get(key, COURSES["hyper"]) for key in SEARCHES}
    no_stack = {key: found for key, found in every.items() if not SEARCHES[key].one_stack}
    head, *rows = lines(figures.searches_table({"mnist": every, "cifar10": no_stack}))
    assert head == "| search | MNIST, test accuracy (%) | CIFAR-10, test accuracy (%) |"
    assert len(rows) == len(SEARCHES)
    assert rows[0] == "| grid | 85.00 (2.0 of 2.0) | 85.00 (2.0 of 2.0) |"
    assert rows[1] == "| random | 85.00 (1.5 of 2.0) | 85.00 (1.5 of 2.0) |"
    assert "| batched grid | 72.50 (never of 1.0) | no stack |" in rows
    assert "| Hyper-VIB | 72.50 (never of 1.0) | 72.50 (never of 1.0) |" in rows


def test_some_searches_are_held_against_the_grid_on_each_task() -> None:
    table = figures.than_grid_table(
        {"mnist": COURSES, "wifi": COURSES}, ["hyper", "warm", "answer"]
    )
    assert lines(table) == [
        "| search | MNIST | WiFi |",
        "| Hyper-VIB | 12.5 points worse | 14.7% better |",  # of an error, less is better
        "| warm-started grid | no stack | no stack |",
        "| Hyper-VIB behind an answer | not run | not run |",
    ]


def test_a_table_of_searches_tells_each_seed() -> None:
    assert lines(figures.search_table(COURSES, ACCURACY)) == [
        "| search | epochs (VIB runs) | time (s) | test accuracy (%) "
        "| to the grid's best, each seed |",
        "| grid | 2.0 | 20 | 85.00 | 2.0 / 2.0 |",
        "| random | 2.0 | 20 | 85.00 | 2.0 / 1.0 |",
        "| Hyper-VIB | 1.0 | 10 | 72.50 | never / never |",
    ]
    errors = lines(figures.search_table(COURSES, SQUARED_ERROR))
    assert errors[0].split(" | ")[3] == "test MSE (ns²)"
    assert errors[3] == "| Hyper-VIB | 1.0 | 10 | 0.725 | 1.0 / 1.0 |"


def test_the_points_of_courses_have_their_search_and_seed() -> None:
    rows = figures.search_rows(COURSES, (3, 4))
    assert len(rows) == 10
    assert rows[3] == {
        **{"search": "grid", "seed": 4, "runs": 2, "seconds": 20.0},
        **{"beta": 1e-3, "validation": 0.8, "test": 0.8},
    }
    assert rows[-1]["search"] == "Hyper-VIB"


def variant(test: float, half: float = 0.05) -> Comparison:
    mean = Interval(*np.array([test, test - half, test + half]))
    return Comparison(mean, mean, 2 * test, 1e-4, 0.9876, 12_345)


GROUPS = {"gate": {"sigmoid": variant(0.1), "softplus": variant(-0.04)}}


def test_variants_have_excess_metric_and_size() -> None:
    head, *rows = lines(figures.ablation_table(GROUPS, ACCURACY))
    assert head.startswith("| choice | variant | mean excess, training (%) | mean excess, test (%)")
    assert rows == [
        "| gate | sigmoid | 10.0 ± 5.0 | 10.0 ± 5.0 | +20.0% at β = 10⁻⁴ | 98.76 | 12,345 |",
        "| gate | softplus | −4.0 ± 5.0 | −4.0 ± 5.0 | −8.0% at β = 10⁻⁴ | 98.76 | 12,345 |",
    ]


def test_changes_that_are_sure_are_in_bold() -> None:
    other = {"gate": {"sigmoid": variant(0.1, np.nan), "softplus": variant(-0.4)}}
    assert lines(figures.changes_table({"mnist": GROUPS, "ink": other})) == [
        "| choice | variant | MNIST (%) | ink (%) |",
        "| gate | sigmoid | **10 ± 5** | 10 |",
        "| gate | softplus | −4 ± 5 | **−40 ± 5** |",
    ]


def test_the_numbers_of_variants_are_plain() -> None:
    assert figures.outcome_rows(GROUPS)[1] == {
        **{"choice": "gate", "variant": "softplus", "train": -0.04, "test": -0.04},
        **{"worst": -0.08, "worst_beta": 1e-4, "metric": 0.9876, "parameters": 12_345},
    }
