"""The plane β × SNR: which runs, which records count, differences, verdicts and what is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import lines

from hvib.book import state_results, states
from hvib.book.figures import states as figures
from hvib.book.figures.state_quotes import state_facts
from hvib.book.state_results import (
    EACH,
    ONLY,
    ORDERED_EACH,
    ORDERED_TOLD,
    TOLD,
    TOLD_ONCE,
    TOLD_RECEIVER,
    UNTOLD,
    Planes,
    adapts,
    excess,
    loss,
    loss_text,
    mean_excess,
    one_network,
    planes,
    price,
    real_snr,
    recorded,
    whole_excess,
)
from hvib.book.yardstick import yardstick
from hvib.ledger import Record
from hvib.run import Run

BETAS = (1e-3, 1e-2, 1e-1)
Of = Callable[[Run, float, float], float]
"""of a run, an SNR and a β"""


def flat(run: Run, snr: float, beta: float) -> float:
    return 0.9


def made(
    run: Run,
    metric: Of = flat,
    objective: Of = flat,
    *,
    validation: Of | None = None,
    seconds: float = 10.0,
) -> Record:
    """A record whose metric and objective are told, on validation data perhaps another metric."""

    def row(split: str, snr: float, beta: float) -> dict[str, Any]:
        own = validation if validation and split == "validation" else metric
        told = {"metric": own(run, snr, beta), "objective": objective(run, snr, beta)}
        rest = {"distortion": 0.1, "rate_nats": 2.0, "tx_power": 1.0}
        return {"split": split, "snr_db": snr, "beta": beta, **told, **rest}

    curve = [
        row(split, snr, beta)
        for split in ("train", "validation", "test")
        for snr in run.snrs
        for beta in run.betas
    ]
    return Record(run, curve, seconds, 100, run.epochs, 1000, {"name": "one"}, "0" * 32, None)


def runs_of(task: str = "mnist", channel: str = "awgn", seeds: Sequence[int] = (0, 1)) -> list[Run]:
    return states.study(task, channel, seeds, betas=BETAS)


def found(metric: Of = flat, objective: Of = flat, task: str = "mnist") -> Planes:
    runs = runs_of(task)
    return planes(runs, [made(run, metric, objective) for run in runs])


def test_the_study_of_mnist_has_every_kind_at_every_snr() -> None:
    runs = states.study("mnist", "awgn", (0,))
    assert len(set(runs)) == len(runs)
    each = [r for r in runs if not r.mixed_snr and r.method == "hyper-vib"]
    assert [r.snr_db for r in each] == list(states.SNRS)
    assert [r.snrs for r in each if r.snr_db != 20] == [(s,) for s in states.SNRS if s != 20]
    assert {r.snrs for r in runs if r.mixed_snr or r.snr_db == 20} == {states.SNRS}
    assert {r.epochs for r in each} == {10}
    assert {r.epochs for r in runs if r.mixed_snr} == {10, 20}
    assert {r.channel for r in runs} == {"awgn"}
    assert {r.betas for r in runs} == {states.BETAS}


@pytest.mark.parametrize(
    ("task", "channel", "alone"),
    [
        ("bluetooth", "awgn", [-5, 10, 20, 25]),
        ("mnist", "average-power", [-5, 10, 20, 25]),
        ("mnist", "rician", [20]),
        ("mnist", "rayleigh", [-5, 10, 20, 25]),
    ],
)
def test_other_studies_train_alone_at_few_snrs(task: str, channel: str, alone: list[float]) -> None:
    runs = states.study(task, channel, (0,))
    paper = [run for run in runs if "ordered" not in run.method]
    assert [run.snr_db for run in paper if not run.mixed_snr] == alone
    for_all = {run.method for run in paper if run.mixed_snr}
    assert for_all == {who.method for who in (TOLD, TOLD_RECEIVER, UNTOLD)}
    assert (len(runs) > len(paper)) == (channel == "average-power")


def test_a_short_study_has_the_profile_s_epochs_and_few_snrs_and_its_own_nominal_one() -> None:
    runs = states.study("digits", "awgn", (3,), profile="smoke", nominal=12.0, betas=(0.1, 0.3))
    assert {(r.profile, r.seed, r.betas) for r in runs} == {("smoke", 3, (0.1, 0.3))}
    assert {r.epochs for r in runs} == {2, 4}
    snrs = (-5.0, 10.0, 12.0, 25.0)
    assert {r.snrs for r in runs if r.mixed_snr} == {snrs}
    assert [r.snrs for r in runs if r.snr_db == 12.0 and not r.mixed_snr] == [snrs]


def test_records_become_planes_in_ascending_snr_and_seed() -> None:
    def told(run: Run, snr: float, beta: float) -> float:
        return 1000 * run.seed + snr + beta + (0.5 if run.mixed_snr else 0)

    got = found(told)
    kinds = {EACH, ONLY, UNTOLD, TOLD_RECEIVER, TOLD, TOLD_ONCE, ORDERED_EACH, ORDERED_TOLD}
    assert kinds <= got.keys()
    values = np.add.outer(np.add.outer([0, 1000], states.SNRS), BETAS)
    assert got[TOLD].column("metric") == pytest.approx(values + 0.5)
    for who in (EACH, ONLY):
        assert got[who].column("metric") == pytest.approx(values)
    assert got[ORDERED_EACH].snrs == states.FEW
    assert got[TOLD].seeds == (0, 1)
    part = got[EACH].of([1], [0.0, 25.0])
    assert part.column("metric") == pytest.approx(values[1:, [1, 6]])


def test_a_seed_counts_where_all_its_records_are_there() -> None:
    runs = runs_of(seeds=(0, 1, 2))
    records = [made(run) for run in runs]
    some = [r for r in records if (r.config.seed, r.config.snr_db) != (1, 5.0)]
    some = [r for r in some if (r.config.seed, r.config.method) != (2, TOLD.method)]
    got = planes(runs, some)
    assert got[EACH].seeds == (0, 2)
    assert got[ONLY].seeds == (0, 1, 2)
    assert got[TOLD].seeds == (0, 1)
    assert loss(got[TOLD], got[EACH]).seeds == 1
    assert TOLD not in planes(runs, [r for r in records if r.config.method != TOLD.method])


def test_validation_selects_the_largest_of_the_best_beta_at_each_snr() -> None:
    def validation(run: Run, snr: float, beta: float) -> float:
        return 0.9 if beta < (0.05 if snr < 7 else 1) else 0.5

    def metric(run: Run, snr: float, beta: float) -> float:
        return beta + snr

    runs = runs_of()
    plane = planes(runs, [made(run, metric, validation=validation) for run in runs])[TOLD]
    assert plane.selected.tolist() == [[1, 1, 1, 2, 2, 2, 2]] * 2
    chosen = np.array([1e-2] * 3 + [1e-1] * 4)
    assert plane.at_selected() == pytest.approx(np.array([chosen + states.SNRS] * 2))
    assert plane.at_kept(20.0) == pytest.approx(np.array([0.1 + np.array(states.SNRS)] * 2))
    # Of errors, the least.
    runs = runs_of("bluetooth")
    records = [made(run, metric, validation=lambda *at: 1 - validation(*at)) for run in runs]
    assert planes(runs, records)[TOLD].selected.tolist() == [[1, 1, 1, 2, 2, 2, 2]] * 2


def apart(run: Run, snr: float, beta: float) -> float:
    """Accuracies: alone 90%, only 0.9 less for each 5 dB below 20, told − 0.2, untold − 1."""
    if not run.mixed_snr:
        return 0.9 - (0.0018 * max(20 - snr, 0) if len(run.snrs) > 1 else 0)
    behind = {TOLD.method: 0.002, UNTOLD.method: 0.01}.get(run.method, 0.005)
    return 0.9 - behind + (0.001 if run.seed else -0.001)


def test_a_loss_is_a_difference_of_accuracies_and_a_ratio_of_errors() -> None:
    got = found(apart)
    lost = loss(got[ONLY], got[EACH])
    assert lost.values.mean == pytest.approx([0.045, 0.036, 0.027, 0.018, 0.009, 0, 0])
    behind = loss(got[TOLD], got[EACH]).at(10.0)
    assert behind.mean == pytest.approx(0.002)
    assert behind.half == pytest.approx(12.706 * 0.001, rel=1e-3)
    assert loss(got[UNTOLD], got[TOLD]).values.half == pytest.approx([0] * 7, abs=1e-9)

    def error(run: Run, snr: float, beta: float) -> float:
        return 1.2 if run.mixed_snr else 1.0

    got = found(error, task="bluetooth")
    lost = loss(got[TOLD], got[EACH])
    assert lost.snrs == (-5.0, 10.0, 20.0, 25.0)
    assert lost.values.mean == pytest.approx([0.2] * 4)
    by = yardstick(got[TOLD].metric)
    assert loss_text(lost.at(10.0), by) == "20 ± 0% worse"
    got = found(lambda run, snr, beta: 15.0 if run.mixed_snr else 1.0, task="bluetooth")
    assert loss_text(loss(got[TOLD], got[EACH]).at(10.0), by) == "15 times the error"


def objectives(run: Run, snr: float, beta: float) -> float:
    return (1 + 20 * beta if run.method == TOLD.method else 2) * (2 + run.seed) * (30 + snr)


def test_an_excess_is_relative_over_the_plane_and_seed_by_seed() -> None:
    got = found(objective=objectives)
    over = excess(got[TOLD], got[UNTOLD])
    expected = np.array([1.02, 1.2, 3.0]) / 2 - 1
    assert over.values.mean == pytest.approx(np.array([expected] * 7))
    assert over.values.half == pytest.approx(np.zeros((7, 3)), abs=1e-9)
    assert mean_excess(got[TOLD], got[UNTOLD]).values.mean == pytest.approx([expected.mean()] * 7)
    assert whole_excess(got[TOLD], got[UNTOLD]).mean == pytest.approx(expected.mean())


def test_planes_without_a_seed_or_an_snr_in_common_are_refused() -> None:
    got = found()
    with pytest.raises(ValueError, match="seed"):
        loss(got[TOLD].of([0], states.SNRS), got[EACH].of([1], states.SNRS))
    with pytest.raises(ValueError, match="snr"):
        loss(got[TOLD].of([0], [0.0]), got[EACH].of([0], [5.0]))


def test_a_price_is_in_runs_on_a_machine_of_both() -> None:
    runs = runs_of(seeds=(0,))
    records = [made(run, seconds=25.0 if run.mixed_snr else 10.0) for run in runs]
    got = planes(runs, records)
    assert price(got[TOLD], got[EACH]) == pytest.approx(2.5)
    other = [
        replace(record, environment={"name": "two"}) if record.config.mixed_snr else record
        for record in records
    ]
    got = planes(runs, other)
    assert np.isnan(price(got[TOLD], got[EACH]))


def test_a_study_is_shown_as_far_as_it_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Run] = []

    def swept(runs: Sequence[Run], **settings: object) -> list[Record]:
        trained.extend(runs)
        return [made(run) for run in runs]

    monkeypatch.setattr(state_results, "sweep", swept)
    some = [made(run) for run in runs_of(seeds=(0,))]
    monkeypatch.setattr(state_results, "on_record", lambda runs: some)
    assert state_results.obtained(runs_of())[TOLD].seeds == (0,)
    assert not trained
    assert state_results.obtained(runs_of(), fresh=True)[TOLD].seeds == (0, 1)
    monkeypatch.setattr(state_results, "on_record", lambda runs: [])
    assert state_results.obtained(runs_of())[TOLD].seeds == (0, 1)
    assert recorded([("mnist", "awgn")]) == {}
    full = [made(run) for run in states.study("mnist", "awgn", (0,))]
    monkeypatch.setattr(state_results, "on_record", lambda runs: full)
    assert recorded([("mnist", "awgn")])["mnist", "awgn"][TOLD].seeds == (0,)


def test_the_claim_is_that_of_the_system_trained_at_one_snr() -> None:
    verdict = adapts({("mnist", "awgn"): found(apart)})
    assert (verdict.key, verdict.number, verdict.outcome) == ("adapts", 9, "holds in part")
    # From 4.5 points at −5 dB to 1.8 at 10 dB; 0.9 at 15 dB; 20 dB itself does not count.
    assert verdict.measured == "MNIST, AWGN: at 2 of 6 SNRs, at worst 4.5 ± 0 points worse (−5 dB)"
    assert adapts({("mnist", "awgn"): found()}).outcome == "holds"
    assert adapts({}).outcome == "not testable"

    def far(run: Run, snr: float, beta: float) -> float:
        return 0.5 if len(run.snrs) > 1 else 0.9

    none = found(far)
    runs = states.study("mnist", "rician", (0,), betas=BETAS)  # trained at 20 dB alone
    assert adapts({("mnist", "rician"): planes(runs, map(made, runs))}).outcome == "not testable"
    both = {("mnist", "awgn"): none, ("mnist", "rician"): found()}
    assert adapts({("mnist", "awgn"): none}).outcome == "does not hold here"
    assert adapts(both).outcome == "holds in part"


def test_one_network_may_be_a_little_behind() -> None:
    got = found(apart)
    verdict = one_network({("mnist", "awgn"): got})
    assert (verdict.number, verdict.outcome) == (None, "holds")
    assert verdict.measured.startswith("MNIST, AWGN: at 7 of 7 SNRs, at worst 0.2 ± ")
    ordered = one_network({("mnist", "awgn"): got}, ORDERED_TOLD, ORDERED_EACH)
    assert ordered.outcome == "does not hold here"
    assert "at 0 of 3 SNRs, at worst 0.5 ± " in ordered.measured


def test_figures_over_the_plane() -> None:
    got = found(apart, objectives)
    case = {("mnist", "awgn"): got}
    (axes,) = figures.metric_over_snr(case).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert len(drawn) == 5
    assert min(min(line.get_ydata()) for line in drawn.values()) == pytest.approx(85.5)  # type: ignore[type-var,arg-type]
    panels = figures.objective_over_snr(got, (1e-3, 0.1)).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["β = 10⁻³", "β = 0.1"]
    told = panels[1].get_lines()[3]
    assert told.get_ydata() == pytest.approx(3 * 2.5 * (30 + np.array(states.SNRS)))
    (axes,) = figures.plane_of_excess(got, [(TOLD, UNTOLD)]).axes
    assert [text.get_text() for text in axes.texts[:3]] == ["−49", "−40", "+50"]
    plt.close("all")


def test_tables_over_the_plane() -> None:
    got = found(apart, objectives)
    case = {("mnist", "awgn"): got}
    _, *rows = lines(figures.gains_table(case))
    assert rows[0].startswith("| MNIST, AWGN | −5 dB | 3.50 ± 1.27 points | 0.80 ± 0.00 points |")
    assert "| −13.0 ± 0.0 | 0.20 ± 1.27 points |" in rows[0]
    assert len(rows) == 7

    def error(run: Run, snr: float, beta: float) -> float:
        return 20.0 if run.mixed_snr and run.method == UNTOLD.method else 1.0

    other = found(error, objectives, task="bluetooth")
    _, *rows = lines(figures.gains_table({("bluetooth", "awgn"): other}))
    assert "| −95.0 ± 0.0 % | 20 times as large |" in rows[0]
    assert rows[1].endswith("| not trained |")  # at 0 dB
    _, *rows = lines(figures.elsewhere_table(got, 20.0))
    assert (
        rows[0] == "| −5 dB | 85.50 ± 0.00 | 85.50 ± 0.00 | 90.00 ± 0.00 | 4.5 ± 0 points worse |"
    )
    head, *rows = lines(figures.kinds_table(got))
    assert "accuracy at −5 dB (%)" in head
    (told,) = (row for row in rows if "| all SNRs, told to both ends |" in row)
    assert "| −13.0 ± 0.0 | 1.0 | 1,000 | 2 |" in told
    (each,) = (row for row in rows if "one network for each SNR" in row)
    assert "| 7.0 | 7,000 | 2 |" in each
    (row,) = lines(figures.told_apart(case))[1:]
    assert row == "| MNIST, AWGN | 0.0 ± 0.0 | −13.0 ± 0.0 | −13.0 ± 0.0 |"


def test_a_device_that_sends_more_power_has_more_snr() -> None:
    runs = runs_of()
    records = [made(run) for run in runs]
    for record in records:
        for row in record.curve:
            row["tx_power"] = 10.0 if row["snr_db"] == -5 else 1.0
    got = planes(runs, records)
    assert real_snr(got[TOLD]) == pytest.approx(np.array([5, *states.SNRS[1:]]))
    (axes,) = figures.metric_over_snr({("mnist", "awgn"): got}, [TOLD], real=True).axes
    assert axes.get_lines()[0].get_xdata() == pytest.approx(real_snr(got[TOLD]))
    plt.close("all")
    curves = figures.learned_curves(got, [TOLD, UNTOLD])
    assert list(curves) == ["all SNRs, told to both ends", "all SNRs, told to nobody"]
    assert curves["all SNRs, told to nobody"].accuracy == pytest.approx(np.full((2, 7), 0.9))
    assert curves["all SNRs, told to nobody"].snr_db[0] == pytest.approx(5)


def test_rows_behind_the_figures() -> None:
    got = found(apart, objectives)
    rows = figures.plane_rows({("mnist", "awgn"): got}, [TOLD])
    assert len(rows) == 2 * 7 * 3
    assert rows[0]["objective"] == pytest.approx(objectives(runs_of()[7], -5, 1e-3))
    assert rows[0]["metric"] == pytest.approx(0.897)
    over = figures.excess_rows(got, [(TOLD, UNTOLD)])
    assert len(over) == 7 * 3
    assert over[0]["excess"] == pytest.approx(-0.49)


def test_numbers_that_prose_quotes() -> None:
    facts = state_facts(found(apart, objectives), "x-")
    assert facts["x-seeds"] == "2"
    assert facts["x-low"] == "−5 dB"
    assert facts["x-only"] == "85.50 ± 0.00"
    assert facts["x-over"] == "3.5 ± 1.3 points"
    assert facts["x-knows"] == facts["x-knows-nominal"] == "0.8 ± 0.0 points"
    assert facts["x-whole"] == "13.0 ± 0.0% below"
    assert facts["x-whole-affine"].endswith("% above")  # the network told, which is 13% below all
    assert facts["x-within"] == "7 of 7"
    assert facts["x-ordered-within"] == "0 of 7"
    assert facts["x-worst"].startswith("0.2 ± ")
    assert facts["x-price"] == "1.0"
    # A task without the ordered gates has none of their numbers.
    other = found(lambda r, s, b: 1.0 + r.mixed_snr, objectives, task="bluetooth")
    facts = state_facts(other)
    assert not any(name.startswith("ordered") for name in facts)
    assert facts["worst"] == "100 ± 0% worse"
