"""Several devices, linear and Gaussian: against minimisers, a certified bound, and symbolically."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from hvib.theory.distributed import (
    Sources,
    descend,
    distributed_objective,
    distributed_response,
    is_convex,
    lost,
    noisy_views,
    pair_candidates,
    price,
    shrunk,
    sources,
    system_of,
)
from hvib.theory.distributed_bound import certified_bound
from hvib.theory.linear import joint_response
from hvib.theory.spectrum import idle_rate


def drawn(seed: int, sizes: tuple[int, ...], alike: float = 0.0) -> Sources:
    """Random sources; `alike` is how much of every observation is common."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((1 + sum(sizes),) * 2)
    mixing[1:] += alike * rng.standard_normal(1 + sum(sizes))
    return sources(mixing @ mixing.T, sizes)


def settings_of(seed: int, J: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    return 10 ** rng.uniform(-3, 0.7, J), 10 ** rng.uniform(-3, 0.5, J)


def minimised(data: Sources, betas: np.ndarray, noise: np.ndarray, trials: int = 24) -> float:
    """The lowest objective of descents from random starts over w, v and θ."""
    rng = np.random.default_rng(0)
    size = len(data.cross) + 2 * data.devices
    options = {"maxiter": 20_000, "maxfun": 10**6, "ftol": 1e-16, "gtol": 1e-11}
    starts = rng.standard_normal((trials, size)) * rng.choice([0.1, 0.5, 1.5], (trials, 1))
    runs = [
        minimize(
            distributed_objective,
            start,
            (data, betas, noise),
            jac=True,
            method="L-BFGS-B",
            options=options,
        )
        for start in starts
    ]
    return min(float(run.fun) for run in runs)


SIZES = [(1, 1), (2, 3), (1, 1, 1), (2, 1, 3)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("alike", [0.0, 3.0])
def test_it_is_a_numerical_minimiser_s(sizes: tuple[int, ...], alike: float) -> None:
    for seed in range(4):
        data = drawn(seed, sizes, alike)
        betas, noise = settings_of(seed, len(sizes))
        expected = distributed_response(data, betas, noise).objective
        assert minimised(data, betas, noise) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.sampled_from([0.0, 2.0]))
def test_a_certified_bound_is_just_below_it(seed: int, J: int, alike: float) -> None:
    data, (betas, noise) = drawn(seed, (1,) * J, alike), settings_of(seed, J)
    # Views that are hardly distinct need more boxes than are looked at.
    assume(np.linalg.eigvalsh(data.correlation)[0] > 0.03)
    found = distributed_response(data, betas, noise)
    bound = certified_bound(data, betas, noise, 1e-5)
    assert found.objective - 1e-5 * data.power <= bound <= found.objective


@pytest.mark.parametrize("alike", [0.0, 3.0])
def test_no_system_is_below_the_pair_s(alike: float) -> None:
    for seed in range(30):
        data, (betas, noise) = drawn(seed, (1, 1), alike), settings_of(seed, 2)
        found = distributed_response(data, betas, noise)
        assert found.proven
        grid = np.linspace(-1, 1, 301) * np.sqrt(data.power)
        for scale in (30, 3, 1, 0.1):
            t1, t2 = np.meshgrid(grid * scale, grid * scale)
            rho = data.correlation[0, 1]
            error = data.power - 2 * (data.cross[0] * t1 + data.cross[1] * t2)
            error = error + t1**2 + t2**2 + 2 * rho * t1 * t2
            cost = price(np.abs(t1), betas[0], noise[0]).cost
            cost = cost + price(np.abs(t2), betas[1], noise[1]).cost
            assert (error + cost).min() >= found.objective * (1 - 1e-12)


def test_every_descent_s_limit_is_among_the_pair_s_candidates() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        data, (betas, noise) = drawn(seed, (1, 1), 2.0), settings_of(seed, 2)
        if abs(data.correlation[0, 1]) > 0.99:
            continue  # converges slowly
        candidates = np.stack(list(pair_candidates(data, betas, noise)))
        for _ in range(5):
            start = rng.standard_normal(2) * np.sqrt(data.power)
            limit = descend(data, betas, noise, start)
            distance = np.abs(candidates - limit).max(1).min()
            assert distance < 1e-6 * np.sqrt(data.power)


@given(st.floats(0.01, 10), st.floats(-4, 1), st.floats(-4, 0.7))
def test_one_device_is_theorem_2(power: float, log_beta: float, log_noise: float) -> None:
    beta, noise = 10.0**log_beta, 10.0**log_noise
    # 3 numbers, of which the regression has the power asked for.
    cross = np.array([0.6, 0.0, 0.8]) * np.sqrt(power)
    covariance = np.eye(4) + np.diag([power, 0, 0, 0])
    covariance[0, 1:] = covariance[1:, 0] = cross
    data = sources(covariance, [3])
    found = distributed_response(data, beta, noise)
    expected = joint_response(power, beta, noise)
    assert found.proven
    assert found.objective == pytest.approx(1 + float(expected.objective), rel=1e-9)
    assert found.distortion == pytest.approx(1 + float(expected.distortion), rel=1e-9)
    assert found.rates[0] == pytest.approx(float(expected.rate), rel=1e-6, abs=1e-12)
    assert found.decoder[0] ** 2 == pytest.approx(float(expected.decoder_power), abs=1e-9)
    assert found.sent_power[0] == pytest.approx(float(expected.sent_power), rel=1e-6, abs=1e-9)


def test_uncorrelated_devices_are_theorem_2_each() -> None:
    powers, betas, noise = np.array([2.0, 0.5, 0.1]), np.array([0.1, 0.3, 0.5]), 0.02
    covariance = np.eye(4)
    covariance[0, 1:] = covariance[1:, 0] = np.sqrt(powers)
    covariance[0, 0] = powers.sum()
    found = distributed_response(sources(covariance, [1, 1, 1]), betas, noise)
    each = [joint_response(p, b, noise) for p, b in zip(powers, betas, strict=True)]
    assert found.proven
    assert found.objective == pytest.approx(sum(float(one.objective) for one in each))
    assert found.rates == pytest.approx([float(one.rate) for one in each])
    assert found.open == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_second_feature_of_a_device_does_not_help(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((5, 5))
    whole = mixing @ mixing.T
    betas, noise = settings_of(seed, 2)
    noise = np.minimum(noise, 1)  # where an idle feature costs nothing
    one = distributed_response(sources(whole, [2, 2]), betas, noise)
    # A feature is a device of its own, that observes what its device does.
    seen = [0, 1, 2, 1, 2, 3, 4, 3, 4]
    two = sources(whole[np.ix_(seen, seen)], [2, 2, 2, 2])
    lowest = minimised(two, betas.repeat(2), noise.repeat(2), trials=40)
    assert lowest == pytest.approx(one.objective, rel=1e-7)


def test_on_bad_channels_it_is_the_group_lasso() -> None:
    data, noise = drawn(3, (2, 3, 1), 1.0), np.array([1.0, 2.0, 3.0])
    assert is_convex(data, noise)
    betas = np.array([0.3, 0.1, 0.05])
    found = distributed_response(data, betas, noise)
    weights = np.sqrt(2 * betas * noise)
    penalised = data.error(found.gain) + weights @ data.norms(found.gain)
    idle = betas @ [idle_rate(s) for s in noise]
    assert found.objective == pytest.approx(penalised + idle, rel=1e-12)
    # Its optimality condition: a device is closed if what it could add is below its weight.
    slope = 2 * (data.correlation @ found.gain - data.cross)
    for j in range(3):
        own = data.device == j
        if found.decoder[j] > 0:
            along = found.gain[own] / np.linalg.norm(found.gain[own])
            np.testing.assert_allclose(slope[own], -weights[j] * along, atol=1e-9)
        else:
            assert np.linalg.norm(slope[own]) <= weights[j]


@given(st.integers(0, 10**6), st.sampled_from(SIZES))
def test_its_parts_are_the_objective_s(seed: int, sizes: tuple[int, ...]) -> None:
    data, (betas, noise) = drawn(seed, sizes), settings_of(seed, len(sizes))
    gain = np.random.default_rng(seed).standard_normal(len(data.cross))
    gain[data.device == 0] *= seed % 2
    system = system_of(data, gain, betas, noise)
    v = system.decoder[data.device]
    w = np.divide(gain, v, out=np.zeros_like(gain), where=v > 0)
    theta = np.sqrt(system.received_variance - noise)
    point = np.concatenate([w, system.decoder, theta])
    value, slope = distributed_objective(point, data, betas, noise)
    assert value == pytest.approx(system.objective, rel=1e-9)
    assert data.norms(w) ** 2 == pytest.approx(system.sent_power, rel=1e-9)
    by_price = data.error(gain) + price(data.norms(gain), betas, noise).cost.sum()
    assert system.objective == pytest.approx(by_price, rel=1e-9)
    # For given gains v and θ are at rest. A step in v that keeps v w moves w the other way.
    J, d = len(sizes), len(gain)
    along = system.decoder * slope[d : d + J] - np.bincount(data.device, slope[:d] * w, J)
    np.testing.assert_allclose(along, 0, atol=1e-8 * (1 + np.abs(slope).max()))
    np.testing.assert_allclose(slope[d + J :], 0, atol=1e-8 * (1 + np.abs(slope).max()))


@given(st.integers(0, 10**6), st.sampled_from(SIZES))
def test_its_gradient(seed: int, sizes: tuple[int, ...]) -> None:
    data, (betas, noise) = drawn(seed, sizes), settings_of(seed, len(sizes))
    point = np.random.default_rng(seed).standard_normal(len(data.cross) + 2 * len(sizes))
    _, slope = distributed_objective(point, data, betas, noise)
    steps = 1e-5 * np.eye(len(point))
    value = [
        distributed_objective(point + h, data, betas, noise)[0]
        - distributed_objective(point - h, data, betas, noise)[0]
        for h in steps
    ]
    np.testing.assert_allclose(
        slope, np.array(value) / 2e-5, rtol=1e-4, atol=1e-5 * (1 + np.abs(slope).max())
    )


# The steps of the derivation, symbolically.

β, b, s, e, c = sp.symbols("beta b s e c", positive=True)


def test_the_price_is_the_least_over_v_and_s() -> None:
    v2 = sp.Symbol("w", positive=True)  # v²
    in_v = v2 * s + β / 2 * b**2 / v2
    best = b * sp.sqrt(β / (2 * s))
    assert sp.simplify(in_v.diff(v2).subs(v2, best)) == 0
    assert sp.simplify(in_v.subs(v2, best) - sp.sqrt(2 * β * s) * b) == 0
    sent = b**2 / best
    assert sp.simplify(sent - b * sp.sqrt(2 * s / β)) == 0
    cost = sp.sqrt(2 * β * s) * b + β / 2 * (s - 1 - sp.log(s))
    deviation = sp.Symbol("r", positive=True)  # √s
    h = b / sp.sqrt(2 * β)
    root = sp.sqrt(h**2 + 1) - h
    in_root = cost.subs(s, deviation**2)
    assert sp.simplify(in_root.diff(deviation).subs(deviation, root)) == 0
    assert sp.simplify(in_root.diff(deviation, 2) - β * (1 + 1 / deviation**2)) == 0  # convex
    # Its slope in b is √(2βs) = √(b² + 2β) − b, so that φ(b) + b²/2 is convex and φ concave.
    slope = sp.sqrt(2 * β) * root
    assert sp.simplify(slope - (sp.sqrt(b**2 + 2 * β) - b)) == 0
    curvature = sp.simplify(slope.diff(b))
    assert sp.simplify(curvature - (b / sp.sqrt(b**2 + 2 * β) - 1)) == 0
    assert curvature.subs(b, 0) == -1
    assert sp.simplify(curvature.diff(b) - 2 * β / (b**2 + 2 * β) ** sp.Rational(3, 2)) == 0


def test_the_step_of_a_device_is_at_rest() -> None:
    t = e - β / (2 * e)  # on the rate's curve, for e² > β/2
    root = e + β / (2 * e)  # √(t² + 2β)
    assert sp.simplify(root**2 - t**2 - 2 * β) == 0
    assert sp.simplify(2 * (t - e) + root - t) == 0
    σ = sp.Symbol("sigma", positive=True)
    limited = e - σ * sp.sqrt(β / 2)
    assert sp.simplify(2 * (limited - e) + σ * sp.sqrt(2 * β)) == 0


@given(st.floats(0, 5), st.floats(-4, 1), st.floats(-4, 0.7))
def test_a_device_s_step_is_a_scan_s(length: float, log_beta: float, log_noise: float) -> None:
    beta, noise = 10.0**log_beta, 10.0**log_noise

    def cost(b: float) -> float:
        return float(b**2 - 2 * length * b + price(b, beta, noise).cost)

    found = float(shrunk(length, beta, noise))
    scan = min(cost(b) for b in np.linspace(0, length + 1, 500))
    assert cost(found) <= scan + 1e-12
    numeric = minimize_scalar(cost, bounds=(0, length + 1), options={"xatol": 1e-10})
    assert found == pytest.approx(numeric.x, abs=1e-4)


def test_two_equal_devices_have_three_kinds_of_stationary_systems() -> None:
    ρ = sp.Symbol("rho", positive=True)
    other = sp.Symbol("f", positive=True)  # e of the second device

    def rest(own: sp.Expr, its: sp.Expr) -> sp.Expr:
        return own - c + ρ * (its - β / (2 * its))

    # Asymmetric ones have the product and the sum of both e fixed, so there is at most one pair.
    difference = sp.factor(rest(e, other) - rest(other, e))
    assert sp.simplify(difference - (e - other) * (1 - ρ - ρ * β / (2 * e * other))) == 0
    total = rest(e, other) + rest(other, e)
    with_product = sp.simplify(total.subs(β, 2 * (1 - ρ) * e * other / ρ))
    assert sp.simplify(with_product - (2 * ρ * (e + other) - 2 * c)) == 0
    # They exist where the square e² − (c/ρ) e + ρβ/(2(1 − ρ)) has roots.
    roots = c**2 / ρ**2 - 4 * ρ * β / (2 * (1 - ρ))
    limit = sp.solve(roots, β)[0]
    assert sp.simplify(limit / (2 * c**2) - (1 - ρ) / (4 * ρ**3)) == 0
    # The symmetric one turns from a minimum to a saddle there: curvature 2(1 − ρ) + φ″ = 0.
    symmetric = c / (2 * ρ)  # its e at the limit
    assert sp.simplify(rest(symmetric, symmetric).subs(β, limit)) == 0
    t = symmetric - limit / (2 * symmetric)
    root = symmetric + limit / (2 * symmetric)  # √(t² + 2β)
    assert sp.simplify(2 * (1 - ρ) + t / root - 1) == 0
    # Beside a lonely first device the second has e = c(1 − ρ) + ρβ/(2c) and opens at e² = β/2.
    B = sp.Symbol("B", positive=True)  # β/(2c²)
    opens = sp.factor(B - (1 - ρ + ρ * B) ** 2)
    assert sp.simplify(opens + (B - 1) * (ρ**2 * B - (1 - ρ) ** 2)) == 0


# What prices do.


@given(st.integers(0, 10**6), st.sampled_from([(1, 1), (2, 3)]))
def test_the_minimum_s_slope_in_a_price_is_the_rate(seed: int, sizes: tuple[int, int]) -> None:
    data, (betas, _) = drawn(seed, sizes), settings_of(seed, 2)
    noise = np.array([1.5, 2.5])  # convex, so the best system moves without a jump
    found = distributed_response(data, betas, noise)
    for j in range(2):
        step = np.where(np.arange(2) == j, 1e-5 * betas[j], 0)
        above, below = (distributed_response(data, betas + h, noise) for h in (step, -step))
        slope = (above.objective - below.objective) / (2e-5 * betas[j])
        assert slope == pytest.approx(found.rates[j], rel=1e-3, abs=1e-4)
        assert above.rates[j] <= found.rates[j] + 1e-12
        # The minimum over lines in β is concave, convex case or not.
        assert above.objective + below.objective <= 2 * found.objective + 1e-12


def test_a_dearer_device_says_less_and_the_other_more() -> None:
    data = noisy_views(1.0, [0.5, 0.5])
    prices = np.geomspace(0.02, 2, 40)
    rates = np.array([distributed_response(data, [0.1, p], 1e-4).rates for p in prices])
    assert (np.diff(rates[:, 1]) <= 1e-9).all()
    assert (np.diff(rates[:, 0]) >= -1e-9).all()
    assert rates[-1, 1] == 0
    alone = joint_response(1 / 1.5, 0.1, 1e-4)  # the other's explained power is P²/(P + N)
    assert rates[-1, 0] == pytest.approx(float(alone.rate))


# What a lost device costs.


def test_what_is_left_of_noisy_views() -> None:
    noise = np.array([0.5, 0.8, 1.2])
    data = noisy_views(2.0, noise.tolist())
    system = distributed_response(data, 0.05, 1e-3)
    # g_j/N_j is the precision that device j brings: 1/(N_j + noise of ẑ_j referred to x_j).
    ratio = system.received_variance / system.sent_power * (2.0 + noise)
    precision = 1 / (noise + ratio)
    assert system.distortion == pytest.approx(1 / (1 / 2 + precision.sum()), rel=1e-9)
    for j in range(3):
        kept, adapted = lost(data, system, j)
        rest = np.delete(precision, j).sum()
        assert adapted == pytest.approx(1 / (1 / 2 + rest), rel=1e-9)
        assert kept > adapted > system.distortion
    alone = distributed_response(noisy_views(2.0, [0.5]), 0.05, 1e-3)
    assert lost(noisy_views(2.0, [0.5]), alone, 0) == pytest.approx((2.0, 2.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SIZES))
def test_a_loss_by_its_definition(seed: int, sizes: tuple[int, ...]) -> None:
    data, (betas, noise) = drawn(seed, sizes), settings_of(seed, len(sizes))
    betas = betas / 100
    system = distributed_response(data, betas, noise)
    gone = seed % len(sizes)
    v = system.decoder
    received = np.diag(system.received_variance).astype(float)
    w = np.zeros((len(data.cross), len(sizes)))
    for j in range(len(sizes)):
        if v[j] > 0:
            w[:, j] = np.where(data.device == j, system.gain, 0) / v[j]
    received += w.T @ data.correlation @ w
    cross = w.T @ data.cross
    rest = np.delete(np.arange(len(sizes)), gone)
    kept, adapted = lost(data, system, gone)
    u = v[rest]
    block = received[np.ix_(rest, rest)]
    assert kept == pytest.approx(data.power - 2 * u @ cross[rest] + u @ block @ u, rel=1e-9)
    best = data.power - cross[rest] @ np.linalg.solve(block, cross[rest])
    assert adapted == pytest.approx(best, rel=1e-7)
    assert kept >= adapted - 1e-9 * data.power
    assert adapted >= system.distortion - 1e-9 * data.power


# Sources, and bad input.


def test_sources_by_their_definition() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 6))
    covariance = mixing @ mixing.T
    data = sources(covariance, (2, 3))
    for j in range(2):
        own = data.device == j
        np.testing.assert_allclose(data.correlation[np.ix_(own, own)], np.eye(own.sum()), atol=1e-9)
    # Least squares on all of them is the same, whatever basis an observation has.
    x, xy = covariance[1:, 1:], covariance[1:, 0]
    assert data.cross @ np.linalg.solve(data.correlation, data.cross) == pytest.approx(
        xy @ np.linalg.solve(x, xy)
    )
    views = noisy_views(2.0, [1.0, 6.0])
    assert views.correlation[0, 1] == pytest.approx(2 / np.sqrt(3 * 8))
    np.testing.assert_allclose(np.abs(views.cross), [2 / np.sqrt(3), 2 / np.sqrt(8)])
    # An observation that repeats itself counts once.
    twice = np.array([[2.0, 1, 1], [1, 1, 1], [1, 1, 1]])
    assert len(sources(twice, [2]).cross) == 1
    assert distributed_response(sources(twice, [1, 1]), 0.1, 0.01).open == 1


VIEWS = noisy_views(1.0, [1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sources(np.eye(3), [1, 2]), r"covariance.shape = \(3, 3\): give \(4, 4\)"),
        (lambda: sources(np.eye(3), []), r"sizes = \[\]"),
        (lambda: sources(np.eye(3), [1.5]), r"sizes = \[1.5\]"),  # type: ignore[list-item]
        (lambda: sources(np.diag([1.0, 1, -1]), [1, 1]), "covariance = .*without negative"),
        (lambda: sources(np.diag([1.0, 1, np.nan]), [1, 1]), "covariance = .*symmetric"),
        (lambda: sources(np.diag([1.0, 1, 0]), [1, 1]), "covariance of device 1 = 0: leave"),
        (lambda: noisy_views(0, [1]), "power = 0"),
        (lambda: noisy_views(1, [1, -1]), "noise = .*finite noise > 0"),
        (lambda: distributed_response(VIEWS, 0, 1), "betas = 0"),
        (lambda: distributed_response(VIEWS, [1, 1, 1], 1), r"betas.shape = \(3,\): give one"),
        (lambda: distributed_response(VIEWS, 1, [1, -2]), "noise_variances"),
        (lambda: distributed_response(noisy_views(1, [0.01] * 13), 1, 0.1), "devices = 13"),
        (lambda: lost(VIEWS, distributed_response(VIEWS, 1, 1), 2), "device = 2: give a device"),
        (lambda: certified_bound(drawn(0, (1, 2)), 1, 1), "data.scalar = False"),
        (lambda: certified_bound(VIEWS, 1, 1, tolerance=0), "tolerance = 0"),
        (lambda: certified_bound(sources(np.ones((3, 3)), [1, 1]), 1, 1), "least eigenvalue"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
