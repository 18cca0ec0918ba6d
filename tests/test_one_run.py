"""Methods of one run: where each is lowest, how it stands against the others, what a step holds."""

from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from made_up import BETAS, fake, vib

from hvib.book import figures
from hvib.book.curves import FLEXIBLE, ORDERED, PAPER, VIB, Curves, Key, collect
from hvib.book.one_run import (
    WORDS,
    Distance,
    Standing,
    device_share,
    first_seeds,
    lowest_at,
    on_these,
    price,
    standing,
    standings,
    step_of,
)
from hvib.book.statistics import interval
from hvib.ledger import Record
from hvib.methods import METHODS
from hvib.tasks import build, make_run


def made() -> Curves:
    """The paper's is lowest up to 1e-4, flexible beyond it up to 0.05, VIB at the largest β."""
    scale = {0: 0.9, 1: 1.1}

    def scaled(of: Callable[[float], float], seed: int) -> Callable[[float], float]:
        return lambda beta: scale[seed] * of(beta)

    def of_vib(beta: float) -> float:
        return 2.0 if beta < 0.05 else 1.0

    records = [
        fake("vib", s, vib, betas=(b,), objective=scaled(of_vib, s)) for s in scale for b in BETAS
    ]
    of: dict[str, Callable[[float], float]] = {
        "hyper-vib": lambda b: 1.0 if b < 2e-4 else 4.0,
        "flexible-vib": lambda b: 1.6 if b < 0.05 else 8.0,
    }
    for method, objective in of.items():
        records += [
            fake(method, s, vib, objective=scaled(objective, s), seconds=15.0) for s in scale
        ]
    # A third seed of one method alone, and a method with words of no page.
    records.append(fake("hyper-vib", 2, vib, objective=lambda b: 1e-3))
    records += [fake("hyper-vib-film", s, vib, objective=lambda b: 9.0) for s in scale]
    return collect(records)


def test_every_method_in_the_tables_is_one_of_one_run() -> None:
    known = METHODS.all()
    for key in WORDS.keys() - {VIB}:
        if key.method in known:
            assert not known[key.method].fixed
            assert not known[key.method].one_system_each
    assert list(on_these(made())) == [VIB, PAPER, FLEXIBLE]


def test_all_methods_count_with_the_same_seeds() -> None:
    few = first_seeds(made(), 2)
    assert {key: [c.seed for c in group] for key, group in few.items()} == {
        key: [0, 1] for key in made()
    }
    assert list(first_seeds(made(), 3)) == [PAPER]


def test_where_each_method_is_the_lowest() -> None:
    curves = first_seeds(made(), 2)
    found = lowest_at({key: curves[key] for key in (PAPER, FLEXIBLE)})
    assert found[PAPER] == pytest.approx([b for b in BETAS if b < 2e-4 or b > 0.05])
    assert found[FLEXIBLE] == pytest.approx([b for b in BETAS if 2e-4 < b < 0.05])


def test_a_method_stands_against_all_but_itself() -> None:
    curves = first_seeds(made(), 2)
    found = standing(curves, PAPER)
    # Against VIB, seed by seed: half of it up to 1e-4, then twice, then four times.
    over_vib = np.array([-0.5] * 5 + [1.0] * 5 + [3.0] * 3)
    assert sum(b < 2e-4 for b in BETAS) == 5
    assert found.vib.mean.mean == pytest.approx(over_vib.mean())
    assert (found.vib.worst, found.vib.worst_beta) == pytest.approx((3, 0.1))
    # The envelope of the others is flexible's, and VIB's at the largest β.
    over = np.array([1 / 1.6] * 5 + [4 / 1.6] * 5 + [4.0] * 3)
    by_seed = interval(np.array([scale * over.mean() - 1 for scale in (0.9, 1.1)]))
    assert np.array(found.others.mean) == pytest.approx(np.array(by_seed))
    assert (found.others.worst, found.others.worst_beta) == pytest.approx((3, 0.1))
    assert found.equal == found.others
    assert found.runs == pytest.approx(1.5)
    assert list(standings({"mnist": curves}, [PAPER, ORDERED], {"mnist": curves})) == [
        ("mnist", PAPER)
    ]


def test_longer_rivals_count_apart_and_more_seeds_for_the_time_alone() -> None:
    longer = [fake("flexible-vib", s, vib, objective=lambda b: 0.5, twice=True) for s in (0, 1)]
    more = [fake("hyper-vib", 2, vib, seconds=45.0)]
    more += [fake("vib", 2, vib, betas=(b,), seconds=15.0) for b in BETAS]
    few = first_seeds(made(), 2)
    curves = dict(few) | collect(longer)
    timed = {key: [*few[key], *group] for key, group in collect(more).items()}
    found = standing(curves, PAPER, timed)
    assert found.equal == standing(few, PAPER).equal
    assert found.others.worst == pytest.approx(7)  # 4 over 0.5
    assert found.runs == pytest.approx((15 + 15 + 45) / (10 + 10 + 15))
    assert standing(curves, PAPER).runs == pytest.approx(1.5)
    # Its own longer run is no rival.
    assert standing(curves, FLEXIBLE).others == standing(few, FLEXIBLE).others


def test_times_compare_on_one_machine() -> None:
    def on(machine: str, method: str, seed: int, seconds: float) -> list[Record]:
        grid = [(b,) for b in BETAS] if method == "vib" else [BETAS]
        found = [fake(method, seed, vib, betas=b, seconds=seconds) for b in grid]
        return [replace(record, environment={"name": machine}) for record in found]

    slow = on("slow", "vib", 0, 10.0) + on("slow", "vib", 1, 12.0)
    fast = on("fast", "vib", 2, 1.0)
    ours = on("fast", "hyper-vib", 0, 2.0) + on("slow", "hyper-vib", 1, 33.0)
    only = on("fast", "flexible-vib", 0, 0.5) + on("third", "flexible-vib", 1, 9.0)
    none = on("third", "hyper-vib-log", 0, 9.0)
    curves = collect([*slow, *fast, *ours, *only, *none])
    assert price(curves[PAPER], curves[VIB]) == pytest.approx(3)
    assert price(curves[FLEXIBLE], curves[VIB]) == pytest.approx(0.5)
    assert np.isnan(price(curves[Key("hyper-vib-log")], curves[VIB]))


def test_the_test_has_three_parts() -> None:
    def ends(mean: float, worst: float, runs: float) -> tuple[str, str]:
        one = Distance(interval(np.array([mean, mean])), worst, 0.1)
        other = Distance(interval(np.array([-1.0, -1.0])), -0.5, 0.1)
        found = Standing(one, other, one, runs)
        assert found.against("vib") == found.against("others")
        return found.against("vib"), found.against("equal")

    assert ends(-0.01, 0.03, 2.0) == ("holds", "holds")
    assert ends(-0.01, 0.031, 2.0)[0] == "holds in part"
    assert ends(-0.01, 0.03, 2.1) == ("holds in part", "holds in part")
    assert ends(0.001, 0.0, 1.0)[0] == "does not hold here"


def test_what_a_step_holds_is_counted_by_hand() -> None:
    run = make_run("digits", "vib", betas=(0.1,), features=4)
    x, y = torch.rand(32, 1, 8, 8), torch.randint(10, (32,))
    found = step_of(run, x, y)
    parameters = 4 * sum(p.numel() for p in build(run).parameters())
    assert found[:3] == (parameters, parameters, 2 * parameters)
    # At least the input of each of the six layers: ReLU's output is the next one's input.
    inputs = 4 * 32 * (64 + 256 + 128 + 4 + 128 + 256)
    assert inputs <= found.saved <= 1.3 * inputs
    assert found.megabytes == pytest.approx((4 * parameters + found.saved) / 1e6)
    # Each product of the forward pass has two in the backward pass, but the first has one.
    weights = [64 * 256, 256 * 128, 128 * 8, 4 * 128, 128 * 256, 256 * 10]
    assert found.products == 2 * 32 * (3 * sum(weights) - weights[0])
    twice = step_of(run, x.repeat(2, 1, 1, 1), y.repeat(2))
    assert twice[:3] == found[:3]
    assert (twice.products, twice.calls) == (2 * found.products, found.calls)
    assert twice.saved == pytest.approx(2 * found.saved, rel=0.01)


def test_a_gated_step_holds_what_its_gates_scale() -> None:
    x, y = torch.rand(64, 1, 8, 8), torch.randint(10, (64,))
    plain = step_of(make_run("digits", "vib", betas=(0.1,)), x, y)
    gated, answer, flexible = (
        step_of(make_run("digits", method), x, y)
        for method in ("hyper-vib", "hyper-vib-answer", "flexible-vib")
    )
    assert plain.calls < gated.calls < answer.calls
    # Each layer's output before its gate, and for each of the eight β the scale of each output.
    outputs = 256 + 128 + 128 + 128 + 256 + 10
    assert gated.saved - plain.saved == pytest.approx(4 * (64 + 8) * outputs, rel=0.01)
    assert flexible.saved < plain.saved < answer.saved
    assert flexible.parameters < plain.parameters  # the closed form has no network


def test_the_device_s_share_of_the_parameters() -> None:
    run = make_run("digits", "vib", betas=(0.1,))
    device = 64 * 256 + 256 + 256 * 128 + 128 + 128 * 128 + 128
    network = 64 * 128 + 128 + 128 * 256 + 256 + 256 * 10 + 10
    assert device_share(run) == pytest.approx(device / (device + network))
    assert device_share(make_run("digits", "flexible-vib")) == 1


def test_tables_and_figure_of_one_run() -> None:
    curves = first_seeds(made(), 2)
    tasks = {"mnist": curves}
    text = figures.standing_table(standings(tasks, [PAPER, FLEXIBLE], tasks)).data
    assert "| MNIST | Hyper-VIB | 1.50 | 88.5 ±" in text
    assert "; worst +300.0% at β = 0.1: **does not hold here** |" in text
    once = {"mnist": {key: curves[key] for key in (PAPER, FLEXIBLE)}}
    text = figures.lowest_table(once).data
    assert "| Hyper-VIB | 10⁻⁶ to 10⁻⁴, 0.1 to 1 |" in text
    assert "| Flexible VIB | 3.2 × 10⁻⁴ to 0.032 |" in text
    assert "a plain answer by regression" in figures.words_table([FLEXIBLE]).data
    run, x, y = make_run("mnist", "hyper-vib"), torch.rand(8, 1, 28, 28), torch.arange(8)
    step = step_of(run, x, y)
    steps = {("mnist", key): step for key in (VIB, PAPER, FLEXIBLE)}
    steps["mnist", PAPER] = step._replace(products=3 * step.products, calls=5 * step.calls)
    text = figures.cost_by_method({"mnist": on_these(curves)}, steps, dict.fromkeys(steps, 0.5))
    row = f"| MNIST | Hyper-VIB | 100.0 | 50% | 1.50 | 3.00 | 5.0 | {step.megabytes:.1f} |"
    assert row in text.data
    drawn = figures.excess_over_others(tasks, [PAPER, Key("hyper-vib-log")])
    (axes,) = drawn.axes
    drawn_lines = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
    (own,) = (line for line in drawn_lines if len(line) == 13)
    assert own[0] == pytest.approx(0)
    assert own[-1] == pytest.approx(300)
    rows = figures.excess_rows(tasks, [PAPER])
    assert [row["envelope"] for row in rows[::12]] == ["Hyper-VIB", "VIB"]
    assert rows[-1]["above the envelope"] == pytest.approx(3)
    plt.close(drawn)
