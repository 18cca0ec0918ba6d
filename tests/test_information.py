"""Mutual informations by quadrature: known values, identities, the two bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from hvib.theory.information import Source, discrete_information, entropy

finite = st.floats(-4, 4)


def source(seed: int, k: int = 4, classes: int = 3) -> Source:
    g = np.random.default_rng(seed)
    return Source(
        g.dirichlet(np.ones(k)),
        g.dirichlet(np.ones(classes), size=k),
        g.normal(0, 2, k),
        g.uniform(0.01, 2, k),
    )


def binary(distance: float) -> Source:
    half = np.full(2, 0.5)
    return Source(half, np.eye(2), np.array([-distance, distance]), np.ones(2))


def test_entropy_of_a_fair_coin_and_of_certainty() -> None:
    assert entropy([0.5, 0.5]) == pytest.approx(math.log(2))
    assert entropy([1.0, 0.0]) == 0


def test_binary_input_through_gaussian_noise() -> None:
    """Against adaptive quadrature of ln 2 − E ln(1 + exp(−2a(a + n)))."""
    a = 0.8

    def integrand(n: float) -> float:
        return (
            math.exp(-n * n / 2) / math.sqrt(2 * math.pi) * math.log1p(math.exp(-2 * a * (a + n)))
        )

    lost, _ = integrate.quad(integrand, -12, 12, epsabs=1e-13)
    assert binary(a).information_x() == pytest.approx(math.log(2) - lost, abs=1e-11)


@pytest.mark.parametrize(("distance", "nats"), [(0.0, 0.0), (20.0, math.log(2))])
def test_ends_nothing_and_everything_gets_through(distance: float, nats: float) -> None:
    assert binary(distance).information_x() == pytest.approx(nats, abs=1e-9)
    assert binary(distance).information_y() == pytest.approx(nats, abs=1e-9)


def test_small_signals_carry_half_their_power() -> None:
    assert binary(0.01).information_x() == pytest.approx(0.5 * 0.01**2, rel=1e-3)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_both_bounds_hold_and_the_processing_inequality(seed: int) -> None:
    s = source(seed)
    y_of_x = discrete_information(s.p_x[:, None] * s.p_y_given_x)
    assert -1e-10 <= s.information_y() <= min(y_of_x, s.information_x()) + 1e-10
    assert s.information_x() <= min(s.rate(), s.rate(s.power()), entropy(s.p_x)) + 1e-10
    assert s.rate(s.power()) <= min(s.rate(), s.rate(0.9 * s.power()), s.rate(1.1 * s.power()))


@given(st.integers(0, 2**31), finite, finite)
@settings(max_examples=25, deadline=None)
def test_no_decoder_beats_the_posterior(seed: int, slope: float, offset: float) -> None:
    s = source(seed, classes=2)

    def logistic(z: np.ndarray) -> np.ndarray:
        one = 1 / (1 + np.exp(-(slope * z + offset)))
        return np.stack([1 - one, one], axis=1)

    assert s.distortion(logistic) >= s.distortion(s.posterior) - 1e-10


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_the_gap_of_the_rate_is_the_divergence_of_the_marginals(seed: int) -> None:
    s = source(seed)
    z = s.line()
    log_p = s.log_marginal(z)
    log_q = -0.5 * (z**2 + math.log(2 * math.pi))
    divergence = float((np.exp(log_p) * (log_p - log_q)).sum() * (z[1] - z[0]))
    assert s.rate() - s.information_x() == pytest.approx(divergence, abs=1e-9)


def test_misuse_is_named() -> None:
    half = np.full(2, 0.5)
    with pytest.raises(ValueError, match=r"p_x = .*sum to 1"):
        Source(np.ones(2), np.eye(2), half, half)
    with pytest.raises(ValueError, match="variance = "):
        Source(half, np.eye(2), half, 0 * half)
    with pytest.raises(ValueError, match="shapes = "):
        Source(half, np.eye(2), np.ones(3), half)
    with pytest.raises(ValueError, match="p = "):
        entropy([0.5, 0.6])
