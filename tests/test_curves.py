"""Records as curves over β, by method and epochs."""

import pytest
from made_up import BETAS, error, fake, vib

from hvib.book.curves import (
    ORDERED,
    PAPER,
    VIB,
    Key,
    collect,
    curve_rows,
    curves_of,
    label_of,
    paper_tasks,
    select,
    study_curves,
    task_label,
    task_rows,
)
from hvib.book.statistics import (
    at_selected,
)
from hvib.tasks.task import ONE_RUN


def test_records_become_curves_by_method_epochs_and_seed() -> None:
    records = [fake("vib", s, vib, betas=(b,)) for b in reversed(BETAS) for s in (1, 0)]
    records += [fake("hyper-vib", 0, vib), fake("hyper-vib", 0, vib, twice=True)]
    curves = collect(records)
    assert list(curves) == [VIB, PAPER, ("hyper-vib", 2)]
    assert [label_of(key) for key in curves] == ["VIB", "Hyper-VIB", "Hyper-VIB, 2× epochs"]
    grid = curves[VIB][0]
    assert [c.seed for c in curves[VIB]] == [0, 1]
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
    assert curves[Key("vib-batched")][0].parameters == 1000


def test_beta_is_selected_on_validation_and_reported_on_test() -> None:
    record = fake("hyper-vib", 0, lambda beta: 0.9)
    for row in record.curve:
        if row["split"] == "validation" and row["beta"] in (1e-4, 1e-3):
            row["metric"] = 0.95
        if row["split"] == "test":
            row["metric"] = 0.99 if row["beta"] == 1e-6 else 0.91
    (curve,) = collect([record])[PAPER]
    assert curve.betas[curve.selected] == 1e-3  # the larger of a tie: fewer bits
    assert at_selected([curve]).mean == pytest.approx(0.91)


def test_the_smallest_error_is_selected() -> None:
    (curve,) = collect([fake("hyper-vib", 0, error, task="bluetooth")])[PAPER]
    assert curve.betas[curve.selected] == pytest.approx(3.16228e-3)  # the largest on a tie


def test_a_system_for_all_betas_is_told_from_one_of_a_grid() -> None:
    grids = ("vib", "vib-batched", "vib-warm")
    records = [fake(name, 0, vib, betas=(1e-3,)) for name in (*grids, *ONE_RUN, PAPER.method)]
    found = {key.method: group[0].for_all_betas for key, group in collect(records).items()}
    assert found == dict.fromkeys(grids, False) | dict.fromkeys((*ONE_RUN, PAPER.method), True)


def test_recorded_curves_are_those_of_a_task_s_page() -> None:
    assert paper_tasks() == ["mnist", "cifar10", "bluetooth", "wifi"]
    curves = curves_of("wifi")
    assert len(curves[VIB]) == 5
    assert {PAPER, ORDERED, Key("hyper-vib-ordered", 1.3)} <= set(curves)
    assert label_of(Key("hyper-vib-ordered", 1.3)) == "Hyper-VIB, ordered, 1.3× epochs"


def test_a_study_s_curves_are_found_by_their_epochs() -> None:
    curves = study_curves("wifi", "epochs")
    assert {key: len(group) for key, group in curves.items()} == {
        Key("vib", multiple): 3 if multiple < 8 else 1 for multiple in (0.5, 1, 2, 4, 8)
    }
    assert {tuple(curve.betas) for group in curves.values() for curve in group} == {(1e-4,)}


def test_selected_curves_are_in_the_order_asked_for_and_a_task_may_lack_one() -> None:
    both = collect([fake("vib", 0, vib, betas=(1e-3,)), fake("hyper-vib", 0, vib)])
    alone = collect([fake("vib", 1, vib, betas=(1e-3,)), fake("vib", 1, vib, twice=True)])
    found = select({"ink": both, "chalk": alone}, PAPER, VIB)
    assert {task: list(curves) for task, curves in found.items()} == {
        "ink": [PAPER, VIB],
        "chalk": [VIB],
    }
    assert found["chalk"][VIB] is alone[VIB]


def test_what_is_no_task_is_called_by_its_name() -> None:
    assert [task_label(task) for task in ("cifar10", "wifi", "ink")] == ["CIFAR-10", "WiFi", "ink"]
