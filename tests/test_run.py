"""Runs as values: grids, profiles, slugs."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvib.methods import method_of
from hvib.run import Run, beta_grid
from hvib.tasks import make_run


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
        (("emnist", "vib", "full"), "task = 'emnist': unknown; choose one of anchors, "),
        (("mnist", "vib", "fast"), "profile = 'fast': unknown; choose one of full, quick, smoke"),
    ],
)
def test_unknown_names_list_the_known(words: tuple[str, str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_run(*words)


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(ValueError, match="method = 'ib': unknown; choose one of flexible-vib, "):
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
