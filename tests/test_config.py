"""Runs as values: grids, profiles, plans, slugs, notebook parameters."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvib.config import HYPER, PROFILES, Run, beta_grid, make_run, page, parameters, plan, studies
from hvib.train import method_of


def test_default_grid_is_every_half_decade_from_1e_minus_6_to_1() -> None:
    grid = beta_grid()
    assert len(grid) == 13
    assert grid[0] == 1e-6
    assert grid[-1] == 1.0
    for k, beta in enumerate(grid):
        assert beta == pytest.approx(10 ** (-6 + k / 2), rel=1e-5)


@given(st.floats(-9, 0), st.floats(0, 3))
def test_grid_covers_any_range_with_its_ends(low: float, decades: float) -> None:
    grid = beta_grid(10**low, 10 ** (low + decades))
    assert grid[0] == pytest.approx(10**low, rel=1e-5)
    assert grid[-1] == pytest.approx(10 ** (low + decades), rel=1e-5)
    assert all(a < b for a, b in itertools.pairwise(grid))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.0, 1.0), "beta_min = 0.0"),
        ((-1e-3, 1.0), "beta_min = -0.001"),
        ((math.nan, 1.0), "beta_min = nan"),
        ((1e-3, math.inf), "beta_max = inf"),
        ((1.0, 1e-6), "reversed"),
    ],
)
def test_bad_ranges_are_named(arguments: tuple[float, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        beta_grid(*arguments)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"betas": (0.0,)}, "betas = 0.0: give a finite β > 0"),
        ({"betas": (-1.0,)}, "betas = -1.0"),
        ({"betas": (math.nan,)}, "betas = nan"),
        ({"betas": (1.0, 1e-3)}, "ascending"),
        ({"betas": ()}, "at least one"),
        ({"snr_db": math.nan}, "snr_db = nan: give dB between"),
        ({"epochs": 0}, "epochs = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"precision": "float8"}, "precision = 'float8': unknown; choose one of auto"),
        ({"weight_decay": math.inf}, "weight_decay = inf: give a finite number"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_run("digits", "vib", **settings)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("emnist", "vib", "full"), "task = 'emnist': unknown; choose one of bluetooth, "),
        (("mnist", "vib", "fast"), "profile = 'fast': unknown; choose one of full, quick, smoke"),
    ],
)
def test_unknown_names_list_the_known(words: tuple[str, str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_run(*words)


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(ValueError, match="method = 'ib': unknown; choose one of hyper-vib, "):
        method_of(make_run("digits", "ib"))


def test_profile_settings_can_be_overridden() -> None:
    assert make_run("mnist", "vib", "full").epochs == 20
    assert make_run("mnist", "vib", "full", epochs=7).epochs == 7
    with pytest.raises(TypeError):
        make_run("mnist", "vib", "full", speed=7)


def test_slug_tells_runs_apart_and_ignores_fields_at_their_default() -> None:
    run = make_run("mnist", "vib", betas=(1e-3,))
    assert run.slug == "full-beta1.0e-03-epochs20-seed0-" + run.slug[-8:]
    for change in ({"snr_db": 10.0}, {"batch_size": 256}, {"betas": (1.001e-3,)}, {"seed": 1}):
        assert replace(run, **change).slug != run.slug
    # The digest is over fields that differ from their default: a field added later, with a
    # default that keeps the old behaviour, must leave the names of old records alone.
    assert replace(run, snr_db=20.0).slug == run.slug
    assert run.slug == "full-beta1.0e-03-epochs20-seed0-8f5637d8"


def test_run_survives_json() -> None:
    run = make_run("mnist", "hyper-vib", snr_db=7.5)
    assert Run.from_json(run.to_json()) == run
    older = run.to_json()
    del older["precision"]
    assert Run.from_json(older) == run


def test_plan_holds_what_a_page_compares() -> None:
    runs = plan("mnist", "full")
    vib = [r for r in runs if r.method == "vib"]
    hyper = [r for r in runs if r.method == "hyper-vib"]
    assert len(vib) == 13 * 5
    assert {r.epochs for r in vib} == {20}
    assert sorted(r.epochs for r in hyper) == [20] * 5 + [40] * 5
    ordered = [r for r in runs if r.method == "hyper-vib-ordered"]
    assert [replace(r, method="hyper-vib") for r in ordered] == hyper
    assert {r.method for r in runs} == {"vib", "vib-batched", "hyper-vib", "hyper-vib-ordered"}
    assert {r.method for r in plan("wifi", "full")} == {"vib", *HYPER}
    assert [r.seed for r in runs if r.method == "vib-batched"] == [0]
    assert len({r.slug for r in runs}) == len(runs)


def test_studies_of_a_ranging_page() -> None:
    found = studies("wifi", "full", seeds=(0, 1))
    assert {(r.method, r.epochs, r.seed) for r in found["epochs"]} == {
        ("vib", epochs, seed) for epochs in (5, 10, 20, 40) for seed in (0, 1)
    } | {("vib", 80, 0)}
    assert {r.betas for r in found["epochs"]} == {(1e-4,)}
    assert [(r.method, r.epochs) for r in found["a sixth"]] == [("hyper-vib-ordered", 13)] * 2
    assert [r.method for r in found["longest"]] == ["vib"] * 26 + ["hyper-vib-ordered"] * 2
    assert {(r.epochs, r.seed) for r in found["longest"]} == {(40, 0), (40, 1)}
    assert {r.seed for r in studies("wifi", seeds=(4, 3, 2, 1))["longest"]} == {4, 3, 2}
    parts = ("free", "free-opened", "ordered-unopened", "ordered")
    assert {(r.method, r.seed, r.precision) for r in found["parts"]} == {
        (f"hyper-vib-{part}", seed, "float32") for part in parts for seed in (0, 1)
    }
    assert {r.network for r in found["limited power"]} == {"wifi-power-limited"}
    limited = [r for r in found["limited power"] if r.method == "vib"]
    assert [r.betas for r in limited if r.seed == 0] == [(b,) for b in beta_grid()[::3]]
    assert [r.method for r in found["limited power"] if r not in limited] == ["hyper-vib"] * 2
    assert {r.network for r in found["convolutions"]} == {"wifi-convolutions"}
    assert [r.method for r in found["convolutions"]] == ["vib"] * 4 + ["hyper-vib-free"]
    assert [r.task for r in found["any SNR"]] == ["wifi-any-snr"]


def test_a_page_is_its_plan_and_its_studies_each_run_once() -> None:
    runs = page("wifi", "smoke", seeds=(3,))
    assert len(set(runs)) == len(runs)
    parts = plan("wifi", "smoke", seeds=(3,)), *studies("wifi", "smoke", seeds=(3,)).values()
    assert set(runs) == set().union(*parts)
    assert runs[: len(parts[0])] == parts[0]


def test_ranges_of_the_mnist_page() -> None:
    found = studies("mnist", seeds=(0, 1))
    once = [r for r in plan("mnist", seeds=(0, 1)) if (r.method, r.epochs) == (HYPER[-1], 20)]
    for name, betas in (
        ("two decades", (0.01, 0.0316228, 0.1, 0.316228, 1.0)),
        ("one decade", (0.1, 0.316228, 1.0)),
    ):
        assert [replace(r, betas=once[0].betas) for r in found[name]] == once
        assert {r.betas for r in found[name]} == {betas}
    assert [replace(r, epochs=20) for r in found["one decade, its share"]] == found["one decade"]
    assert {r.epochs for r in found["one decade, its share"]} == {3}
    assert [replace(r, precision="auto") for r in found["all, float32 products"]] == once
    assert all(studies("mnist", betas=(0.1,)).values())


def test_norms_of_the_cifar10_page() -> None:
    found = studies("cifar10", "full")["norms"]
    assert {(r.network, r.method) for r in found} == {
        (network, method)
        for network in ("", "cifar10-group-norm", "cifar10-no-norm")
        for method in ("vib", "hyper-vib")
    } | {("", "hyper-vib-before")}
    assert {(r.seed, r.epochs) for r in found} == {(seed, 13) for seed in range(3)}
    assert {r.betas for r in found if r.method == "vib"} == {(1e-4,)}
    own = {r for r in found if not r.network}
    assert {r.method for r in own - set(plan("cifar10"))} == {"hyper-vib-before"}


@pytest.mark.parametrize(("task", "epochs"), [("cifar10", 13), ("mnist", 20)])
def test_studies_of_classification(task: str, epochs: int) -> None:
    found = studies(task)
    assert {(r.method, r.seed, r.epochs) for r in found["steps"]} == {
        (method, seed, epochs) for method in HYPER[1:-1] for seed in range(5)
    }
    assert {(r.method, r.seed, r.epochs, r.betas) for r in found["twice"]} == {
        ("vib", seed, 2 * epochs, (beta,)) for seed in range(3) for beta in beta_grid()[::3]
    }


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
    found = parameters({**GOOD, "In": [], "_i": "text", "parameters": parameters})
    assert found.seeds == (0, 1)
    assert {run.snr_db for run in found.runs} == {10}
    assert {run.betas[0] for run in found.runs if run.method == "hyper-vib"} == {1e-4}
    assert parameters({**GOOD, "seeds": "3, 4"}).seeds == (3, 4)
    assert parameters({**GOOD, "seeds": "[7]"}).seeds == (7,)
    assert [parameters({**GOOD, "profile": name}).live for name in ("smoke", "full")] == [
        "smoke",
        "quick",
    ]
    assert {run.seed for run in parameters({**GOOD, "seeds": []}).runs} == {0}


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
        parameters({**GOOD, **change})


def test_a_page_names_its_data_sets() -> None:
    with pytest.raises(ValueError, match="dataset = 'digits': unknown; choose one of wifi"):
        parameters(GOOD, tasks=("wifi",))
    assert parameters(GOOD, tasks=("wifi", "digits")).dataset == "digits"


def test_equal_runs_of_other_kinds_of_numbers_are_one_run() -> None:
    plain = make_run("digits", "vib", betas=(1.0,), seed=2, snr_db=10.0)
    for betas in ([1], np.array([1.0]), torch.tensor([1])):
        other = make_run("digits", "vib", betas=betas, seed=np.int64(2), snr_db=np.float32(10))  # type: ignore[arg-type]
        assert (other, other.slug, other.to_json()) == (plain, plain.slug, plain.to_json())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("features", 16.0, "features = 16.0: give a whole number"),
        ("seed", "one", "seed = 'one': give a whole number"),
        ("seed", 2**63, "give a number below"),
        ("betas", 1e-3, "betas = 0.001: give several numbers"),
        ("snr_db", 5000, "snr_db = 5000.0: give dB between"),
        ("flip", "no", "flip = 'no': give True or False"),
        ("betas", "13", "betas = '13': give several numbers"),
        ("network", None, "network = None: give a name"),
    ],
)
def test_settings_of_the_wrong_kind_are_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_run("digits", "vib", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a/b", "../evil", ".hidden", "a\\b"])
def test_names_that_are_no_folder_s_are_refused(name: str) -> None:
    for field in ("task", "method", "profile"):
        run = make_run("digits", "vib", betas=(1e-3,))
        with pytest.raises(ValueError, match=f"{field} = .*: give a name that can be a folder's"):
            replace(run, **{field: name})  # type: ignore[arg-type]


def test_a_task_of_yours_has_no_batched_grid_in_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "mine", PROFILES["digits"])
    assert {r.method for r in plan("mine")} == {"vib", "hyper-vib", "hyper-vib-ordered"}


def test_missing_notebook_parameter_is_named() -> None:
    with pytest.raises(ValueError, match="fresh = None: missing"):
        parameters({k: v for k, v in GOOD.items() if k != "fresh"})
