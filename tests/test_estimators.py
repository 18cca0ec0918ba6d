"""Classical estimators: exact without noise, at the bound with it, never beyond it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.estimators import (
    ESTIMATORS,
    directed,
    inverse_fft,
    known_shape_bound,
    model_order,
    multipath_bound,
    music,
    one_path_bound,
    one_way,
    phase_slope,
    smoothed_covariance,
)
from hvib.ranging import (
    BLUETOOTH,
    ONE_PATH,
    WIFI,
    Link,
    Measurements,
    Multipath,
    Paths,
    measure,
    response,
    simulate,
)

LINKS = pytest.mark.parametrize("link", [BLUETOOTH, WIFI], ids=lambda link: link.name)
METHODS = pytest.mark.parametrize("method", ESTIMATORS)
links = st.sampled_from([BLUETOOTH, WIFI])
seeds = st.integers(0, 2**31)


def given_paths(delay_ns: np.ndarray, size: list[float], seed: int = 0) -> Paths:
    """Paths of these sizes at each row of delays, phases and angles by chance."""
    rng = np.random.default_rng(seed)
    turn = np.exp(2j * np.pi * rng.random(delay_ns.shape))
    return Paths(delay_ns, np.array(size) * turn, rng.uniform(-0.8, 0.8, delay_ns.shape))


def measured(paths: Paths, link: Link, snr_db: float = math.inf, seed: int = 1) -> Measurements:
    h = measure(paths, link, snr_db, np.random.default_rng(seed))
    return Measurements(link, h, paths.delay_ns[:, 0], paths)


def estimate(method: str, m: Measurements) -> np.ndarray:
    return ESTIMATORS[method](directed(m), m.link.spacing_hz)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


@METHODS
@LINKS
def test_one_path_is_found_over_the_whole_range(method: str, link: Link) -> None:
    delay = np.linspace(0.005, 0.89, 150)[:, None] * link.unambiguous_ns
    m = measured(given_paths(delay, [1.0]), link)
    np.testing.assert_allclose(estimate(method, m), delay[:, 0], atol=3e-3)


@METHODS
@LINKS
@given(scale=st.floats(1e-3, 1e3), phase=st.floats(0, 6.3), delay=st.floats(5, 100))
@settings(max_examples=15)
def test_strength_and_phase_do_not_matter(
    method: str, link: Link, scale: float, phase: float, delay: float
) -> None:
    h = directed(measured(given_paths(np.array([[delay, delay + 30]]), [1, 0.5]), link))
    turned = scale * np.exp(1j * phase) * h
    one, other = (ESTIMATORS[method](x, link.spacing_hz) for x in (h, turned))
    np.testing.assert_allclose(one, other, atol=1e-5)


@LINKS
def test_two_resolved_paths(link: Link) -> None:
    delay = np.linspace(5, 90, 60)[:, None] + np.array([0, 70])
    m = measured(given_paths(delay, [0.7, 1.0]), link)
    np.testing.assert_allclose(estimate("inverse FFT", m), delay[:, 0], atol=5)
    np.testing.assert_allclose(estimate("MUSIC", m), delay[:, 0], atol=0.02)
    # The slope is drawn to the strong path.
    assert (estimate("phase slope", m) > delay[:, 0] + 10).all()


def test_music_separates_what_the_transform_does_not() -> None:
    """Half of 1/80 MHz apart."""
    delay = np.linspace(10, 90, 60)[:, None] + np.array([0, 6.0])
    m = measured(given_paths(delay, [1.0, 0.7]), BLUETOOTH, snr_db=60)
    assert rms(estimate("MUSIC", m) - delay[:, 0]) < 0.1
    assert rms(estimate("inverse FFT", m) - delay[:, 0]) > 0.5


@pytest.mark.parametrize("method", [inverse_fft, music])
def test_the_threshold_says_which_peak_is_a_path(method) -> None:  # type: ignore[no-untyped-def]
    delay = np.linspace(10, 40, 20)[:, None] + np.array([0, 100.0])
    paths = given_paths(delay, [10 ** (-5 / 20), 1.0])
    h = directed(measured(paths, BLUETOOTH, snr_db=50))
    for threshold_db, path in ((-7.0, 0), (-3.0, 1)):
        found = method(h, 1e6, threshold_db=threshold_db)
        np.testing.assert_allclose(found, delay[:, path], atol=2.5)


def test_the_root_of_a_product_is_one_way_but_for_its_sign() -> None:
    """The line of sight is stronger than all else: no fade is deep enough to lose track."""
    delay = np.linspace(1, 440, 100)[:, None] + np.array([0, 20.0])
    paths = given_paths(delay, [1.0, 0.6])
    truth = response(paths, BLUETOOTH)
    found = one_way(measured(paths, BLUETOOTH).response)
    sign = (found[:, :1] / truth[:, :1]).real.round()
    assert set(np.abs(sign).ravel()) == {1}
    np.testing.assert_allclose(found, sign * truth, atol=1e-4)
    one = measured(paths, WIFI)
    assert directed(one) is one.response


def test_smoothing_is_the_mean_over_windows_both_ways() -> None:
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2, 3, 9, 2)) @ [1, 1j]
    found = smoothed_covariance(h, 4)
    for one, covariance in zip(h, found, strict=True):
        windows = [antenna[i : i + 4] for antenna in one for i in range(6)]
        windows += [window[::-1].conj() for window in windows]
        expected = np.mean([np.outer(w, w.conj()) for w in windows], axis=0)
        np.testing.assert_allclose(covariance, expected, atol=1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_smoothing_restores_the_rank_and_length_finds_it(number: int) -> None:
    delay = np.arange(number) * 60.0 + np.linspace(5, 40, 30)[:, None]
    clean = response(given_paths(delay, [1.0] * number), BLUETOOTH).astype(complex)
    values = np.linalg.eigvalsh(smoothed_covariance(clean[:, None], 30))
    strength = values[:, ::-1] / values[:, -1:]
    assert (strength[:, number - 1] > 1e-4).all()
    assert (strength[:, number] < 1e-9).all()
    assert (model_order(values, 51) == number).all()
    noise = np.random.default_rng(0).standard_normal((*clean.shape, 2)) @ [1, 1j]
    noisy = np.linalg.eigvalsh(smoothed_covariance((clean + 0.03 * noise)[:, None], 30))
    assert np.median(model_order(noisy, 51)) == number


@given(seeds, st.integers(4, 12), st.integers(10, 100))
@settings(max_examples=25)
def test_the_order_minimises_the_description_length(seed: int, size: int, snapshots: int) -> None:
    values = np.sort(np.random.default_rng(seed).exponential(1, size) ** 4)

    def length(k: int) -> float:
        """Wax and Kailath's, the free parameters counted one by one (Xu, Roy, Kailath)."""
        rest = values[: size - k]
        ratio = np.exp(np.mean(np.log(rest))) / np.mean(rest)
        # k eigenvalues, and k orthonormal real vectors of `size` numbers.
        parameters = k + k * size - k * (k + 1) / 2
        return -snapshots * (size - k) * np.log(ratio) + 0.5 * parameters * np.log(snapshots)

    expected = min(range(size), key=length)
    assert model_order(values[None], snapshots).tolist() == [expected]


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


@LINKS
def test_on_the_default_scene_music_is_the_best(link: Link) -> None:
    """In metres; a classical baseline worth comparing with."""
    m = simulate(link, 800, 14)
    error = {name: 0.299792458 * np.abs(estimate(name, m) - m.delay_ns) for name in ESTIMATORS}
    median = {name: float(np.median(e)) for name, e in error.items()}
    assert median["MUSIC"] < 0.15
    assert max(median.values()) < 0.4
    assert min(error, key=lambda name: rms(error[name])) == "MUSIC"
    few = music(directed(m)[:5], link.spacing_hz, chunk=2)
    np.testing.assert_allclose(few, estimate("MUSIC", m)[:5])


@METHODS
def test_misuse_is_named(method: str) -> None:
    wrong = [np.ones(80), np.ones((2, 3)), np.full((2, 80), np.nan), np.ones((1, 2, 3, 80))]
    for h in wrong:
        with pytest.raises(ValueError, match=r"h = \(.*: give finite responses, \(N, tones\) or"):
            ESTIMATORS[method](h, 1e6)


@pytest.mark.parametrize("subarray", [0.0, 0.8, math.nan])
def test_a_subarray_that_is_none_is_named(subarray: float) -> None:
    with pytest.raises(ValueError, match=r"subarray = .*: give a share of the tones up to 2/3"):
        music(np.ones((1, 80)), 1e6, subarray=subarray)


def test_antennas_share_what_they_measure() -> None:
    """An antenna that hears nothing but the same path adds to it: less error with three."""
    m = simulate(WIFI, 2_000, 15, multipath=ONE_PATH, snr_db=15)
    three = rms(phase_slope(m.response, WIFI.spacing_hz) - m.delay_ns)
    one = rms(phase_slope(m.response[:, 0], WIFI.spacing_hz) - m.delay_ns)
    assert one / three == pytest.approx(math.sqrt(3), rel=0.1)
