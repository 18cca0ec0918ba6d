"""What a reader can vary in a notebook."""

import math
from typing import Any

import pytest

from hvib.book.parameters import read_parameters

GOOD: dict[str, Any] = {
    "dataset": "digits",
    "profile": "smoke",
    "seeds": [0, 1],
    "snr_db": 10,
    "beta_min": 1e-4,
    "beta_max": 1.0,
    "device": "cpu",
    "fresh": True,
}


def test_parameters_of_a_notebook() -> None:
    found = read_parameters({**GOOD, "In": [], "_i": "text", "read_parameters": read_parameters})
    assert found.seeds == (0, 1)
    assert {run.snr_db for run in found.runs} == {10}
    assert {run.betas[0] for run in found.runs if run.method == "hyper-vib"} == {1e-4}
    assert read_parameters({**GOOD, "seeds": "3, 4"}).seeds == (3, 4)
    assert read_parameters({**GOOD, "seeds": "[7]"}).seeds == (7,)
    assert [read_parameters({**GOOD, "profile": name}).live for name in ("smoke", "full")] == [
        "smoke",
        "quick",
    ]
    assert {run.seed for run in read_parameters({**GOOD, "seeds": []}).runs} == {0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"snr": 10}, "snr = 10: unknown parameter; choose among dataset"),
        ({"beta_min": "1e-4"}, "beta_min = '1e-4': give a number"),
        ({"beta_min": 2.0}, "reversed"),
        ({"beta_max": -1.0}, "beta_max = -1.0"),
        ({"snr_db": math.nan}, "snr_db = nan"),
        ({"seeds": "a"}, "seeds = "),
        ({"seeds": "0,1,0"}, r"seeds = \[0, 1, 0\]: name each once"),
        ({"seeds": "0,-1"}, r"seeds = \[0, -1\]: give 0 or more"),
        ({"dataset": "emnist"}, "task = 'emnist'"),
        ({"profile": "fast"}, "profile = 'fast'"),
        ({"device": "tpu"}, "device = 'tpu'"),
        ({"fresh": 1}, "fresh = 1: give True or False"),
    ],
)
def test_bad_notebook_parameters_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_parameters({**GOOD, **change})


def test_missing_notebook_parameter_is_named() -> None:
    with pytest.raises(ValueError, match="fresh = None: missing"):
        read_parameters({k: v for k, v in GOOD.items() if k != "fresh"})


def test_a_page_names_its_data_sets() -> None:
    with pytest.raises(ValueError, match="dataset = 'digits': unknown; choose one of wifi"):
        read_parameters(GOOD, tasks=("wifi",))
    assert read_parameters(GOOD, tasks=("wifi", "digits")).dataset == "digits"


def test_a_page_of_several_data_sets_reads_the_runs_of_each() -> None:
    both = {**GOOD, "dataset": "wifi, bluetooth"}
    found = read_parameters(both, tasks=("bluetooth", "wifi"), several=True)
    assert list(found.each) == ["wifi", "bluetooth"]
    for task, one in found.each.items():
        assert one.dataset == task
        assert {run.task for run in one.runs} == {task}
        assert {(run.profile, run.seed) for run in one.runs} == {("smoke", 0), ("smoke", 1)}
    assert list(read_parameters(GOOD, several=True).each) == ["digits"]


@pytest.mark.parametrize(
    ("dataset", "several", "says"),
    [
        ("wifi,bluetooth", False, "dataset = 'wifi,bluetooth': name one task"),
        ("wifi,wifi", True, "dataset = 'wifi,wifi': name each task once"),
        ("wifi,digits", True, "dataset = 'digits': unknown; choose one of"),
    ],
)
def test_bad_data_sets_of_a_page_of_several_are_named(
    dataset: str, several: bool, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        read_parameters({**GOOD, "dataset": dataset}, ("bluetooth", "wifi"), several=several)


def test_studies_have_the_settings_of_the_page() -> None:
    found = read_parameters({**GOOD, "dataset": "wifi"}).studies
    runs = found["limited power"] + found["longest"]
    assert {(run.snr_db, run.profile) for run in runs} == {(10, "smoke")}
    assert {run.seed for run in runs} == {0, 1}
    assert min(min(run.betas) for run in runs) == 1e-4
