"""The minimum of the general linear case: against minimisers, constructed, and its steps alone."""

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from hvib.theory.linear import explained_power, joint_response
from hvib.theory.spectrum import (
    LinearSystem,
    general_response,
    idle_rate,
    joint_spectrum,
    joint_system,
    spectrum_objective,
    system_objective,
)

Problem = tuple[np.ndarray, np.ndarray]


def problem(seed: int, d: int, k: int, *, count: int = 40, noise: float = 0.5) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, d)) @ rng.standard_normal((d, d))
    B = rng.standard_normal((d, k)) / np.sqrt(d) * np.geomspace(1, 0.2, k)
    return X, X @ B + noise * rng.standard_normal((count, k))


def minimised(X: np.ndarray, Y: np.ndarray, beta: float, noise: float, n: int) -> float:
    """The lowest objective of many descents, half of them from random starts.

    The others start near the best so far: a descent may end at a saddle, where two features share
    an eigenvector or θ is 0, and a step aside leads away from it.
    """
    rng = np.random.default_rng(1)
    size = n * (X.shape[1] + Y.shape[1] + 1)
    options = {"maxiter": 20_000, "maxfun": 10**6, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 30}
    best, found = np.zeros(size), np.inf
    for trial in range(16):
        start = rng.standard_normal(size) * 0.5 if trial < 8 else best
        start = start + 0.1 * rng.standard_normal(size)
        problem = (X, Y, beta, noise, n)
        run = minimize(
            spectrum_objective, start, problem, jac=True, method="L-BFGS-B", options=options
        )
        if run.fun < found:
            best, found = run.x, run.fun
    return float(found)


SIZES = [(2, 2, 2), (3, 2, 5), (4, 4, 3), (6, 4, 1), (4, 1, 3), (5, 8, 8)]


@pytest.mark.parametrize(("d", "k", "n"), SIZES)
@pytest.mark.parametrize("noise", [1e-2, 0.3, 2.0])
def test_it_is_a_numerical_minimiser_s(d: int, k: int, n: int, noise: float) -> None:
    X, Y = problem(10 * d + k, d, k)
    data = joint_spectrum(X, Y)
    for ratio in (0.003, 0.1, 0.7):
        beta = 2 * ratio * data.eigenvalues[0]
        expected = general_response(data.eigenvalues, beta, noise, n).objective + data.residual
        found = minimised(X, Y, beta, noise, n)
        assert found == pytest.approx(expected, rel=1e-8)
        assert found > expected * (1 - 1e-10)


noises = st.sampled_from([1e-3, 0.1, 0.9, 1.0, 3.0])
betas = st.floats(-5, 2).map(lambda e: 10.0**e)
sizes = st.integers(1, 5)


@given(st.integers(0, 10**6), sizes, sizes, sizes, betas, noises)
def test_the_constructed_system_attains_it(
    seed: int, d: int, k: int, n: int, beta: float, noise: float
) -> None:
    X, Y = problem(seed, d, k)
    data = joint_spectrum(X, Y)
    system = joint_system(data, beta, noise, n)
    found = general_response(data.eigenvalues, beta, noise, n)
    value, slope = system_objective(system, X, Y, beta)
    assert value == pytest.approx(found.objective + data.residual, rel=1e-9)
    assert (system.received_variance >= noise).all()
    size = 1 + np.abs(X.T @ Y).max() / len(X)
    assert np.abs(slope.device).max() < 1e-8 * size
    assert np.abs(slope.network).max() < 1e-8 * size
    # s is at rest, or at the channel's noise with the objective rising from there.
    free = system.received_variance > noise
    assert np.abs(slope.received_variance[free]).max(initial=0) < 1e-8 * size
    assert slope.received_variance[~free].min(initial=0) > -1e-8 * size


@given(st.integers(0, 10**6), sizes, sizes, sizes, betas, noises)
def test_no_system_is_below_it(
    seed: int, d: int, k: int, n: int, beta: float, noise: float
) -> None:
    X, Y = problem(seed, d, k)
    data = joint_spectrum(X, Y)
    least = general_response(data.eigenvalues, beta, noise, n).objective + data.residual
    rng = np.random.default_rng(seed)
    near = joint_system(data, beta, noise, n)
    for size in (1e-3, 0.1, 1.0):
        moved = LinearSystem(
            near.device + size * rng.standard_normal(near.device.shape),
            np.maximum(near.received_variance * np.exp(size * rng.standard_normal(n)), noise),
            near.network + size * rng.standard_normal(near.network.shape),
        )
        assert system_objective(moved, X, Y, beta)[0] >= least * (1 - 1e-12)


@given(st.integers(0, 10**6), sizes, betas, noises)
def test_one_target_and_one_feature_are_theorem_2(
    seed: int, d: int, beta: float, noise: float
) -> None:
    X, Y = problem(seed, d, 1)
    data = joint_spectrum(X, Y[:, 0])
    assert data.eigenvalues == pytest.approx([explained_power(X, Y[:, 0])], rel=1e-9)
    expected = joint_response(data.eigenvalues[0], beta, noise)
    found = general_response(data.eigenvalues, beta, noise, 1)
    assert (found.distortion, found.rate, found.objective) == pytest.approx(
        (expected.distortion, expected.rate, expected.objective), rel=1e-12
    )
    assert found.features == (expected,)


def test_parallel_sources_are_its_case_of_y_equal_to_x() -> None:
    powers, noise = np.array([1.0, 0.3, 0.02]), 1e-3
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 3)))[0]
    X = Q * np.sqrt(50 * powers)
    data = joint_spectrum(X, X)
    np.testing.assert_allclose(data.eigenvalues, powers, rtol=1e-12)
    assert data.residual == pytest.approx(0, abs=1e-12)
    betas = np.geomspace(2 * noise * powers[0], 4, 60)
    found = general_response(powers[::-1], betas, noise, 7)
    filled = np.where(
        betas[:, None] < 2 * powers,
        betas[:, None] / 2 * (1 + np.log(2 * powers / betas[:, None])),
        powers,
    )
    np.testing.assert_allclose(found.objective, filled.sum(1), rtol=1e-12)
    assert found.open.tolist() == (betas[:, None] < 2 * powers).sum(1).tolist()


def test_too_few_features_leave_out_the_smallest_eigenvalues() -> None:
    powers = np.array([0.5, 2.0, 0.1])
    two, three = (general_response(powers, 0.05, 0.01, n) for n in (2, 3))
    assert two.objective - three.objective == pytest.approx(
        0.1 - joint_response(0.1, 0.05, 0.01).objective
    )
    assert two.features == three.features[:2]
    # Small β and little noise: what is left is reduced-rank regression, Eckart and Young's rest.
    X, Y = problem(3, 5, 4)
    data = joint_spectrum(X, Y)
    rest = general_response(data.eigenvalues, 1e-12, 1e-12, 2).objective
    assert rest == pytest.approx(data.eigenvalues[2:].sum(), rel=1e-6)


def test_a_feature_too_many_costs_only_below_0_db() -> None:
    powers = np.array([2.0, 0.5])
    for noise in (0.01, 1.0):
        assert idle_rate(noise) == 0
        few, many = (general_response(powers, 0.3, noise, n) for n in (2, 9))
        assert few.objective == many.objective
    few, many = (general_response(powers, 0.3, 4.0, n) for n in (2, 9))
    idle = 0.5 * (4 - 1 - np.log(4))
    assert idle_rate(4.0) == pytest.approx(idle)
    assert many.rate - few.rate == pytest.approx(7 * idle)
    assert many.objective - few.objective == pytest.approx(0.3 * 7 * idle)
    assert general_response(np.zeros(2), 0.3, 4.0, 2).objective == pytest.approx(0.3 * 2 * idle)


def test_spectrum_by_its_definition() -> None:
    X, Y = problem(5, 3, 4)
    X = np.concatenate([X, X[:, :1]], 1)  # singular: nothing is assumed of the rank
    data = joint_spectrum(X, Y)
    predicted = X @ np.linalg.pinv(X) @ Y
    np.testing.assert_allclose(
        data.eigenvalues, np.linalg.eigvalsh(predicted.T @ predicted / len(X))[::-1], atol=1e-10
    )
    np.testing.assert_allclose(data.axes.T @ data.axes, np.eye(4), atol=1e-12)
    assert data.residual == pytest.approx(((Y - predicted) ** 2).sum() / len(X))
    assert len(joint_spectrum(X[:2], Y[:2]).eigenvalues) == 4  # fewer examples than targets
    assert general_response(joint_spectrum(X, 0 * Y).eigenvalues, 0.1, 0.01, 4).objective < 1e-300


@given(st.integers(0, 10**6), betas, noises)
def test_its_gradient(seed: int, beta: float, noise: float) -> None:
    X, Y = problem(seed, 2, 3)
    point = np.random.default_rng(seed).standard_normal(3 * (2 + 3 + 1))
    _, slope = spectrum_objective(point, X, Y, beta, noise, 3)
    value = [
        spectrum_objective(point + h, X, Y, beta, noise, 3)[0]
        - spectrum_objective(point - h, X, Y, beta, noise, 3)[0]
        for h in 1e-5 * np.eye(len(point))
    ]
    np.testing.assert_allclose(
        slope, np.array(value) / 2e-5, rtol=1e-4, atol=1e-5 * (1 + np.abs(slope).max())
    )


# The lemma of the proof: a sum of n matrices of rank one and norms b_j has singular values with
# Σ φ(singular value) ≤ Σ φ(b_j) for every concave φ that rises from φ(0) = 0.


@given(st.integers(0, 10**6), sizes, sizes, st.integers(1, 8), st.floats(0.01, 5))
def test_singular_values_cost_no_more_than_the_parts(
    seed: int, d: int, k: int, n: int, level: float
) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, d)), rng.standard_normal((n, k))
    parts = left[:, :, None] * right[:, None, :] * rng.exponential(size=(n, 1, 1))
    norms = np.linalg.norm(parts, axis=(1, 2))
    values = np.linalg.svd(parts.sum(0), compute_uv=False)
    assert np.minimum(values, level).sum() <= np.minimum(norms, level).sum() + 1e-9
    for noise in (level / 5, 2.0):
        idle = price(0.0, 1.0, noise)
        of_values, of_parts = (sum(price(b, 1.0, noise) - idle for b in c) for c in (values, norms))
        assert of_values <= of_parts + 1e-9


def price(b: float, beta: float, noise: float) -> float:
    """φ(b), the least cost of a gain b: at the best s ≥ σ², by the root of the quadratic."""
    h = b / np.sqrt(2 * beta)
    s = max(noise, (np.sqrt(h * h + 1) - h) ** 2)
    return np.sqrt(2 * beta * s) * b + beta / 2 * (s - 1 - np.log(s))


@settings(max_examples=40)
@given(st.floats(0, 10), betas, noises)
def test_the_price_of_a_gain_is_the_least(b: float, beta: float, noise: float) -> None:
    def cost(log_s: float) -> float:
        s = np.exp(log_s)
        return float(np.sqrt(2 * beta * s) * b + beta / 2 * (s - 1 - log_s))

    low = np.log(noise)
    numeric = minimize_scalar(cost, (low, max(low, 0) + 1), options={"xtol": 1e-12})
    scan = min(cost(v) for v in np.linspace(low, max(low, 0) + 1, 2000))
    assert price(b, beta, noise) <= scan + 1e-12
    if numeric.x > low:
        assert price(b, beta, noise) == pytest.approx(numeric.fun, abs=1e-9)


def test_the_price_is_concave_and_gives_theorem_2() -> None:
    β, b, root = sp.symbols("beta b r", positive=True)  # root = √s
    cost = sp.sqrt(2 * β) * root * b + β / 2 * (root**2 - 1 - sp.log(root**2))
    h = b / sp.sqrt(2 * β)
    best = sp.sqrt(h**2 + 1) - h
    assert sp.simplify(cost.diff(root).subs(root, best)) == 0
    assert sp.simplify(cost.diff(root, 2) - β * (1 + 1 / root**2)) == 0  # convex in √s
    # The envelope theorem: φ′ = √(2βs*), which falls in b, so that φ is concave and rises.
    assert sp.simplify(best.diff(b) + best / sp.sqrt(b**2 + 2 * β)) == 0
    for power, beta, noise in (
        (3.0, 0.01, 0.01),
        (3.0, 1.0, 0.01),
        (3.0, 8.0, 0.1),
        (1.0, 0.5, 2.0),
    ):
        grid = np.linspace(0, np.sqrt(power), 200_001)
        h_of = grid / np.sqrt(2 * beta)
        s = np.maximum(noise, (np.sqrt(h_of**2 + 1) - h_of) ** 2)
        value = (np.sqrt(power) - grid) ** 2 + np.sqrt(2 * beta * s) * grid
        value += beta / 2 * (s - 1 - np.log(s))
        assert value.min() == pytest.approx(joint_response(power, beta, noise).objective, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: general_response(np.array([1.0, -1.0]), 1, 0.1, 1),
            "eigenvalues = .*eigenvalues ≥ 0",
        ),
        (lambda: general_response(np.array([]), 1, 0.1, 1), "eigenvalues"),
        (lambda: general_response(np.ones((2, 2)), 1, 0.1, 1), "eigenvalues"),
        (lambda: general_response(np.ones(2), 0, 0.1, 1), "beta = 0"),
        (lambda: general_response(np.ones(2), 1, -1, 1), "noise_variance = -1"),
        (lambda: general_response(np.ones(2), 1, 0.1, 0), "features = 0: give a whole number"),
        (lambda: general_response(np.ones(2), 1, 0.1, 1.5), "features = 1.5"),  # type: ignore[arg-type]
        (lambda: joint_spectrum(np.ones(3), np.ones(3)), r"X.shape = \(3,\)"),
        (lambda: joint_spectrum(np.ones((3, 1)), np.ones((2, 1))), r"Y.shape = \(2, 1\)"),
        (lambda: joint_spectrum(np.full((3, 1), np.nan), np.ones((3, 1))), r"X = \[nan\]"),
        (lambda: joint_spectrum(np.ones((3, 1)), np.full((3, 1), np.inf)), r"Y = \[inf\]"),
        (lambda: idle_rate(0), "noise_variance = 0"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
