"""Lower bounds on D + βR: as minima over the rate, and below every system that is computed."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.theory.information import Source, entropy
from hvib.theory.linear import joint_response
from hvib.theory.lower_bounds import (
    bayesian_floor,
    cross_entropy_bound,
    line_code,
    remote_shannon_bound,
    shannon_bound,
    uniform_entropy_power,
)

betas = st.floats(-5, 2).map(lambda e: 10.0**e)
powers = st.floats(-2, 3).map(lambda e: 10.0**e)
floors = st.floats(0, 3)
RATES = np.linspace(0, 12, 200_001)


@settings(max_examples=30)
@given(powers, betas, floors)
def test_each_bound_is_a_minimum_over_the_rate(N: float, beta: float, floor: float) -> None:
    shannon = N * np.exp(-2 * RATES)
    assert shannon_bound(N, beta, floor).objective == pytest.approx(
        (np.maximum(floor, shannon) + beta * RATES).min(), rel=1e-3, abs=1e-6
    )
    assert remote_shannon_bound(N, beta, floor).objective == pytest.approx(
        (floor + shannon + beta * RATES).min(), rel=1e-3, abs=1e-6
    )
    for found in (shannon_bound(N, beta, floor), remote_shannon_bound(N, beta, floor)):
        assert found.objective == pytest.approx(found.distortion + beta * found.rate)
        assert found.rate >= 0
    H = N / 100
    classes = cross_entropy_bound(H, beta, floor)
    assert classes.objective == pytest.approx(
        (np.maximum(floor, H - RATES) + beta * RATES).min(), rel=1e-3, abs=1e-4
    )
    assert classes.objective == pytest.approx(classes.distortion + beta * classes.rate)


def test_bounds_take_an_array_and_say_how_they_end() -> None:
    beta = np.array([0.01, 1.0, 100.0])
    found = shannon_bound(4.0, beta, 0.1)
    np.testing.assert_allclose(found.distortion, [0.1, 0.5, 4.0])
    np.testing.assert_allclose(found.rate, [0.5 * math.log(40), 0.5 * math.log(8), 0])
    found = cross_entropy_bound(2.0, beta, 0.5)
    np.testing.assert_allclose(found.objective, [0.5 + 0.01 * 1.5, 2, 2])


@given(powers, betas)
def test_the_linear_optimum_of_a_gaussian_meets_shannon_s_bound(P: float, beta: float) -> None:
    """A Gaussian's entropy power is its variance; without channel noise the bound is attained."""
    bound = shannon_bound(P, beta).objective
    assert joint_response(P, beta, 1e-12).objective == pytest.approx(bound, rel=1e-4)
    for noise in (0.01, 0.5, 2.0):
        assert joint_response(P, beta, noise).objective >= bound * (1 - 1e-12)
        # Of a uniform variable of the same variance, which the linear code serves as well.
        below = shannon_bound(uniform_entropy_power(math.sqrt(12 * P)), beta).objective
        assert joint_response(P, beta, noise).objective >= below


def test_entropy_power_of_a_uniform_variable() -> None:
    """By e^{2h} / 2πe, which is the variance of a Gaussian and less than that of any other."""
    assert uniform_entropy_power(3.0) == pytest.approx(
        math.exp(2 * math.log(3)) / (2 * math.pi * math.e)
    )
    assert uniform_entropy_power(3.0) < 9 / 12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), betas)
def test_no_code_of_classes_is_below_the_bound(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(0.3 * np.ones(3), 4)
    source = Source(
        rng.dirichlet(np.ones(4)), truth, 2 * rng.standard_normal(4), 0.01 + rng.random(4)
    )
    D, R = source.distortion(source.posterior), source.rate()
    known = float(source.p_x @ [entropy(row) for row in truth])  # H(Y|X)
    assert D + beta * R >= cross_entropy_bound(entropy(source.p_y), beta, known).objective - 1e-9


LENGTH = 20.0


@pytest.mark.parametrize("std", [0.05, 0.5, 5.0, 50.0])
def test_the_floor_is_below_the_best_estimator_s_error(std: float) -> None:
    """The exact error of E[τ | τ + noise] for uniform τ, by quadrature."""
    tau = np.linspace(0, LENGTH, 2001)
    tau = (tau[1:] + tau[:-1]) / 2
    seen = np.linspace(-8 * std, LENGTH + 8 * std, 4001)
    density = np.exp(-0.5 * ((seen[:, None] - tau) / std) ** 2)
    density /= density.sum(0)
    marginal = np.maximum(density.sum(1), 1e-300)
    best = (density @ tau) / marginal
    error = float(((best[:, None] - tau) ** 2 * density).sum() / len(tau))
    floor = bayesian_floor(np.full(3, std**2), LENGTH)
    assert floor <= error
    assert floor <= LENGTH**2 / 12
    if std < 0.1:
        assert floor > 0.9 * error
    assert bayesian_floor(np.array([std**2, 4 * std**2]), LENGTH) > floor


noises = st.sampled_from([1e-3, 0.01, 0.3, 1.0, 2.0])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), betas, noises, st.sampled_from([1.0, 0.9, 0.5]))
def test_a_line_code_is_a_system_above_the_bound(
    classes: int, beta: float, noise: float, right: float
) -> None:
    p = np.random.default_rng(classes).dirichlet(5 * np.ones(classes))
    truth = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(truth, right)
    code = line_code(p.tolist(), beta, noise, right)
    assert (code.variance >= noise * (1 - 1e-12)).all()
    source = Source(p, truth, code.mean, code.variance)
    assert source.distortion(source.posterior) == pytest.approx(code.distortion, abs=1e-6)
    assert source.rate() == pytest.approx(code.rate, abs=1e-9)
    assert code.objective == pytest.approx(code.distortion + beta * code.rate)
    assert float(p @ (truth * code.surprise).sum(1)) == pytest.approx(code.distortion)
    rest = float(p @ [entropy(row) for row in truth])
    H = entropy(p @ truth)
    assert code.objective >= cross_entropy_bound(H, beta, rest).objective - 1e-6
    assert code.objective <= H + beta * 0.5 * (max(noise, 1) - 1 - math.log(max(noise, 1))) + 1e-9


@pytest.mark.parametrize("beta", [1e-3, 0.1, 0.5])
def test_a_line_code_is_at_rest(beta: float) -> None:
    """Moving a mean or a variance, with the best network again, does not lower the objective."""
    p = np.full(5, 0.2)
    code = line_code(p.tolist(), beta, 0.01)
    for k in range(5):
        for step in (-1e-3, 1e-3):
            for mean, variance in (
                (code.mean + step * (np.arange(5) == k), code.variance),
                (code.mean, code.variance * np.exp(step * (np.arange(5) == k))),
            ):
                if variance.min() < 0.01:
                    continue
                moved = Source(p, np.eye(5), mean, variance)
                value = moved.distortion(moved.posterior) + beta * moved.rate()
                assert value >= code.objective - 2e-7


def test_a_line_code_collapses_where_a_nat_costs_more_than_it_brings() -> None:
    code = line_code([0.1] * 10, 1.0, 0.01)
    assert (code.rate, code.distortion) == pytest.approx((0, math.log(10)))
    assert line_code([0.1] * 10, 0.5, 0.01).objective < math.log(10) - 0.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: shannon_bound(0, 1), "entropy_power = 0"),
        (lambda: shannon_bound(1, 0), "beta = 0"),
        (lambda: shannon_bound(1, 1, -1), "floor = -1: give a distortion ≥ 0"),
        (lambda: remote_shannon_bound(1, 1, math.nan), "floor = nan"),
        (lambda: cross_entropy_bound(0, 1), "class_entropy = 0"),
        (lambda: cross_entropy_bound(1, 1, math.inf), "floor = inf"),
        (lambda: uniform_entropy_power(-2), "width = -2"),
        (lambda: bayesian_floor(np.array([1.0, 0.0]), 1), "variances = "),
        (lambda: bayesian_floor(np.ones(2), 0), "width = 0"),
        (lambda: line_code([1.0], 1, 0.01), "probabilities = "),
        (lambda: line_code([0.5, 0.5, 0.0], 1, 0.01), "probabilities = "),
        (lambda: line_code([0.5, 0.6], 1, 0.01), "p = "),
        (lambda: line_code([0.5, 0.5], 0, 0.01), "beta = 0"),
        (lambda: line_code([0.5, 0.5], 1, 0), "noise_variance = 0"),
        (lambda: line_code([0.5, 0.5], 1, 1, 0), "right = 0"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
