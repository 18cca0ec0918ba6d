"""Searches for β: what each trains, at what cost, and what it answers."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import Register
from made_up import BETAS, fake

from hvib.book import search
from hvib.book.search import (
    SEARCHES,
    Found,
    at_end,
    course,
    courses_of,
    is_on_record,
    possible,
    runs_to_grid,
    runs_until,
    searched_tasks,
    seeds_to_grid,
    than_grid,
)
from hvib.ledger import Record, obtaining
from hvib.methods import METHODS
from hvib.run import Run
from hvib.tasks import ACCURACY, SQUARED_ERROR, TASKS, make_run

RUN = make_run("mnist", "vib", betas=BETAS)


def world(best: float = 1e-2, task: str = "mnist") -> tuple[Callable[[Run], Record], list[Run]]:
    """Runs that cost 10 s for 20 epochs and whose metric peaks at one β."""
    asked: list[Run] = []

    def metric(beta: float) -> float:
        away = abs(math.log10(beta / best))
        return 0.9 - 0.1 * away if task == "mnist" else 0.2 + away

    def obtain(run: Run) -> Record:
        asked.append(run)
        record = fake(run.method, run.seed, metric, betas=run.betas, task=task)
        seconds = 10.0 * run.epochs / RUN.epochs
        return Record(**{**vars(record), "config": run, "epochs": run.epochs, "seconds": seconds})

    return obtain, asked


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_answers_with_the_best_on_validation_so_far(name: str) -> None:
    obtain, asked = world()
    found = course(name, RUN, obtain)
    assert len(found) == len(asked)
    assert [f.validation for f in found] == sorted(f.validation for f in found)
    assert [f.runs for f in found] == sorted(f.runs for f in found)
    assert found[-1].test == pytest.approx(0.9 - 0.1 * abs(math.log10(found[-1].beta / 1e-2)))
    assert abs(math.log10(found[-1].beta / 1e-2)) < 0.5
    assert found[-1].seconds == pytest.approx(sum(10 * r.epochs / 20 for r in asked))
    assert all(RUN.betas[0] <= b <= RUN.betas[-1] for run in asked for b in run.betas)


def test_networks_with_batch_norms_are_not_searched_in_one_stack() -> None:
    assert possible(RUN) == list(SEARCHES)
    left = possible(make_run("cifar10", "vib"))
    assert set(SEARCHES) - set(left) == {"batched", "warm"}


def test_errors_are_searched_for_their_least() -> None:
    run = make_run("wifi", "vib", betas=BETAS)
    obtain, _ = world(task="wifi")
    assert course("grid", run, obtain)[-1].beta == pytest.approx(1e-2)
    assert course("grid", run, obtain)[-1].test == pytest.approx(0.2)


def test_costs_are_in_whole_runs() -> None:
    obtain, asked = world()
    assert course("grid", RUN, obtain)[-1].runs == pytest.approx(13)
    assert course("batched", RUN, obtain)[-1].runs == pytest.approx(13)
    assert course("hyper", RUN, obtain)[-1].runs == pytest.approx(1)
    assert course("hyper-2x", RUN, obtain)[-1].runs == pytest.approx(2)
    asked.clear()
    found = course("halving", RUN, obtain)
    assert [r.epochs for r in asked] == [2] * 13 + [7] * 4 + [20]
    assert asked[-1].betas == (pytest.approx(1e-2),)
    assert found[-1].runs == pytest.approx((13 * 2 + 4 * 7 + 20) / 20)


@pytest.mark.parametrize(
    ("key", "method"), [("flexible", "flexible-vib"), ("answer", "hyper-vib-answer")]
)
def test_a_method_that_trains_once_is_a_search_of_one_run(key: str, method: str) -> None:
    obtain, asked = world()
    (found,) = course(key, RUN, obtain)
    assert asked == [replace(RUN, method=method)]
    assert found.runs == pytest.approx(1)
    assert found.beta == pytest.approx(1e-2)
    assert SEARCHES[key].label == METHODS.find(method).label


def test_chance_follows_the_seed() -> None:
    obtain, asked = world()
    for name in ("grid", "random", "bayesian"):
        orders = []
        for seed in (0, 0, 1):
            asked.clear()
            course(name, make_run("mnist", "vib", betas=BETAS, seed=seed), obtain)
            orders.append([run.betas[0] for run in asked])
        assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) != list(BETAS)


def test_the_bayesian_search_closes_in() -> None:
    obtain, asked = world(best=3e-5)
    course("bayesian", RUN, obtain)
    away = [abs(math.log10(run.betas[0] / 3e-5)) for run in asked]
    assert min(away[:4]) > 0.3
    assert min(away) < 0.05


def test_a_reference_is_rivalled_within_the_margin() -> None:
    found = [Found(k, 0.0, 1e-3, value, 0.0) for k, value in enumerate([0.5, 0.3, 0.206], 1)]
    assert runs_until(found, 0.2, SQUARED_ERROR) == 3
    assert runs_until(found, 0.19, SQUARED_ERROR) == math.inf
    assert runs_until(found, 0.501, ACCURACY) == 1


def test_each_seed_is_held_against_its_own_grid() -> None:
    def one(*values: float) -> list[Found]:
        return [Found(k, 0.0, 1e-3, value, 0.0) for k, value in enumerate(values, 1)]

    courses = {
        "grid": [one(0.8, 0.9), one(0.7, 0.7)],
        "random": [one(0.7, 0.8, 0.9), one(0.7, 0.7, 0.7)],
        "hyper": [one(0.85), one(0.6)],
    }
    never = math.inf
    assert seeds_to_grid(courses, ACCURACY) == {
        "grid": [2, 1],
        "random": [3, 1],
        "hyper": [never, never],
    }
    assert runs_to_grid(courses, ACCURACY) == {"grid": 1.5, "random": 2, "hyper": never}


def test_searches_end_at_the_median_of_seeds() -> None:
    def one(runs: int, test: float) -> list[Found]:
        return [Found(1, 0.0, 1e-3, 0.0, 9.0), Found(runs, 0.0, 1e-3, 0.0, test)]

    courses = {
        "grid": [one(13, 0.4), one(13, 0.5), one(13, 0.9)],
        "hyper": [one(2, 0.9), one(3, 0.8), one(7, 0.1)],
        "random": [one(13, 0.3), one(13, 0.4), one(13, 0.6)],
    }
    assert at_end(courses, "test") == {"grid": 0.5, "hyper": 0.8, "random": 0.4}
    assert at_end(courses, "runs") == {"grid": 13, "hyper": 3, "random": 13}
    told = [than_grid(courses, key, SQUARED_ERROR) for key in ("hyper", "random")]
    assert told == ["60% worse", "20% better"]
    told = [than_grid(courses, key, ACCURACY) for key in ("hyper", "random")]
    assert told == ["30 points better", "10 points worse"]


def test_all_possible_searches_of_a_task_run_with_three_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        search, "course", lambda key, run, *_: [key, run.task, run.epochs, run.seed]
    )
    found = courses_of("cifar10", 3)
    assert set(SEARCHES) - set(found) == {"batched", "warm"}
    for key, courses in found.items():
        assert courses == [[key, "cifar10", 3, seed] for seed in range(3)]


def test_a_search_that_is_not_on_record_is_left_out_where_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    obtain, _ = world()
    known = {"flexible-vib": (0, 1, 2), "hyper-vib-answer": (0, 1)}

    def find(run: Run) -> Record | None:
        return obtain(run) if run.seed in known.get(run.method, (0, 1, 2)) else None

    monkeypatch.setattr(search.ledger, "find", find)
    monkeypatch.setattr(
        search, "SEARCHES", {k: SEARCHES[k] for k in ("hyper", "flexible", "answer")}
    )
    real = search.course
    monkeypatch.setattr(search, "course", lambda key, run, get=obtain: real(key, run, get))
    assert is_on_record("answer", make_run("mnist", "vib", seed=1))
    assert not is_on_record("answer", make_run("mnist", "vib", seed=2))
    assert list(courses_of("mnist", 20)) == ["hyper", "flexible"]
    known["hyper-vib-answer"] = (0, 1, 2)
    known["hyper-vib"] = (0,)  # to be trained, whether on record or not
    assert list(courses_of("mnist", 20)) == ["hyper", "flexible", "answer"]


def test_searched_are_the_paper_s_tasks_with_searches_on_record(register: Register) -> None:
    mnist, wifi = TASKS.find("mnist"), TASKS.find("wifi")
    assert list(searched_tasks()) == ["mnist", "cifar10", "bluetooth", "wifi"]
    register(replace(wifi, search_epochs=0))
    register(replace(mnist, search_epochs=7))
    register(replace(wifi, name="mine", in_paper=None))
    found = searched_tasks()
    assert list(found) == ["mnist", "cifar10", "bluetooth"]
    assert found["mnist"] == 7


def test_an_unknown_search_is_named() -> None:
    with pytest.raises(ValueError, match="search = 'annealing': unknown; choose one of"):
        course("annealing", RUN)


@pytest.mark.parametrize("name", ["warm", "halving"])
def test_a_search_trains_and_is_on_record_afterwards(
    name: str, results: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("digits", "vib", "smoke", betas=(1e-3, 1e-2, 1.0), epochs=4)
    found = course(name, run)
    costs = {"warm": 1 + 2 / 4, "halving": (3 * 1 + 1 * 4) / 4}
    assert found[-1].runs == pytest.approx(costs[name])

    def refuse(*args: object, **kwargs: object) -> Record:
        raise AssertionError("trained again")

    monkeypatch.setattr(obtaining, "execute", refuse)
    assert course(name, run) == found
