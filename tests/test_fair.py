"""VIB at its best: what is chosen, on which data, and what is left of a lead."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import BETAS, fake, rewritten, vib

from hvib.book import fair, figures
from hvib.book.curves import ORDERED, PAPER, VIB, Curve, Key, collect
from hvib.book.plan import plan
from hvib.ledger import Record
from hvib.run import Run
from hvib.tasks import Planned

Objective = Callable[[float], float]


def grid(
    method: str,
    validation: Objective,
    test: Objective,
    *,
    epochs: int = 20,
    seeds: int = 2,
    betas: tuple[float, ...] = BETAS,
) -> list[Record]:
    """VIB's records whose objective on validation is not that on test data."""
    records = []
    for seed in range(seeds):
        for beta in betas:
            record = fake(method, seed, vib, objective=test, betas=(beta,))
            record = rewritten(record, "validation", objective=validation)
            records.append(replace(record, config=replace(record.config, epochs=epochs)))
    return records


def network(method: str, objective: Objective, *, epochs: int = 20, seeds: int = 2) -> list[Record]:
    """A gated method's records."""
    records = [fake(method, seed, vib, objective=objective) for seed in range(seeds)]
    return [replace(r, config=replace(r.config, epochs=epochs)) for r in records]


def made_up() -> dict[Key, list[Curve]]:
    """VIB's remedies help at large β, half the epochs at small β; what helps is 20% on test."""
    small = 3e-4
    records = grid("vib", lambda b: 1.0, lambda b: 1.0, seeds=3)
    records += grid("vib", lambda b: 0.9 if b < small else 2, lambda b: 0.8, epochs=10)
    records += grid("vib-tended", lambda b: 2.0 if b < small else 0.9, lambda b: 0.8)
    # Best of all on test data, and yet not chosen.
    records += grid("vib-averaged", lambda b: 1.5, lambda b: 0.1, betas=(1e-6, 1.0))
    records += network("hyper-vib", lambda b: 0.7)
    records += network("hyper-vib", lambda b: 0.6, epochs=40)
    records += network("hyper-vib-averaged", lambda b: 1.7)
    records += network("hyper-vib-ordered", lambda b: 1.1)
    records += network("hyper-vib-ordered-averaged", lambda b: 1.05)
    return collect(records)


def test_vib_at_its_best_is_what_validation_chooses_at_each_beta() -> None:
    best = fair.vib_at_best(made_up())
    assert best.chosen == (Key("vib", 0.5),) * 5 + (Key("vib-tended"),) * 8
    assert [curve.seed for curve in best.curves] == [0, 1]  # the third seed is not in all
    for curve in best.curves:
        assert curve.betas.tolist() == list(BETAS)
        assert curve.column("objective", "test").tolist() == [0.8] * 13
        assert [r.config.method for r in curve.records] == ["vib"] * 5 + ["vib-tended"] * 8
        assert [r.config.epochs for r in curve.records] == [10] * 5 + [20] * 8
        assert {r.config.seed for r in curve.records} == {curve.seed}


def test_plain_vib_stays_where_nothing_is_better() -> None:
    records = grid("vib", lambda b: 1.0, lambda b: 1.0)
    records += grid("vib-tended", lambda b: 1.1, lambda b: 0.5)
    assert set(fair.vib_at_best(collect(records)).chosen) == {VIB}


def test_a_gated_method_is_one_network_for_all_beta() -> None:
    curves = made_up()
    paper, ordered = (fair.gated_at_best(curves, key.method) for key in (PAPER, ORDERED))
    assert set(paper.chosen) == {Key("hyper-vib", 2)}
    assert set(ordered.chosen) == {Key("hyper-vib-ordered-averaged")}
    assert paper.curves == curves[Key("hyper-vib", 2)]


def test_a_gated_method_is_chosen_on_validation_and_by_logarithms() -> None:
    # Halved at the small β and a quarter more at the large ones, where nearly all of the sum is.
    records = grid("vib", lambda b: 1.0, lambda b: 1.0) + network("hyper-vib", lambda b: 1 + b)
    for record in network("hyper-vib", lambda b: 100.0, epochs=40):
        shape: Objective = lambda b: (1 + b) * (0.5 if b < 0.1 else 1.25)  # noqa: E731
        records.append(rewritten(record, "validation", objective=shape))
    assert set(fair.gated_at_best(collect(records), "hyper-vib").chosen) == {Key("hyper-vib", 2)}


def test_the_lead_is_that_at_middle_beta() -> None:
    theirs = collect(grid("vib", lambda b: 1.0, lambda b: 1.0))[VIB]

    def objective(beta: float) -> float:
        return 0.9 if 0.99e-3 < beta < 0.101 else 3.0

    found = fair.lead(collect(network("hyper-vib", objective))[PAPER], theirs)
    assert found.mean == pytest.approx(0.1)
    assert found.half == pytest.approx(0)
    beyond = collect(grid("vib", lambda b: 1, lambda b: 2, betas=(0.3, 1.0)))[VIB]
    records = [fake("hyper-vib", s, vib, objective=lambda b: 1, betas=(0.3, 1.0)) for s in (0, 1)]
    assert fair.lead(collect(records)[PAPER], beyond).mean == pytest.approx(0.5)


def test_what_is_left_of_a_lead() -> None:
    found = fair.all_leads({"mnist": made_up()})
    paper, ordered = found["mnist", PAPER], found["mnist", ORDERED]
    assert paper.plain.mean == pytest.approx(0.3)
    assert paper.tended.mean == pytest.approx(1 - 0.7 / 0.8)
    assert paper.both.mean == pytest.approx(1 - 0.6 / 0.8)
    assert paper.explained == pytest.approx(1 - 0.125 / 0.3)
    assert ordered.plain.mean == pytest.approx(-0.1)
    assert np.isnan(ordered.explained)


def test_plain_systems_that_start_from_a_gated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Run] = []

    def swept(runs: Iterable[Run]) -> list[Record]:
        asked.extend(runs)
        return [
            rewritten(fake(r.method, r.seed, vib), "train", objective=lambda b: 0.6) for r in asked
        ]

    monkeypatch.setattr(fair, "sweep", swept)
    found = fair.tuned_over_best("mnist", made_up())
    assert [(r.task, r.method, r.seed) for r in asked] == [
        ("mnist", "hyper-vib-tuned", seed) for seed in range(3)
    ]
    assert found.mean == pytest.approx(1 - 0.6 / 0.8)


def test_the_page_s_own_task_tries_each_remedy_alone() -> None:
    runs = fair.study(Planned(plan("digits")))
    assert len(set(runs)) == len(runs)
    assert {run.seed for run in runs} == {0, 1, 2}
    vib_runs = [run for run in runs if len(run.betas) == 1]
    tried = {(run.method, run.epochs) for run in vib_runs}
    remedies = {"vib-warm-up", "vib-averaged", "vib-best-epoch", "vib-tended"}
    assert tried == {("vib", 100), ("vib", 200), ("vib", 400)} | {(r, 200) for r in remedies}
    assert len(vib_runs) == 3 * (2 * 13 + 5 * 7)
    gated = {run.method for run in runs if len(run.betas) == 13}
    assert gated == {f"hyper-vib{o}{a}" for o in ("", "-ordered") for a in ("", "-averaged")}


@pytest.mark.parametrize(("task", "longer"), [("mnist", 40), ("bluetooth", 40), ("wifi", 40)])
def test_another_task_has_all_remedies_at_once(task: str, longer: int) -> None:
    runs = fair.tended_runs(task)
    assert len(set(runs)) == len(runs)
    tended = [run for run in runs if run.method == "vib-tended"]
    assert len(tended) == 3 * (13 if task == "bluetooth" else 7)
    assert {run.betas[0] for run in tended} >= {b for b in BETAS if b >= 1e-3}
    more = {run.betas[0] for run in runs if run.method == "vib" and run.epochs == longer}
    middle = {beta for beta in BETAS if 1e-3 <= beta <= 0.1}
    assert more >= middle
    assert not [run for run in runs if run.method == "vib-batched"]


def test_figures_and_tables_of_vib_at_its_best() -> None:
    curves = made_up()
    (axes,) = figures.excess_at_best({"mnist": curves}).axes
    best, paper, ordered = axes.get_lines()[1:]
    assert best.get_ydata() == pytest.approx([-20] * 13)
    assert paper.get_ydata() == pytest.approx([-30] * 13)
    assert ordered.get_ydata() == pytest.approx([10] * 13)
    train, test = figures.remedies_over_beta(curves).axes
    assert [axes.get_title(loc="left") for axes in (train, test)] == [
        "train objective",
        "test objective",
    ]
    assert [len(line.get_xdata()) for line in test.get_lines()[1:]] == [13, 13, 2]  # type: ignore[arg-type]
    rows = figures.best_rows({"mnist": curves})
    assert len(rows) == 2 * 13
    assert rows[0]["chosen"] == "VIB, 0.5× epochs"
    plt.close("all")

    table = str(figures.chosen_table({"mnist": curves, "ink": collect(grid("vib", vib, vib))}).data)
    assert "| VIB, 0.5× epochs | 5 | not tried |" in table
    assert "| VIB, all remedies | 8 | not tried |" in table
    assert "| VIB | 0 | 13 |" in table
    table = str(figures.remedies_table(curves).data)
    assert "| VIB, 0.5× epochs | −20 ± 0 | −20 ± 0 |" in table
    assert (
        "| VIB, averaged | −90 ± 0 | −90 ± 0 | not tried | not tried | not tried | −90 ± 0 |"
        in table
    )
    table = str(figures.averaged_table({"mnist": curves}).data)
    assert "| Hyper-VIB, ordered | −4.5 ± 0.0 |" in table
    table = str(figures.leads_table(fair.all_leads({"mnist": curves})).data)
    assert "| MNIST | Hyper-VIB | 30.0 ± 0.0 | 12.5 ± 0.0 | 25.0 ± 0.0 | 58% |" in table
    assert "| no clear lead |" in table
