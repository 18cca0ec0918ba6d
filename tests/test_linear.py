"""The linear case: (18) to (29) and Theorem 2, symbolically, against minimisers, and trained."""

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from hvib.theory.linear import (
    REGIMES,
    best_response,
    distortion_at_rate,
    explained_power,
    gain,
    gradient,
    joint_objective,
    joint_response,
    least_squares,
    objective,
    relevant_information,
    theorem1,
)
from hvib.theory.linear_systems import (
    examples,
    gaussian_data,
    theorem1_system,
)

β, σ, P, s, t, q, a = sp.symbols("beta sigma P s t q a", positive=True)


v = sp.symbols("v", real=True, nonzero=True)


d, N = sp.symbols("d N", integer=True, positive=True)


X, y = sp.MatrixSymbol("X", N, d), sp.MatrixSymbol("y", N, 1)


w, x = sp.MatrixSymbol("w", d, 1), sp.MatrixSymbol("x", d, 1)


G = v / (v**2 + β / 2)


def vanishes(expression: Any) -> bool:
    """Whether a matrix expression is identically zero."""
    return bool(
        sp.simplify(sp.expand(expression).doit()).doit() == sp.ZeroMatrix(*expression.shape)
    )


def cost() -> Any:
    """(22) as a 1 × 1 matrix expression."""
    e = y - v * X * w
    rest = v**2 * σ**2 + β / 2 * (σ**2 - 1 - sp.log(σ**2))
    return e.T * e / N + β / (2 * N) * (X * w).T * (X * w) + rest * sp.Identity(1)


def response(factor: Any) -> Any:
    return factor * (X.T * X).I * X.T * y


def hypernetwork(u1: Any, v1: Any, U: Any) -> Any:
    """W₂(β)W₁(β) with (26) to (28), for an orthogonal U and s as a column of the same size."""

    def gate(u: Any, c: Any) -> Any:
        return 1 / (1 + sp.exp(-(u * sp.log(β) + c)))

    size = U.shape[0]
    length = sp.MatrixSymbol("s", size, 1)
    first = sp.simplify(gate(u1, v1)) * sp.Identity(size) * U.T / v
    return gate(0, 0) * 2 * length.T * first, length


def test_gradient_and_stationarity_for_any_d_and_n() -> None:
    found = cost().diff(w)
    assert vanishes(found - (-2 * v / N * X.T * (y - v * X * w) + β / N * X.T * X * w))  # (23)
    assert vanishes(found.subs(w, response(G)))  # (24)
    assert not vanishes(found.subs(w, response(v / (v**2 + β))))
    assert not vanishes(found.subs(w, response(v**2 / (v**2 + β / 2))))
    hessian = sp.expand(found).diff(w)
    assert vanishes(hessian - (2 * v**2 + β) / N * X.T * X)


def test_the_gated_network_is_the_best_response_for_any_d() -> None:
    U = sp.MatrixSymbol("U", d, d)
    weights, length = hypernetwork(-1, sp.log(2 * v**2), U)
    assert vanishes(weights * x - (G * U * length).T * x)  # (29) = (24)
    for u1, v1 in ((-2, sp.log(2 * v**2)), (-1, sp.log(v**2)), (1, sp.log(2 * v**2))):
        wrong, _ = hypernetwork(u1, v1, U)
        assert not vanishes(wrong * x - (G * U * length).T * x)


def rotation(size: int) -> tuple[Any, Any]:
    """An orthogonal matrix whose first column is any direction, and its angles' length."""
    θ, ϕ = sp.symbols("theta phi", real=True)
    if size == 2:
        return sp.Matrix([[sp.cos(θ), -sp.sin(θ)], [sp.sin(θ), sp.cos(θ)]]), θ
    along = sp.Matrix([sp.sin(θ) * sp.cos(ϕ), sp.sin(θ) * sp.sin(ϕ), sp.cos(θ)])
    return sp.Matrix.hstack(along, along.diff(θ), along.diff(ϕ) / sp.sin(θ)), θ


@pytest.mark.parametrize("size", [2, 3])
def test_component_by_component(size: int) -> None:
    design = sp.Matrix(size + 1, size, sp.symbols(f"x:{size * (size + 1)}", real=True))
    target = sp.Matrix(sp.symbols(f"y:{size + 1}", real=True))
    weights = sp.Matrix(sp.symbols(f"w:{size}", real=True))
    error = target - v * design * weights
    sent = design * weights
    C = (error.dot(error) + β / 2 * sent.dot(sent)) / (size + 1)
    found = sp.Matrix([C.diff(part) for part in weights])
    claimed = (-2 * v * design.T * error + β * design.T * sent) / (size + 1)
    assert sp.expand(found - claimed) == sp.zeros(size, 1)  # (23)
    # (24), with XᵀX = A and Xᵀy = XᵀX c: any c, so any y's projection.
    solution = sp.Matrix(sp.symbols(f"c:{size}", real=True))
    at_best = claimed.subs(dict(zip(target, design * solution, strict=True)))
    at_best = at_best.subs(dict(zip(weights, G * solution, strict=True)))
    assert sp.simplify(at_best) == sp.zeros(size, 1)
    step = sp.Matrix(sp.symbols(f"h:{size}", real=True))
    curvature = (step.T * sp.hessian(C, list(weights)) * step)[0]
    square = (design * step).dot(design * step)
    assert sp.expand(curvature - (2 * v**2 + β) / (size + 1) * square) == 0  # convex
    U, _ = rotation(size)
    assert sp.simplify(U.T * U) == sp.eye(size)
    r = sp.symbols("r", positive=True)
    length = sp.Matrix([r] + [0] * (size - 1))
    gate = 2 * v**2 / (2 * v**2 + β)
    folded = sp.Rational(1, 2) * 2 * length.T * sp.diag(*[gate] * size) * U.T / v
    assert sp.simplify(folded - (G * U * length).T) == sp.zeros(1, size)  # (29)


def test_distortion_and_rate() -> None:
    e, ε, μ = sp.symbols("e epsilon mu", real=True)
    square = sp.Poly(sp.expand((e - v * ε) ** 2), ε)
    c2, c1, c0 = square.all_coeffs()
    assert sp.simplify(c2 * σ**2 + c0 - (e**2 + v**2 * σ**2)) == 0  # (19) to (20)
    assert c1 != 0  # multiplies E ε = 0
    z = sp.symbols("z", real=True)
    density = sp.exp(-((z - μ) ** 2) / (2 * σ**2)) / sp.sqrt(2 * sp.pi * σ**2)
    log_ratio = -sp.log(σ) - (z - μ) ** 2 / (2 * σ**2) + z**2 / 2
    divergence = sp.integrate(sp.expand(density * log_ratio), (z, -sp.oo, sp.oo))
    assert sp.simplify(divergence - (μ**2 + σ**2 - 1 - 2 * sp.log(σ)) / 2) == 0  # (21)


def reduced() -> Any:
    """D − D_min + βR in the direction of least squares, in (t, s, q = v²)."""
    return (1 - t) ** 2 * P + q * s + β / 2 * (t**2 * P / q + s - 1 - sp.log(s))


def test_theorem_2_symbolically() -> None:
    best_q = t * sp.sqrt(β * P / (2 * s))
    assert sp.simplify(reduced().diff(q).subs(q, best_q)) == 0
    assert reduced().diff(q, 2).is_positive
    F = (1 - t) ** 2 * P + t * sp.sqrt(2 * s * β * P) + β / 2 * (s - 1 - sp.log(s))
    assert sp.simplify(reduced().subs(q, best_q) - F) == 0
    best_t = 1 - sp.sqrt(s * β / (2 * P))
    assert sp.simplify(F.diff(t).subs(t, best_t)) == 0
    assert F.diff(t, 2) == 2 * P
    of_a = sp.expand_log(sp.simplify(F.subs(t, best_t)).subs(s, 2 * P * a**2 / β), force=True)
    assert sp.simplify(of_a.diff(a) - (2 * P - β / a)) == 0
    best_s = β / (2 * P)
    assert sp.simplify((2 * P * a**2 / β).subs(a, β / (2 * P)) - best_s) == 0
    values = {s: best_s, t: best_t.subs(s, best_s)}
    v2 = sp.simplify(best_q.subs(t, best_t).subs(s, best_s))
    assert sp.simplify(v2 - (P - β / 2)) == 0
    distortion = ((1 - t) ** 2 * P + q * s).subs(q, v2).subs(values)
    rate = ((t**2 * P / q + s - 1 - sp.log(s)) / 2).subs(q, v2).subs(values)
    assert sp.simplify(distortion - β / 2) == 0
    assert sp.simplify(sp.expand_log(rate - sp.log(2 * P / β) / 2, force=True)) == 0
    # Channel-limited: s = σ², and what the book says of D and of the received power.
    limited = {s: σ**2, t: best_t.subs(s, σ**2)}
    v2 = best_q.subs(t, best_t).subs(s, σ**2)
    distortion = ((1 - t) ** 2 * P + q * s).subs(q, v2).subs(limited)
    assert sp.simplify(distortion - σ * sp.sqrt(β * P / 2)) == 0
    power = (t**2 * P / q).subs(q, v2).subs(limited) + σ**2
    assert sp.simplify(power - σ * sp.sqrt(2 * P / β)) == 0
    # Continuity at both borders.
    assert sp.simplify(best_t.subs(s, σ**2).subs(β, 2 * P * σ**2) - (1 - σ**2)) == 0
    assert sp.simplify((1 - β / (2 * P)).subs(β, 2 * P * σ**2) - (1 - σ**2)) == 0
    assert (1 - β / (2 * P)).subs(β, 2 * P) == 0


Problem = tuple[np.ndarray, np.ndarray]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    d = draw(st.integers(1, 4))
    X = rng.standard_normal((draw(st.integers(d + 2, 40)), d)) * draw(st.floats(0.1, 10))
    y = X @ rng.standard_normal(d) + draw(st.floats(0, 2)) * rng.standard_normal(len(X))
    assume(np.linalg.cond(X) < 100)
    return X, y


betas = st.floats(-6, 3).map(lambda e: 10.0**e)


decoders = st.floats(0.05, 5).flatmap(lambda size: st.sampled_from([size, -size]))


@given(problems(), decoders, betas)
def test_best_response_is_a_numerical_minimiser_s(problem: Problem, v: float, beta: float) -> None:
    X, y = problem
    found = best_response(X, y, v, beta)
    size = np.linalg.norm(gradient(np.zeros(X.shape[1]), X, y, v, beta))
    assert np.linalg.norm(gradient(found, X, y, v, beta)) < 1e-9 * size
    numeric = minimize(
        objective,
        np.zeros(X.shape[1]),
        (X, y, v, beta, 0.01),
        jac=lambda w, *args: gradient(w, *args[:4]),
        method="BFGS",
        options={"gtol": 1e-9 * size},
    ).x
    assert np.linalg.norm(found - numeric) < 1e-4 * np.linalg.norm(found)


@given(problems(), decoders, betas)
def test_gradient_is_that_of_the_objective(problem: Problem, v: float, beta: float) -> None:
    X, y = problem
    w = np.linspace(-1, 1, X.shape[1])
    step = 1e-5 * np.eye(X.shape[1])
    numeric = [
        (objective(w + h, X, y, v, beta, 0.01) - objective(w - h, X, y, v, beta, 0.01)) / 2e-5
        for h in step
    ]
    scale = 1 + np.abs(numeric).max() + objective(w, X, y, v, beta, 0.01)
    np.testing.assert_allclose(gradient(w, X, y, v, beta), numeric, atol=1e-5 * scale)


@given(problems(), decoders, betas)
def test_theorem_1_s_network_is_the_best_response(problem: Problem, v: float, beta: float) -> None:
    X, y = problem
    every = np.array([1e-9, beta, 1e9])
    network = theorem1(X, y, v)
    np.testing.assert_allclose(
        network.response(every), best_response(X, y, v, every), rtol=1e-9, atol=1e-12
    )
    assert network.response(beta).shape == (X.shape[1],)


def theorem_2_numerically(X: np.ndarray, y: np.ndarray, beta: float, noise: float) -> Any:
    rng = np.random.default_rng(0)
    starts = rng.standard_normal((4, X.shape[1] + 2)) / np.sqrt(1 + np.mean(X**2))
    options = {"gtol": 1e-10, "maxiter": 5000}
    runs = [
        minimize(joint_objective, start, (X, y, beta, noise), jac=True, options=options)
        for start in starts
    ]
    return min(runs, key=lambda run: run.fun)


@settings(max_examples=40, deadline=None)
@given(
    problems(),
    st.floats(-4, 1.5).map(lambda e: 10.0**e),
    st.sampled_from([1e-3, 0.01, 0.3, 1.0, 2.0]),
)
def test_theorem_2_is_a_numerical_minimiser_s(problem: Problem, ratio: float, noise: float) -> None:
    X, y = problem
    scale = np.sqrt(explained_power(X, y))
    assume(scale > 1e-3)
    y = y / scale
    least = np.mean((y - X @ least_squares(X, y)) ** 2)
    expected = joint_response(1.0, 2 * ratio, noise)
    found = theorem_2_numerically(X, y, 2 * ratio, noise)
    assert found.fun - least == pytest.approx(expected.objective, rel=1e-4)
    w, v, theta = found.x[:-2], found.x[-2], found.x[-1]
    assert v * w @ least_squares(X, y) / np.sum(least_squares(X, y) ** 2) == pytest.approx(
        expected.gain, abs=2e-3
    )
    assert theta**2 + noise == pytest.approx(expected.received_variance, rel=2e-2)


@given(problems(), betas)
def test_joint_objective_s_gradient(problem: Problem, beta: float) -> None:
    X, y = problem
    point = np.linspace(0.3, 0.9, X.shape[1] + 2)
    _, slope = joint_objective(point, X, y, beta, 0.01)
    numeric = [
        (
            joint_objective(point + h, X, y, beta, 0.01)[0]
            - joint_objective(point - h, X, y, beta, 0.01)[0]
        )
        / 2e-5
        for h in 1e-5 * np.eye(len(point))
    ]
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-4 * (1 + np.abs(slope).max()))


def test_joint_response_s_parts_agree_and_its_regimes_join() -> None:
    power, noise = 3.0, 0.01
    beta = 2 * power * np.geomspace(1e-5, 1e3, 400)
    found = joint_response(power, beta, noise)
    assert list(dict.fromkeys(found.regime)) == list(REGIMES)
    for border in (2 * power * noise, 2 * power):
        pair = joint_response(power, border * np.array([1 - 1e-9, 1 + 1e-9]), noise)
        for part in pair[1:]:
            assert part[0] == pytest.approx(part[1], rel=1e-6, abs=1e-6)
    middle = found.regime == REGIMES[1]
    np.testing.assert_allclose(found.distortion[middle], beta[middle] / 2)
    np.testing.assert_allclose(found.rate[middle], 0.5 * np.log(2 * power / beta[middle]))
    np.testing.assert_allclose(found.decoder_power[middle], power - beta[middle] / 2)
    np.testing.assert_allclose((found.sent_power + found.received_variance)[middle], 1)
    on_curve = distortion_at_rate(power, found.rate)
    np.testing.assert_allclose(found.distortion[middle], on_curve[middle])
    assert (found.distortion >= on_curve * (1 - 1e-12)).all()
    last = found.regime == REGIMES[2]
    assert (found.rate[last] == 0).all()
    assert (found.distortion[last] == power).all()
    assert (np.diff(found.objective) > -1e-12).all()
    one = joint_response(power, 1.0, noise)
    assert one.gain.shape == ()
    assert (one.gain > 0) & (str(one.regime) == REGIMES[1])


@given(st.floats(1, 100), st.floats(0.01, 0.99), st.floats(0.01, 5), st.floats(0.01, 0.99))
def test_predicting_past_the_collapse_costs_at_least_what_the_book_says(
    ratio: float, gain: float, decoder: float, variance: float
) -> None:
    above = (1 - gain) ** 2 + decoder * variance  # P = 1
    rate = 0.5 * (gain**2 / decoder + variance - 1 - np.log(variance))
    assert rate >= 0.5 * np.log(1 / above) - 1e-12
    assume(above < 1)
    assert above + 2 * ratio * rate - 1 >= (ratio - 1) * (1 - above) - 1e-9


def test_information_bottleneck_curve_by_its_definition() -> None:
    """Through mutual informations of Gaussians, for feature T = aŷ + noise."""
    power, residual = 2.0, 0.7
    for noise in (0.01, 0.3, 4.0):
        into = 0.5 * np.log(1 + power / noise)
        squared = power**2 / ((power + residual) * (power + noise))
        expected = -0.5 * np.log(1 - squared)
        found = relevant_information(power / (power + residual), into)
        assert found == pytest.approx(expected)


X0, Y0 = examples(gaussian_data(20, np.array([1.0, -2.0]), 0.1, seed=0))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gain(0, 1), r"v = 0: give a finite v ≠ 0"),
        (lambda: gain(NAN, 1), "v = nan"),
        (lambda: gain(1, 0), "beta = 0: give a finite beta > 0"),
        (lambda: gain(1, -1), "beta = -1"),
        (lambda: gain(1, np.array([1, INF])), "beta = "),
        (lambda: gain(1, np.array([])), "beta = "),
        (lambda: best_response(X0[:, [0, 0]], Y0, 1, 1), r"rank\(X\) = 1: XᵀX is singular"),
        (lambda: best_response(X0[:1], Y0[:1], 1, 1), r"rank\(X\) = 1"),
        (lambda: theorem1(X0, Y0, 0), "v = 0"),
        (lambda: theorem1(0 * X0, Y0, 1), r"rank\(X\) = 0"),
        (lambda: theorem1(X0, Y0, 1).response(-1), "beta = -1"),
        (lambda: least_squares(X0[0], Y0), r"X.shape = \(2,\)"),
        (lambda: least_squares(X0, Y0[1:]), r"y.shape = \(19,\): give one target a row, \(20,\)"),
        (lambda: least_squares(np.where(X0 > 1, NAN, X0), Y0), r"X = \[nan\]: give finite"),
        (lambda: least_squares(X0, np.where(Y0 > 1, INF, Y0)), r"y = \[inf\]: give finite"),
        (lambda: joint_response(0, 1, 0.01), "power = 0"),
        (lambda: joint_response(1, 0, 0.01), "beta = 0"),
        (lambda: joint_response(1, 1, NAN), "noise_variance = nan"),
        (lambda: relevant_information(1, 1), "explained = 1"),
        (lambda: distortion_at_rate(-1, 1), "power = -1"),
        (lambda: gaussian_data(3, np.ones(2), 0.1, 0), "count = 3: give at least 4"),
        (lambda: theorem1_system(2, 0, 20, 0), "v = 0"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
