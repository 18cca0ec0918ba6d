"""Simulated channels: the physics, the seeds, and a reader's own measurements."""

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    SPEED_OF_LIGHT,
    WIFI,
    Link,
    Measurements,
    Multipath,
    Paths,
    draw_paths,
    examples,
    measure,
    response,
    simulate,
)

LINKS = pytest.mark.parametrize("link", [BLUETOOTH, WIFI], ids=lambda link: link.name)


links = st.sampled_from([BLUETOOTH, WIFI])


seeds = st.integers(0, 2**31)


def some_paths(count: int, paths: int, seed: int, longest_ns: float = 300.0) -> Paths:
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((count, paths, 2)) @ [1, 1j]
    sine = rng.uniform(-1, 1, (count, paths))
    return Paths(rng.uniform(0, longest_ns, (count, paths)), gain, sine)


def exact_response(paths: Paths, link: Link) -> np.ndarray:
    """The sum itself, antenna by antenna and tone by tone, in double precision."""
    turns = link.frequencies_hz[:, None] * 1e-9 * paths.delay_ns[:, None, None, :]
    antennas = np.arange(link.antennas)[:, None, None]
    turns = turns + link.steering * antennas * paths.sine[:, None, None, :]
    sum_ = (paths.gain[:, None, None, :] * np.exp(-2j * np.pi * turns)).sum(-1)
    return sum_.reshape(-1, *link.shape)


def test_the_links_are_the_ones_of_the_papers() -> None:
    assert BLUETOOTH.shape == (80,)
    assert BLUETOOTH.frequencies_hz[[0, 1, -1]].tolist() == [2.402e9, 2.403e9, 2.481e9]
    assert WIFI.shape == (3, 30)
    assert WIFI.frequencies_hz[-1] - WIFI.frequencies_hz[0] == 36.25e6
    assert WIFI.steering == pytest.approx(0.026 / (299792458 / 5.63e9))
    assert (BLUETOOTH.unambiguous_ns, WIFI.unambiguous_ns) == (500, 800)


@given(links, st.floats(0, 390), st.floats(0.01, 10), st.floats(0, 6.3), st.floats(-1, 1))
def test_one_path_turns_evenly_along_tones_and_antennas(
    link: Link, delay: float, size: float, phase: float, sine: float
) -> None:
    one = Paths(np.array([[delay]]), np.array([[size * np.exp(1j * phase)]]), np.array([[sine]]))
    h = response(one, link).reshape(link.antennas, link.tones)
    np.testing.assert_allclose(np.abs(h), size, rtol=2e-5)
    turn = np.angle(h[:, 1:] * h[:, :-1].conj())
    np.testing.assert_allclose(turn, -2 * np.pi * link.spacing_hz * delay * 1e-9, atol=1e-5)
    across = np.exp(-2j * np.pi * 0.026 * 5.63e9 / 299792458 * sine)
    np.testing.assert_allclose(h[1:], h[:-1] * across, atol=2e-5 * size)
    first = size * np.exp(1j * phase - 2j * np.pi * link.first_hz * delay * 1e-9)
    np.testing.assert_allclose(h[0, 0], first, atol=1e-5 * size)


@given(links, seeds, st.integers(1, 30))
@settings(max_examples=30)
def test_a_response_is_the_sum_over_its_paths(link: Link, seed: int, count: int) -> None:
    paths = some_paths(3, count, seed)
    found = response(paths, link)
    assert found.dtype == np.complex64
    assert found.shape == (3, *link.shape)
    tolerance = 2e-5 * np.abs(paths.gain).sum(1).max()
    np.testing.assert_allclose(found, exact_response(paths, link), atol=tolerance)


@LINKS
def test_parseval(link: Link) -> None:
    """Paths on the grid that the tones resolve: power over tones is the power of the gains."""
    rng = np.random.default_rng(0)
    bins = np.stack([rng.permutation(link.tones)[:5] for _ in range(20)])
    paths = some_paths(20, 5, 1)
    paths = Paths(bins / (link.tones * link.spacing_hz) * 1e9, paths.gain, paths.sine)
    power = (np.abs(response(paths, link)) ** 2).mean(-1)
    expected = (np.abs(paths.gain) ** 2).sum(1)
    expected = expected[:, None] if link.antennas > 1 else expected
    np.testing.assert_allclose(power, np.broadcast_to(expected, power.shape), rtol=1e-4)


def test_distances_and_the_first_path() -> None:
    scene = Multipath(min_distance_m=2, max_distance_m=12, k_factor_db=3)
    paths = draw_paths(scene, 20_000, np.random.default_rng(0))
    metres = paths.delay_ns[:, 0] * SPEED_OF_LIGHT
    assert 2 <= metres.min() < 2.01
    assert 11.99 < metres.max() <= 12
    assert metres.mean() == pytest.approx(7, abs=0.1)
    assert (paths.delay_ns >= paths.delay_ns[:, :1]).all()
    np.testing.assert_allclose(np.abs(paths.gain[:, 0]) ** 2, 10**0.3 / (1 + 10**0.3))
    assert abs(np.exp(1j * np.angle(paths.gain[:, 0])).mean()) < 0.03
    assert np.mean(paths.sine**2) == pytest.approx(0.5, abs=0.01)  # a uniform angle


def test_reflections_are_poisson_and_decay() -> None:
    scene = Multipath(k_factor_db=0, arrivals_per_ns=0.2, decay_ns=15, max_excess_ns=60)
    paths = draw_paths(scene, 50_000, np.random.default_rng(0))
    power = np.abs(paths.gain[:, 1:]) ** 2
    number = (power > 0).sum(1)
    assert number.mean() == pytest.approx(12, rel=0.01)
    assert number.var() == pytest.approx(12, rel=0.03)
    excess = (paths.delay_ns[:, 1:] - paths.delay_ns[:, :1])[power > 0]
    edges = np.linspace(0, 60, 13)
    arrivals, _ = np.histogram(excess, edges)
    np.testing.assert_allclose(arrivals / len(paths) / 5, 0.2, rtol=0.03)
    profile, _ = np.histogram(excess, edges, weights=power[power > 0])
    whole = math.exp(-edges[-1] / 15)
    expected = 0.5 * -np.diff(np.exp(-edges / 15)) / (1 - whole)
    np.testing.assert_allclose(profile / len(paths), expected, rtol=0.06)
    scaled = paths.gain[:, 1:][power > 0] / np.sqrt(scene.mean_power(excess))
    assert abs((scaled**2).mean()) < 0.01  # circular
    assert np.mean(np.abs(scaled) ** 4) == pytest.approx(2, rel=0.02)  # complex normal


@given(st.floats(-30, 30), st.floats(0.01, 1), st.floats(1, 100), st.floats(1, 300))
def test_all_paths_together_have_unit_mean_power(
    k: float, rate: float, decay: float, longest: float
) -> None:
    scene = Multipath(k_factor_db=k, arrivals_per_ns=rate, decay_ns=decay, max_excess_ns=longest)
    excess = (np.arange(20_000) + 0.5) * (longest / 20_000)
    reflected = rate * scene.mean_power(excess).mean() * longest
    assert scene.first_power + reflected == pytest.approx(1, rel=1e-4)
    assert scene.first_power / reflected == pytest.approx(10 ** (k / 10), rel=1e-4)


def test_the_envelope_of_a_tone_is_rician() -> None:
    """K from the moments of the envelope, with so many reflections that their sum is normal."""
    scene = Multipath(k_factor_db=5, arrivals_per_ns=3, max_excess_ns=80)
    paths = draw_paths(scene, 8_000, np.random.default_rng(0))
    power = np.abs(response(paths, BLUETOOTH)) ** 2
    np.testing.assert_allclose(power.mean(0), 1, atol=0.03)
    steady = np.sqrt(power.mean(0) ** 2 - power.var(0))
    k = np.mean(steady / (power.mean(0) - steady))
    assert 10 * math.log10(k) == pytest.approx(5, abs=0.25)


def test_an_obstructed_first_path_loses_its_power_alone() -> None:
    def drawn(share: float) -> Paths:
        scene = Multipath(obstructed=share, obstruction_db=12)
        return draw_paths(scene, 5_000, np.random.default_rng(0))

    free, some, all_ = (drawn(share) for share in (0, 0.3, 1))
    ratio = np.abs(some.gain[:, 0] / free.gain[:, 0]) ** 2
    lost = ratio < 0.5
    np.testing.assert_allclose(ratio, np.where(lost, 10**-1.2, 1))
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(np.abs(all_.gain[:, 0] / free.gain[:, 0]) ** 2, 10**-1.2)
    for other in (some, all_):
        assert np.array_equal(other.gain[:, 1:], free.gain[:, 1:])
        assert np.array_equal(other.delay_ns, free.delay_ns)
        assert (other.gain[:, 0] != 0).all()


@pytest.mark.parametrize(
    "scene", [ONE_PATH, Multipath(k_factor_db=math.inf)], ids=["no arrivals", "infinite K"]
)
def test_without_reflections_the_first_path_has_all_power(scene: Multipath) -> None:
    paths = draw_paths(scene, 50, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(paths.gain[:, 0]), 1)
    assert not paths.gain[:, 1:].any()
    h = simulate(BLUETOOTH, 50, 0, multipath=scene, snr_db=math.inf).response
    np.testing.assert_allclose(np.abs(h), 1, rtol=3e-5)


def test_one_way_noise_is_white_and_of_the_power_said() -> None:
    rng = np.random.default_rng(0)
    paths = draw_paths(Multipath(), 4_000, rng)
    noise = measure(paths, WIFI, 13.0, rng) - response(paths, WIFI)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(10**-1.3, rel=0.01)
    assert abs(np.mean(noise**2)) < 0.01 * 10**-1.3
    flat = noise.reshape(len(noise), -1)
    covariance = flat.T @ flat.conj() / len(flat) / 10**-1.3
    np.testing.assert_allclose(covariance, np.eye(90), atol=0.1)


def test_two_way_is_the_square_of_one_way_without_noise() -> None:
    rng = np.random.default_rng(0)
    paths = draw_paths(Multipath(), 200, rng)
    product = measure(paths, BLUETOOTH, math.inf, rng)  # other oscillator phases at each tone
    np.testing.assert_allclose(product, response(paths, BLUETOOTH) ** 2, atol=2e-5)


def test_two_way_noise_is_of_two_directions() -> None:
    """(H + n₁)(H + n₂) − H² has mean 0 and power 2|H|²σ² + σ⁴."""
    rng = np.random.default_rng(0)
    paths = Paths(np.full((5_000, 1), 30.0), np.full((5_000, 1), 2 + 0j), np.zeros((5_000, 1)))
    h = response(paths, BLUETOOTH)
    error = measure(paths, BLUETOOTH, 3.0, rng) - h**2
    variance = 10**-0.3
    assert np.mean(np.abs(error) ** 2) == pytest.approx(8 * variance + variance**2, rel=0.01)
    assert abs(error.mean()) < 0.01
    neighbours = np.mean(error[:, 1:] * error[:, :-1].conj()) / np.mean(np.abs(error) ** 2)
    assert abs(neighbours) < 0.01


def test_a_product_hides_the_sign_and_half_the_delays() -> None:
    """−H, and any delay and that delay plus 1/(2Δf), give one product, though not one response."""
    tau, gain, sine = np.array([[40.0, 75.0]]), np.array([[1, 0.4j]]), np.zeros((1, 2))
    here = Paths(tau, gain, sine)
    minus = Paths(tau, -gain, sine)
    later = Paths(tau + BLUETOOTH.unambiguous_ns, gain, sine)
    rng = np.random.default_rng(0)
    for other in (minus, later):
        one, two = (measure(p, BLUETOOTH, math.inf, rng) for p in (here, other))
        np.testing.assert_allclose(one, two, atol=5e-5)
        assert np.abs(response(here, BLUETOOTH) - response(other, BLUETOOTH)).max() > 1
    half = Paths(tau + BLUETOOTH.unambiguous_ns / 2, gain, sine)
    assert np.abs(response(half, BLUETOOTH) ** 2 - response(here, BLUETOOTH) ** 2).max() > 1
    late = Paths(tau + WIFI.unambiguous_ns, gain, sine)
    np.testing.assert_allclose(response(late, WIFI), response(here, WIFI), atol=5e-5)


@LINKS
def test_a_seed_determines_the_data_whatever_the_threads(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(threads: int, seed: int = 3) -> Measurements:
        monkeypatch.setattr(os, "cpu_count", lambda: threads)
        return simulate(link, 2_300, seed, snr_db=(0, 30))

    one, same, other = drawn(1), drawn(5), drawn(1, seed=4)
    assert one.paths is not None
    assert same.paths is not None
    assert one.response.shape == (2_300, *link.shape)
    for name in ("response", "delay_ns"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    for name in ("gain", "sine", "delay_ns"):
        assert np.array_equal(getattr(one.paths, name), getattr(same.paths, name))
    assert np.array_equal(one.delay_ns, one.paths.delay_ns[:, 0])
    everything = np.concatenate([one.delay_ns, other.delay_ns])
    assert len(np.unique(everything)) == len(everything)  # no stream is used twice


def test_recorded_runs_keep_their_data() -> None:
    """The simulated values themselves: whatever moves them makes every record stale."""
    h = simulate(BLUETOOTH, 1_500, 0).response[1_001, [0, 79]]
    np.testing.assert_allclose(h, BLUETOOTH_SEED_0, rtol=1e-4)
    w = simulate(WIFI, 1_500, 0).response[1_001, [0, 2], [0, 29]]
    np.testing.assert_allclose(w, WIFI_SEED_0, rtol=1e-4)


BLUETOOTH_SEED_0 = [(-0.771161 - 0.121553j), (-0.591114 + 0.172365j)]


WIFI_SEED_0 = [(1.000578 + 0.585871j), (1.052496 - 0.238587j)]


def test_snr_is_drawn_for_each_response() -> None:
    measured = simulate(WIFI, 2_000, 0, snr_db=(0.0, 30.0))
    assert measured.paths is not None
    noise = measured.response - response(measured.paths, WIFI)
    snr = -10 * np.log10((np.abs(noise) ** 2).mean((1, 2)))
    assert np.quantile(snr, [0.05, 0.5, 0.95]) == pytest.approx([1.5, 15, 28.5], abs=1)


@LINKS
def test_a_scene_is_simulated_as_it_is_measured(link: Link) -> None:
    clean = simulate(link, 30, 5, multipath=Multipath(k_factor_db=0), snr_db=math.inf)
    assert clean.paths is not None
    exact = exact_response(clean.paths, link) ** (2 if link.two_way else 1)
    np.testing.assert_allclose(clean.response, exact, atol=1e-4)
    part = clean[10:20]
    assert len(part) == 10
    assert part.paths is not None
    assert np.array_equal(part.response, clean.response[10:20])
    assert np.array_equal(part.paths.gain, clean.paths.gain[10:20])
    assert Measurements(link, clean.response, clean.delay_ns)[:3].paths is None


@LINKS
@given(seed=seeds, scale=st.floats(1e-9, 1e9))
@settings(max_examples=10)
def test_examples_have_unit_power_and_no_scale(link: Link, seed: int, scale: float) -> None:
    measured = simulate(link, 5, seed)
    split = examples(measured)
    assert split.x.shape == (5, 2, *link.shape)
    assert split.x.dtype == split.y.dtype == torch.float32
    over = tuple(range(1, split.x.ndim))
    torch.testing.assert_close(2 * split.x.square().mean(over), torch.ones(5))
    np.testing.assert_allclose(split.y[:, 0], measured.delay_ns, rtol=1e-6)
    value = split.x[0, 0] + 1j * split.x[0, 1]
    ratio = measured.response[0] / value.numpy()
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-4)
    scaled = Measurements(link, measured.response * np.float32(scale), measured.delay_ns)
    torch.testing.assert_close(examples(scaled).x, split.x)
    nothing = Measurements(link, 0 * measured.response, measured.delay_ns)
    assert not examples(nothing).x.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_distance_m": 0.0}, "min_distance_m = 0.0: give a finite value > 0"),
        ({"decay_ns": math.nan}, "decay_ns = nan: give a finite"),
        ({"max_excess_ns": math.inf}, "max_excess_ns = inf: give a finite"),
        ({"max_distance_m": 0.5}, "max_distance_m = 0.5: give at least min_distance_m = 1.0"),
        ({"max_distance_m": math.inf}, "max_distance_m = inf"),
        ({"k_factor_db": -math.inf}, "k_factor_db = -inf: give at least -100"),
        ({"k_factor_db": math.nan}, "k_factor_db = nan"),
        ({"arrivals_per_ns": -0.1}, "arrivals_per_ns = -0.1: give 0 or more"),
        ({"obstructed": 1.5}, "obstructed = 1.5: give a share between 0 and 1"),
        ({"obstruction_db": math.inf}, "obstruction_db = inf: give 0 to 100 dB"),
    ],
)
def test_an_impossible_channel_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Multipath(**values)


def test_misuse_of_the_simulator_is_named() -> None:
    with pytest.raises(ValueError, match="count = 0: give at least 1"):
        simulate(WIFI, 0, 0)
    with pytest.raises(ValueError, match="seed = -1: give 0 or more"):
        simulate(WIFI, 1, -1)
    for snr_db in (math.nan, -math.inf):
        with pytest.raises(ValueError, match=r"snr_db = .*give a number of dB, inf for no noise"):
            simulate(WIFI, 1, 0, snr_db=snr_db)
    for pair in ((30.0, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match=r"snr_db = .*give two dB, lower first"):
            simulate(WIFI, 1, 0, snr_db=pair)
