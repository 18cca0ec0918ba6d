"""Classical estimators: exact without noise, at the bound with it, never beyond it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.ranging.estimators import (
    ESTIMATORS,
    POSTERIOR,
    classical,
    directed,
    inverse_fft,
    model_order,
    music,
    phase_slope,
    smoothed_covariance,
)
from hvib.ranging.posterior import posterior_mean
from hvib.ranging.roots import one_way
from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    WIFI,
    Link,
    Measurements,
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
def test_on_the_default_scene_music_is_the_best(link: Link) -> None:
    """In metres; a classical baseline worth comparing with."""
    m = simulate(link, 800, 14)
    error = {name: 0.299792458 * np.abs(estimate(name, m) - m.delay_ns) for name in ESTIMATORS}
    median = {name: float(np.median(e)) for name, e in error.items()}
    assert rms(error["MUSIC"]) < {"bluetooth": 0.16, "wifi": 0.3}[link.name]
    assert rms(error["inverse FFT"]) < {"bluetooth": 0.4, "wifi": 0.6}[link.name]
    assert median["MUSIC"] < 0.15
    assert max(median.values()) < 0.4
    assert min(error, key=lambda name: rms(error[name])) == "MUSIC"
    few = music(directed(m)[:5], link.spacing_hz, chunk=2)
    np.testing.assert_allclose(few, estimate("MUSIC", m)[:5])


@METHODS
@LINKS
def test_noise_does_not_move_a_short_delay_to_the_end_of_the_range(method: str, link: Link) -> None:
    m = measured(given_paths(np.full((400, 1), 0.01), [1.0]), link, snr_db=10)
    found = estimate(method, m)
    assert np.abs(found).max() < 10
    assert 0.3 < (found < 0).mean() < 0.7


def test_weak_tones_say_less_about_the_slope() -> None:
    """Its variance is that of weighted regression, which no other weights reach."""
    rng = np.random.default_rng(0)
    strength = np.where(np.arange(60) < 20, 0.15, 1.0)  # at a wide end, which pulls hardest
    clean = strength * np.exp(-2j * np.pi * 0.02 * np.arange(60))
    h = clean + 0.03 * rng.standard_normal((4000, 60, 2)) @ [1, 1j]
    away = np.arange(60) - (strength**2 * np.arange(60)).sum() / (strength**2).sum()
    bound = 0.03 / (2 * np.pi * np.sqrt((strength**2 * away**2).sum()))  # cycles a tone
    found = phase_slope(h, 1e9)
    assert np.std(found) == pytest.approx(bound, rel=0.05)
    assert np.mean(found) == pytest.approx(0.02, abs=5 * bound / np.sqrt(4000))


def test_an_antenna_that_hears_nothing_has_no_say() -> None:
    m = simulate(WIFI, 20, 15, multipath=ONE_PATH)
    deaf = np.array(m.response)
    deaf[:, 1] = 0
    found = phase_slope(deaf, WIFI.spacing_hz)
    np.testing.assert_allclose(found, phase_slope(m.response[:, [0, 2]], WIFI.spacing_hz))
    with pytest.raises(ValueError, match="h = 'a response of zeros': leave it out"):
        phase_slope(0 * deaf, WIFI.spacing_hz)


def test_all_classical_estimators_are_applied() -> None:
    m = simulate(BLUETOOTH, 30, 15)
    found = classical(m)
    assert list(found) == [*ESTIMATORS, POSTERIOR]
    for name in ESTIMATORS:
        np.testing.assert_array_equal(found[name], estimate(name, m))
    np.testing.assert_array_equal(found[POSTERIOR], posterior_mean(m))


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
