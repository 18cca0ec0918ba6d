"""Bounds on estimators, against the Fisher matrix and against the estimators."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_estimators import LINKS, METHODS, estimate, given_paths, links, measured, rms, seeds

from hvib.ranging.bounds import known_shape_bound, multipath_bound, one_path_bound
from hvib.ranging.estimators import (
    directed,
)
from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    WIFI,
    Link,
    Multipath,
    Paths,
    simulate,
)


@LINKS
def test_the_phase_slope_reaches_the_one_path_bound(link: Link) -> None:
    """Two-way too: the product of both directions is one of half the noise."""
    delay = np.random.default_rng(0).uniform(5, 100, (20_000, 1))
    m = measured(given_paths(delay, [0.8]), link, snr_db=25)
    error = estimate("phase slope", m) - delay[:, 0]
    bound = one_path_bound(link, 25, power=0.64)
    assert rms(error) == pytest.approx(bound, rel=0.02)
    assert abs(error.mean()) < 0.03 * bound


def test_the_one_path_bound_in_metres() -> None:
    """By hand: σ_τ = 1/(2π B_rms √(2·SNR·K)), the mean square bandwidth of K even tones."""
    bandwidth = 1.25e6 * math.sqrt((30**2 - 1) / 12)
    expected = 1e9 / (2 * np.pi * bandwidth * math.sqrt(2 * 100 * 3 * 30))
    assert one_path_bound(WIFI, 20) == pytest.approx(expected)
    assert one_path_bound(WIFI, 40) == pytest.approx(expected / 10)
    assert one_path_bound(WIFI, 20, power=0.25) == pytest.approx(2 * expected)
    assert one_path_bound(WIFI, math.inf) == 0
    alike = Link(name="one way", first_hz=2.402e9, spacing_hz=1e6, tones=80)
    ratio = one_path_bound(alike, 20) / one_path_bound(BLUETOOTH, 20)
    assert ratio == pytest.approx(math.sqrt(2))


@given(links, st.floats(1, 300), st.floats(0.05, 3), st.floats(-1, 1), st.floats(0, 40))
def test_with_one_path_all_bounds_are_one(
    link: Link, delay: float, size: float, sine: float, snr_db: float
) -> None:
    empty = np.zeros((1, 2))  # paths of gain 0 are none, wherever they lie
    paths = Paths(
        np.array([[delay, 0, 50]]),
        np.concatenate([[[size * 1j]], empty], 1),
        np.concatenate([[[sine]], empty], 1),
    )
    expected = one_path_bound(link, snr_db, power=size**2)
    assert multipath_bound(paths, link, snr_db) == pytest.approx([expected], rel=1e-6)
    assert known_shape_bound(paths, link, snr_db) == pytest.approx([expected], rel=1e-4)


def fisher_bound(paths: Paths, link: Link, noise: float) -> float:
    """√[J⁻¹]₁₁ of one channel, its Fisher matrix by numeric differences and inverted."""
    number = paths.gain.shape[1]
    frequency = link.frequencies_hz[:, None] * 1e-9
    antennas = np.arange(link.antennas)[:, None, None]

    def mean(unknown: np.ndarray) -> np.ndarray:
        tau, re, im, sine = np.split(np.append(unknown, [0] * (4 * number - len(unknown))), 4)
        turns = frequency * tau + link.steering * antennas * sine
        return ((re + 1j * im) * np.exp(-2j * np.pi * turns)).sum(-1).ravel()

    gain = paths.gain[0]
    unknown = np.concatenate([paths.delay_ns[0], gain.real, gain.imag, paths.sine[0]])
    unknown = unknown[: len(unknown) if link.antennas > 1 else 3 * number]
    steps = 1e-5 * np.eye(len(unknown))
    columns = [(mean(unknown + s) - mean(unknown - s)) / 2e-5 for s in steps]
    G = np.stack(columns, 1)
    return float(np.sqrt(np.linalg.inv(2 / noise * (G.conj().T @ G).real)[0, 0]))


@given(links, seeds, st.integers(1, 4))
@settings(max_examples=25)
def test_the_multipath_bound_is_the_inverse_of_the_fisher_matrix(
    link: Link, seed: int, number: int
) -> None:
    rng = np.random.default_rng(seed)
    delay = rng.uniform(5, 30) + np.cumsum(rng.uniform(20, 60, (1, number)), 1)
    paths = given_paths(delay, rng.uniform(0.3, 1, number).tolist(), seed)
    noise = 0.01 / (2 if link.two_way else 1)
    expected = fisher_bound(paths, link, noise)
    assert multipath_bound(paths, link, 20) == pytest.approx([expected], rel=1e-4)


@LINKS
@pytest.mark.parametrize("obstructed", [0.0, 1.0])
def test_more_known_is_a_lower_bound(link: Link, obstructed: float) -> None:
    m = simulate(link, 300, 11, multipath=Multipath(obstructed=obstructed))
    assert m.paths is not None
    known = known_shape_bound(m.paths, link, 20)
    unknown = multipath_bound(m.paths, link, 20)
    assert (known <= unknown * (1 + 1e-5)).all()
    assert (unknown > 3 * known).mean() > 0.5  # unresolved reflections hide the first path
    single = [one_path_bound(link, 20, abs(gain) ** 2) for gain in m.paths.gain[:, 0]]
    assert (unknown >= np.array(single) * (1 - 1e-6)).all()
    for bound in (multipath_bound, known_shape_bound):
        np.testing.assert_allclose(bound(m.paths, link, 40) * 10, bound(m.paths, link, 20))


def test_a_bound_is_infinite_where_nothing_can_be_learned() -> None:
    rng = np.random.default_rng(0)
    many = given_paths(np.sort(rng.uniform(0, 500, (1, 60))), [1.0] * 60)  # 180 of 160 numbers
    assert multipath_bound(many, BLUETOOTH, 20).tolist() == [math.inf]
    none = Paths(np.array([[10.0, 80]]), np.array([[0, 1 + 0j]]), np.zeros((1, 2)))
    assert multipath_bound(none, BLUETOOTH, 20).tolist() == [math.inf]


@LINKS
def test_maximum_likelihood_reaches_the_multipath_bound(link: Link) -> None:
    """One Gauss–Newton step from the truth is the estimate, where noise is small."""
    repeats = 3_000
    row = np.array([[30.0, 42.0, 90.0]])
    paths = given_paths(row, [0.8, 0.3, 0.2], seed=4)
    same = Paths(*(np.repeat(p, repeats, 0) for p in (paths.delay_ns, paths.gain, paths.sine)))
    h = directed(measured(same, link, snr_db=45)).astype(complex)
    frequency = link.frequencies_hz[:, None] * 1e-9
    antennas = np.arange(link.antennas)[:, None, None]
    turns = frequency * row[0] + link.steering * antennas * paths.sine[0]
    one = np.exp(-2j * np.pi * turns).reshape(-1, 3)
    truth = one @ paths.gain[0]
    turned = -2j * np.pi * np.tile(frequency, (link.antennas, 1)) * one * paths.gain[0]
    across = -1j * np.repeat(antennas.ravel(), link.tones)[:, None] * one * paths.gain[0]
    G = np.concatenate([turned, one, 1j * one] + [across] * (link.antennas > 1), 1)
    h = h.reshape(repeats, -1)
    error = h * np.sign((h * truth.conj()).real.sum(1, keepdims=True)) - truth
    real = np.concatenate([error.real, error.imag], 1)
    step = np.linalg.pinv(np.concatenate([G.real, G.imag], 0))[0] @ real.T
    assert step.std() == pytest.approx(multipath_bound(paths, link, 45)[0], rel=0.05)


@METHODS
@LINKS
@pytest.mark.parametrize("snr_db", [5.0, 15.0])
def test_no_estimator_beats_the_one_path_bound(method: str, link: Link, snr_db: float) -> None:
    m = simulate(link, 1_500, 12, multipath=ONE_PATH, snr_db=snr_db)
    bound = one_path_bound(link, snr_db)
    assert rms(estimate(method, m) - m.delay_ns) > 0.95 * bound


@pytest.mark.parametrize("method", ["inverse FFT", "MUSIC"])
@LINKS
def test_no_estimator_beats_the_multipath_bound(method: str, link: Link) -> None:
    """Two paths that the tones resolve; MUSIC is near the bound."""
    delay = np.random.default_rng(0).uniform(10, 60, (1_500, 1)) + np.array([0, 60.0])
    m = measured(given_paths(delay, [1.0, 0.5]), link, snr_db=25)
    assert m.paths is not None
    bound = rms(multipath_bound(m.paths, link, 25))
    error = rms(estimate(method, m) - m.delay_ns)
    assert error > 0.95 * bound
    if method == "MUSIC":
        assert error < 1.6 * bound


@METHODS
@LINKS
@pytest.mark.parametrize("obstructed", [0.0, 1.0])
def test_no_estimator_beats_the_bound_of_a_known_shape(
    method: str, link: Link, obstructed: float
) -> None:
    m = simulate(link, 600, 13, multipath=Multipath(obstructed=obstructed))
    assert m.paths is not None
    assert rms(estimate(method, m) - m.delay_ns) > rms(known_shape_bound(m.paths, link, 20))
