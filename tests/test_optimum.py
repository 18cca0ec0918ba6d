"""Envelope, gaps and bounds of a task, on curves whose outcome is known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import needs_cifar10, needs_mnist
from made_up import BETAS, error, fake, rewritten, vib
from matplotlib.lines import Line2D

from hvib import ledger
from hvib.book import figures
from hvib.book.curves import PAPER, VIB, Curves, Key, collect
from hvib.book.optimum import (
    CLASS_COUNTS,
    bounds_of,
    class_probabilities,
    curves_on_record,
    envelope,
    excess_over_envelope,
    gap,
    least_distortion,
    ranging_floor,
)
from hvib.book.ranging import rms_of_bound
from hvib.book.statistics import interval, over_seeds
from hvib.ledger import Record
from hvib.ranging.simulate import LINKS, SPEED_OF_LIGHT, simulate
from hvib.tasks import load
from hvib.tasks.ranging import HELD_OUT, SEEDS
from hvib.theory.lower_bounds import line_code

TWICE = Key("hyper-vib", 2)


def made(
    validation: Callable[[float], float],
    test: Callable[[float], float],
    *,
    seeds: int = 2,
    twice: bool = False,
    method: str = "hyper-vib",
) -> list[Record]:
    """Records of a method, seed s of which is 1 + s/100 times what the functions say."""

    def scaled(of: Callable[[float], float], seed: int) -> Callable[[float], float]:
        return lambda beta: (1 + seed / 100) * of(beta)

    records = []
    for seed in range(seeds):
        record = fake(method, seed, vib, twice=twice, objective=scaled(test, seed))
        records.append(rewritten(record, "validation", objective=scaled(validation, seed)))
    return records


def grid(objective: Callable[[float], float]) -> list[Record]:
    return [fake("vib", s, vib, betas=(b,), objective=objective) for s in range(2) for b in BETAS]


def curves() -> Curves:
    """VIB is lowest on test up to 1e-3; beyond it, the paper's method at its better epochs."""
    records = grid(lambda b: 1.0 if b < 2e-3 else 3.0)
    # Once is better on validation below 0.05, though twice is better on test data everywhere.
    records += made(lambda b: 1.0 if b < 0.05 else 2.0, lambda b: 2.0)
    records += made(lambda b: 1.5, lambda b: 1.9, twice=True)
    # One seed alone would be lowest, and is left out.
    records += made(lambda b: 0.1, lambda b: 0.1, seeds=1, method="hyper-vib-log")
    return collect(records)


def test_the_envelope_takes_epochs_by_validation_and_methods_by_test() -> None:
    found = envelope(curves())
    assert found.betas == pytest.approx(BETAS)
    expected = [VIB if b < 2e-3 else PAPER if b < 0.05 else TWICE for b in BETAS]
    assert list(found.keys) == expected
    value = {VIB: 1.0, PAPER: 2.0 * 1.005, TWICE: 1.9 * 1.005}
    assert found.objective.mean == pytest.approx([value[key] for key in expected])
    of_twice = interval(np.array([1.9, 1.9 * 1.01]))
    assert found.objective.at(-1) == pytest.approx(of_twice)


def test_a_method_counts_where_it_has_a_beta() -> None:
    records = grid(lambda b: 3.0)
    records += [fake("hyper-vib", s, vib, betas=BETAS[:4], objective=lambda b: 2.0) for s in (0, 1)]
    found = envelope(collect(records))
    assert list(found.keys) == [PAPER] * 4 + [VIB] * 9
    assert found.objective.mean.tolist() == [2.0] * 4 + [3.0] * 9
    with pytest.raises(ValueError, match="give one at least"):
        envelope({})


def test_curves_on_record_are_those_of_the_page_s_settings(results: Path) -> None:
    kept = grid(lambda b: 1.0) + made(error, error) + made(error, error, twice=True)
    other = made(error, error, seeds=1, method="hyper-vib-log")[0]
    left_out = [
        replace(other, config=replace(other.config, snr_db=10.0)),
        fake("hyper-vib-log", 1, vib, betas=BETAS[:5]),  # another range
        fake("vib", 2, vib, betas=(BETAS[0],)),  # not the whole grid
        fake("hyper-vib", 3, vib, task="cifar10"),
    ]
    for record in kept + left_out:
        ledger.write(record)
    before = sorted(results.rglob("*"))
    found = curves_on_record(["mnist", "bluetooth"])
    assert found["bluetooth"] == {}
    assert {key: len(group) for key, group in found["mnist"].items()} == {
        VIB: 2,
        PAPER: 2,
        TWICE: 2,
    }
    assert sorted(results.rglob("*")) == before  # nothing is trained


def test_gaps_are_relative_and_by_seed() -> None:
    every = curves()
    found = envelope(every)
    over = excess_over_envelope(every[TWICE], found)
    assert over.mean[-1] == pytest.approx(0)
    assert over.mean[0] == pytest.approx(1.9 * 1.005 - 1)
    assert over.at(0) == pytest.approx(interval(np.array([0.9, 1.9 * 1.01 - 1])))
    reference = np.array(BETAS) * 2
    few = gap(every[TWICE], np.array(BETAS), reference)
    assert few.mean == pytest.approx(1.9 * 1.005 / reference - 1)
    # A reference on more β than the curves have is read at theirs.
    part = collect([fake("hyper-vib", 0, vib, betas=BETAS[3:5], objective=lambda b: 4 * b)])[PAPER]
    assert gap(part, np.array(BETAS), reference).mean == pytest.approx([1.0, 1.0])
    with pytest.raises(ValueError, match="give the reference at these too"):
        gap(every[TWICE], np.array(BETAS[1:]), reference[1:])


def test_bounds_of_classes() -> None:
    records = [
        rewritten(record, "test", distortion=lambda b: 0.3 + b)
        for record in grid(lambda b: 0.3 + 3 * b)
    ]
    curves = collect(records)
    found = bounds_of("mnist", curves)
    p = np.array(CLASS_COUNTS["mnist"]) / 10_000
    H = -(p * np.log(p)).sum()
    least = 0.3 + BETAS[0]
    assert least_distortion(curves) == found.least == pytest.approx(least)
    assert found.certified == pytest.approx(H * np.array(BETAS))
    assert found.assumed == pytest.approx(least + (H - least) * np.array(BETAS))
    # The best accuracy on record, at the smallest β, and the channel's 20 dB.
    right = max(map(vib, BETAS))
    assert found.simple[-3] == line_code(p.tolist(), BETAS[-3], 0.01, right).objective
    assert (found.simple >= found.certified - 1e-9).all()
    assert found.floor == 0


def test_bounds_of_ranging() -> None:
    records = [
        fake("vib", 0, lambda b: 0.2, betas=(b,), task="bluetooth") for b in (1e-4, 0.1, 1.0)
    ]
    found = bounds_of("bluetooth", collect(records))
    N = (29 / 0.299792458) ** 2 / (2 * np.pi * np.e)
    assert found.floor == ranging_floor("bluetooth")
    assert found.least == pytest.approx(0.1)
    expected = [0.05 * (1 + np.log(2 * N / 0.1)), 0.5 * (1 + np.log(2 * N))]
    assert found.certified[1:] == pytest.approx(expected)
    assert found.certified[0] == pytest.approx(found.floor + 0.5e-4 * np.log(N / found.floor))
    assert found.assumed[1:] == pytest.approx(np.array(expected) + 0.1)
    assert (found.simple > found.assumed).all()


def test_the_floor_of_ranging_is_a_little_below_the_bound_for_unbiased_estimators() -> None:
    for task, link in LINKS.items():
        scene = simulate(link, HELD_OUT, SEEDS["test"])
        squared = (rms_of_bound(scene) / SPEED_OF_LIGHT) ** 2
        assert 0.95 * squared < ranging_floor(task) < squared


def test_class_shares_of_a_task_at_hand_are_counted() -> None:
    y = load("digits").test.y.numpy()
    assert class_probabilities("digits") == pytest.approx([(y == k).mean() for k in range(10)])


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("mnist", marks=needs_mnist),
        pytest.param("cifar10", marks=needs_cifar10),
    ],
)
def test_class_counts_are_those_of_the_test_data(task: str) -> None:
    assert tuple(np.bincount(load(task).test.y.numpy())) == CLASS_COUNTS[task]


def heights(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), dtype=float)


def test_figures_leave_out_a_method_that_a_task_has_not() -> None:
    ranging = [
        fake("vib", s, error, betas=(b,), objective=error, task="bluetooth")
        for s in range(2)
        for b in BETAS
    ]
    tasks = {"mnist": curves(), "bluetooth": collect(ranging), "cifar10": curves()}
    bounds = {task: bounds_of(task, of) for task, of in tasks.items()}
    envelopes = {task: envelope(of) for task, of in tasks.items()}
    keys = (VIB, PAPER)
    figure = figures.gap_beside_excess(tasks, bounds, envelopes, keys)
    # The envelope, the simple system in the middle, VIB's zero on the right, and each method.
    assert [len(axes.lines) for axes in figure.axes] == [3, 4, 3, 2, 3, 2, 3, 4, 3]
    factor = heights(figure.axes[0].lines[1])
    assert factor == pytest.approx(
        over_seeds(tasks["mnist"][VIB], "objective").mean / bounds["mnist"].certified
    )
    whole = figures.objective_and_bounds(tasks, bounds, envelopes, keys)
    assert [len(axes.lines) for axes in whole.axes] == [5, 4, 5]
    rows = figures.gap_rows(tasks, bounds, envelopes, keys)
    assert len(rows) == 3 * len(BETAS)
    assert "Hyper-VIB" in rows[0]
    assert "Hyper-VIB" not in rows[len(BETAS)]
    assert rows[0]["lowest method"] == "VIB"
    assert rows[0]["envelope"] == pytest.approx(1.0)
    told = figures.gap_table(tasks, bounds, envelopes, (0.3,)).data.splitlines()
    assert told[2].startswith("| MNIST | 0.32 | 0.73 |")
    assert len(told) == 5
    plt.close("all")


def test_water_filling_draws_the_formula() -> None:
    powers, betas = np.array([1.0, 0.1]), np.array([1e-3, 0.1, 3.0])
    figure = figures.water_filling(powers, betas, 0.01, np.array([0.1, 0.2, 0.3]))
    left, right = figure.axes
    assert heights(left.lines[0])[-1] == 1.0  # collapsed: all of the eigenvalue
    assert heights(right.lines[0])[-1] == pytest.approx(1.1)
    assert heights(right.lines[1]).tolist() == [0.1, 0.2, 0.3]
    plt.close("all")
