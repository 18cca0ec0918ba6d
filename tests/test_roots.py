"""The root of a two-way product: its square is the product, and its signs are the channel's."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.book.ranging import known_root, signs_right
from hvib.ranging.roots import PRIORS, Prior, mean_turn, one_way, roots, tracked
from hvib.ranging.simulate import BLUETOOTH, Measurements, Multipath, Paths, measure, simulate

SEED = 14


def scene(snr_db: float = 20.0, **multipath: float) -> Measurements:
    return simulate(BLUETOOTH, 1000, SEED, snr_db=snr_db, multipath=Multipath(**multipath))


@given(st.integers(0, 2**31), st.sampled_from([(3, 80), (2, 3, 30), (4, 5), (2, 2)]))
@settings(max_examples=20, deadline=None)
def test_the_square_of_a_root_is_the_product(seed: int, shape: tuple[int, ...]) -> None:
    product = np.random.default_rng(seed).standard_normal((*shape, 2)) @ [1, 1j]
    for take in (one_way, tracked):
        root = take(product)
        assert root.shape == product.shape
        np.testing.assert_allclose(root**2, product, atol=1e-9)
    if len(shape) == 2:
        best = roots(product)
        np.testing.assert_allclose(best.response[:, 0] ** 2, product, atol=1e-9)
        assert (np.diff(best.surprise, axis=1) >= 0).all()


def test_a_silent_response_has_the_root_0() -> None:
    assert not one_way(np.zeros((2, 80), complex)).any()


@pytest.mark.parametrize(
    ("of", "least", "over_tracking"),
    [
        ({}, 0.995, 0.03),
        ({"snr_db": 40.0}, 0.999, 0.02),
        ({"snr_db": 10.0}, 0.94, 0.12),
        ({"snr_db": 5.0}, 0.77, 0.3),
        ({"obstructed": 1.0}, 0.88, 0.3),
        ({"decay_ns": 40.0}, 0.99, 0.05),
    ],
)
def test_signs_are_right_where_tracking_loses_them(
    of: dict[str, float], least: float, over_tracking: float
) -> None:
    m = scene(**of)
    snr = of.get("snr_db", 20.0)
    found = signs_right(m, one_way(m.response), snr).mean()
    assert found > least
    assert found > signs_right(m, tracked(m.response), snr).mean() + over_tracking


def test_a_wrong_sign_is_counted() -> None:
    m = scene()
    truth = known_root(m)
    np.testing.assert_allclose(truth**2, m.response, rtol=1e-5)
    assert signs_right(m, truth).all()
    assert signs_right(m, -truth).all()  # the sign of the whole is free
    truth[:, 40:] *= -1
    assert not signs_right(m, truth).any()
    weak = known_root(m)
    low = np.abs(weak).argmin(1)
    weak[np.arange(len(m)), low] *= -1
    assert 0 < signs_right(m, weak).mean() < 1  # tones below the noise do not count


@pytest.mark.parametrize("apart_ns", [20, 70, 150])
@pytest.mark.parametrize("size", [(1.0, 0.6), (0.7, 1.0), (1.0, 0.95)])
def test_paths_far_apart_are_no_exception(apart_ns: float, size: tuple[float, float]) -> None:
    """Though no channel of the ranging tasks spreads so far."""
    rng = np.random.default_rng(0)
    delay = rng.uniform(5, 300, (200, 1)) + np.array([0, apart_ns])
    gain = np.array(size) * np.exp(2j * np.pi * rng.random(delay.shape))
    paths = Paths(delay, gain, np.zeros(delay.shape))
    m = Measurements(BLUETOOTH, measure(paths, BLUETOOTH, 40, rng), delay[:, 0], paths)
    assert signs_right(m, one_way(m.response), 40).mean() > 0.95


def gaussian(h: np.ndarray, prior: Prior) -> float:
    """−log density of h, the covariance integrated numerically over the delays."""
    delay = np.linspace(-12, 60, 2_000_001)[:-1] + 36e-6 / 2
    density = (np.abs(delay) < 3**0.5) * 1.0 if prior.flat else (delay > -1) * np.exp(-delay - 1)
    density /= density.sum()
    lag = np.arange(len(h))
    wanted = [(density * np.exp(-2j * np.pi * prior.spread * k * delay)).sum() for k in lag]
    apart = lag[:, None] - lag
    whole = np.array(wanted)[np.abs(apart)]
    whole = np.where(apart >= 0, whole, whole.conj()) + prior.level * np.eye(len(h))
    return float((h.conj() @ np.linalg.solve(whole, h)).real + np.linalg.slogdet(whole)[1])


def test_the_order_of_roots_is_that_of_their_gaussian_densities() -> None:
    """Of five tones all sixteen choices of signs are kept."""
    m = simulate(BLUETOOTH, 6, SEED, snr_db=5)
    product = m.response[:, ::13][:, :5].astype(complex)  # rough, so that signs are in doubt
    steady = np.exp(-0.5j * mean_turn(product) * np.arange(5))
    found = roots(product, 16)
    assert found.response.shape == (6, 16, 5)
    for one, turn, surprise in zip(found.response, steady, found.surprise, strict=True):
        flat = one * turn / np.sqrt((np.abs(one[0]) ** 2).mean())
        signs = [np.sign((row * flat[0].conj()).real).astype(int) for row in flat]
        choices = {tuple(sign * sign[0]) for sign in signs}
        assert choices == {(1, *rest) for rest in itertools.product((1, -1), repeat=4)}
        best = {prior: gaussian(flat[0], prior) for prior in PRIORS}
        likeliest = min(best, key=lambda prior: best[prior])
        expected = [gaussian(row, likeliest) for row in flat]
        np.testing.assert_allclose(surprise, expected, atol=2e-3)
