"""Anchors that range one tag: the room, its seeds, what a network gets, and the bound."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvib.ranging.anchors import (
    HALL,
    Room,
    anchor_examples,
    at_distances,
    position_bound,
    simulate_anchors,
)
from hvib.ranging.bounds import known_shape_bound, one_path_bound
from hvib.ranging.estimators import directed, phase_slope
from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    SPEED_OF_LIGHT,
    WIFI,
    Multipath,
    draw_paths,
    examples,
    response,
)
from hvib.tasks import anchors
from hvib.tasks.task import Task

ROOM = HALL


def test_the_anchors_are_on_one_wall_and_the_tags_away_from_it() -> None:
    assert ROOM.places_m.tolist() == [[5, 0], [15, 0]]
    assert Room(anchors=4, length_m=8).places_m.tolist() == [[1, 0], [3, 0], [5, 0], [7, 0]]
    position = ROOM.draw(100_000, np.random.default_rng(0))
    mean, deviation = ROOM.moments_m
    assert (position.min(0) >= [0, 1]).all()
    assert (position.max(0) <= [20, 10]).all()
    np.testing.assert_allclose(position.mean(0), mean, atol=5 * deviation.max() / 300)
    np.testing.assert_allclose(position.std(0), deviation, rtol=0.01)
    np.testing.assert_allclose(mean, [10, 5.5])
    assert abs(np.corrcoef(position.T)[0, 1]) < 0.02


@given(st.integers(0, 10**6))
def test_two_distances_determine_the_position(seed: int) -> None:
    position = ROOM.draw(20, np.random.default_rng(seed))
    first, second = ROOM.distances_m(position).T
    (left, _), (right, _) = ROOM.places_m
    along = (first**2 - second**2 + right**2 - left**2) / (2 * (right - left))
    away = np.sqrt(first**2 - (along - left) ** 2)  # the other root is outside the room
    np.testing.assert_allclose(np.stack([along, away], 1), position, atol=1e-9)


def test_each_anchor_measures_its_own_channel_at_the_tag_s_distance() -> None:
    scene = simulate_anchors(ROOM, 1_500, 3)
    assert len(scene) == 1_500
    assert len(scene.measured) == 2
    distance = ROOM.distances_m(scene.position_m)
    for one, expected in zip(scene.measured, distance.T, strict=True):
        assert one.response.shape == (1_500, 80)
        np.testing.assert_allclose(one.delay_ns * SPEED_OF_LIGHT, expected, rtol=1e-12)
        assert one.paths
        np.testing.assert_array_equal(one.paths.delay_ns[:, 0], one.delay_ns)
        assert (one.paths.delay_ns[one.paths.gain != 0] >= one.delay_ns.min()).all()
    # Their reflections are independent, and so are their noises.
    powers = [np.mean(np.abs(one.response), 1) for one in scene.measured]
    assert abs(np.corrcoef(powers)[0, 1]) < 0.1
    phases = [np.angle(one.response[:, 0]) for one in scene.measured]
    assert abs(np.mean(np.exp(1j * (phases[0] - phases[1])))) < 0.1


def test_the_channels_are_those_of_the_ranging_tasks_moved() -> None:
    multipath = Multipath()
    paths = draw_paths(multipath, 200, np.random.default_rng(0))
    distance = np.linspace(2, 9, 200)
    moved = at_distances(paths, distance)
    np.testing.assert_allclose(moved.delay_ns[:, 0] * SPEED_OF_LIGHT, distance)
    excess = [p.delay_ns - p.delay_ns[:, :1] for p in (paths, moved)]
    np.testing.assert_allclose(excess[0], excess[1], atol=1e-10)
    np.testing.assert_array_equal(moved.gain, paths.gain)
    same = at_distances(paths, paths.delay_ns[:, 0] * SPEED_OF_LIGHT)
    np.testing.assert_allclose(response(same, BLUETOOTH), response(paths, BLUETOOTH), atol=1e-4)
    scene = simulate_anchors(ROOM, 2_000, 0, snr_db=math.inf)
    mean = np.mean([np.abs(one.response) for one in scene.measured])  # |H²|, of mean power 1
    assert mean == pytest.approx(1, abs=0.05)


def test_without_reflections_the_phase_tells_the_distance() -> None:
    scene = simulate_anchors(ROOM, 300, 1, multipath=ONE_PATH, snr_db=40.0)
    for one, distance in zip(scene.measured, ROOM.distances_m(scene.position_m).T, strict=True):
        found = phase_slope(directed(one), BLUETOOTH.spacing_hz) * SPEED_OF_LIGHT
        assert found == pytest.approx(distance, abs=0.02)


def test_a_seed_determines_the_scene_and_parts_it_from_others() -> None:
    first, again, other = (simulate_anchors(ROOM, 1_100, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.position_m, again.position_m)
    for j in range(2):
        np.testing.assert_array_equal(first.measured[j].response, again.measured[j].response)
    values = np.concatenate([s.position_m[:, 0] for s in (first, other)])
    assert len(np.unique(values)) == 2_200
    # Chunks have streams of their own, so a longer simulation begins with the same ones.
    longer = simulate_anchors(ROOM, 1_000, 5)
    np.testing.assert_array_equal(longer.position_m, first.position_m[:1_000])
    np.testing.assert_array_equal(longer.measured[1].response, first.measured[1].response[:1_000])
    # A further anchor changes the places of the others, but not where the tags are.
    three = simulate_anchors(Room(anchors=3), 1_100, 5)
    np.testing.assert_array_equal(three.position_m, first.position_m)


def test_what_a_network_gets() -> None:
    scene = simulate_anchors(Room(anchors=3), 50, 0)
    split = anchor_examples(scene)
    assert (split.x.shape, split.y.shape) == ((50, 3, 2, 80), (50, 2))
    assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(split.y.numpy(), scene.position_m, rtol=1e-6)
    for j, one in enumerate(scene.measured):
        torch.testing.assert_close(split.x[:, j], examples(one).x, rtol=0, atol=0)
    power = split.x.square().sum(2).mean(-1)
    torch.testing.assert_close(power, torch.ones(50, 3))
    wifi = anchor_examples(simulate_anchors(ROOM, 4, 0, link=WIFI))
    assert wifi.x.shape == (4, 2, 2, 3, 30)


def test_the_task_s_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "TRAIN", 300)
    monkeypatch.setattr(anchors, "HELD_OUT", 100)
    data = anchors.dataset()().checked
    assert [len(split) for split in data.splits] == [300, 100, 100]
    assert data.md5 == anchors.dataset()().md5
    assert data.md5 != anchors.dataset(snr_db=10.0)().md5
    joined = torch.cat([split.y[:, 0] for split in data.splits])
    assert len(joined.unique()) == 500  # no tag is in two splits
    metric = anchors.SQUARED_POSITION_ERROR
    assert (metric.unit, metric.relative, metric.of_classes) == ("m²", True, False)
    task = Task(
        name="t", label="t", metric=metric, load=anchors.dataset(), networks={}, profiles={}
    )
    assert task.checked(data) is data


def test_the_bound_of_two_anchors_is_the_closed_form() -> None:
    position = ROOM.draw(500, np.random.default_rng(0))
    deviation = np.random.default_rng(1).uniform(0.01, 0.1, (500, 2))
    away = position[:, None] - ROOM.places_m
    unit = away / np.linalg.norm(away, axis=-1, keepdims=True)
    sine = unit[:, 0, 0] * unit[:, 1, 1] - unit[:, 0, 1] * unit[:, 1, 0]
    expected = (deviation**2).sum(1) / sine**2
    np.testing.assert_allclose(position_bound(ROOM, position, deviation), expected, rtol=1e-9)


def test_the_bound_of_many_anchors_is_the_trace_of_the_inverse() -> None:
    room = Room(anchors=5)
    position = room.draw(50, np.random.default_rng(0))
    deviation = np.random.default_rng(1).uniform(0.01, 0.1, (50, 5))
    found = position_bound(room, position, deviation)
    for place, sigma, value in zip(position, deviation, found, strict=True):
        away = place - room.places_m
        unit = away / np.linalg.norm(away, axis=1, keepdims=True)
        information = (unit / sigma[:, None] ** 2).T @ unit
        assert value == pytest.approx(np.trace(np.linalg.inv(information)), rel=1e-9)
    # A tag on the anchors' line is seen from the same direction by all.
    assert np.isinf(position_bound(room, np.array([[20.0, 0.0]]), 0.1)).all()
    assert np.isinf(position_bound(room, np.array([[9.3, 0.0]]), 0.1)).all()


def test_least_squares_meets_the_bound_where_noise_is_small() -> None:
    rng = np.random.default_rng(0)
    place, sigma = np.array([12.0, 4.0]), 0.01
    measured = ROOM.distances_m(place[None]) + sigma * rng.standard_normal((20_000, 2))
    (left, _), (right, _) = ROOM.places_m
    along = (measured[:, 0] ** 2 - measured[:, 1] ** 2 + right**2 - left**2) / (2 * (right - left))
    away = np.sqrt(measured[:, 0] ** 2 - (along - left) ** 2)
    error = np.mean((along - place[0]) ** 2 + (away - place[1]) ** 2)
    assert error == pytest.approx(position_bound(ROOM, place[None], sigma)[0], rel=0.03)


def test_the_bounds_of_the_channels_give_one_of_the_position() -> None:
    scene = simulate_anchors(ROOM, 400, 0, multipath=ONE_PATH)
    deviations = np.stack(
        [
            SPEED_OF_LIGHT * known_shape_bound(one.paths, BLUETOOTH, 20.0)
            for one in scene.measured
            if one.paths
        ],
        1,
    )
    sigma = SPEED_OF_LIGHT * one_path_bound(BLUETOOTH, 20.0)
    np.testing.assert_allclose(deviations, sigma, rtol=1e-3)
    found = position_bound(ROOM, scene.position_m, deviations)
    np.testing.assert_allclose(found, position_bound(ROOM, scene.position_m, sigma), rtol=1e-2)
    assert (found >= 2 * sigma**2 * 0.99).all()  # at right angles it is least


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Room(length_m=0), "length_m = 0"),
        (lambda: Room(width_m=math.inf), "width_m = inf: give a finite number of metres"),
        (lambda: Room(clearance_m=10), "clearance_m = 10: give less than width_m"),
        (lambda: Room(anchors=1), "anchors = 1: give at least 2"),
        (lambda: Room(anchors=2.5), "anchors = 2.5: give a whole number"),  # type: ignore[arg-type]
        (lambda: simulate_anchors(ROOM, 0, 0), "count = 0"),
        (lambda: simulate_anchors(ROOM, 5, -1), "seed = -1"),
        (lambda: simulate_anchors(ROOM, 5, 0, snr_db=math.nan), "snr_db = nan"),
        (lambda: position_bound(ROOM, np.ones((3, 2)), 0.0), "deviation_m = 0.0"),
        (lambda: position_bound(ROOM, np.ones((3, 2)), np.ones(2)), r"deviation_m.shape = \(2,\)"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
