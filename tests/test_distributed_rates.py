"""The rates of two devices with binning and without: against scans, definitions, closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvib.theory.distributed import (
    distributed_response,
    noisy_views,
    pair_candidates,
    sources,
    system_of,
)
from hvib.theory.distributed_rates import (
    PairOfViews,
    boundary,
    equal_prices,
    informations,
    joint_objective,
    joint_rates,
    pair_of_views,
    separate_rates,
)

logs = st.floats(-2, 1).map(lambda x: 10.0**x)
shares = st.floats(0.02, 0.98)
weights = st.sampled_from([(1.0, 1.0), (1.0, 3.0), (5.0, 1.0), (1.0, 1.1)])


def at_share(power: float, noise: tuple[float, float], share: float) -> PairOfViews:
    least = 1 / (1 / power + 1 / noise[0] + 1 / noise[1])
    return pair_of_views(power, noise, least + share * (power - least))


def ceo_constraints(pair: PairOfViews, r: np.ndarray) -> np.ndarray:
    """Lower bounds on R_1, R_2 and R_1 + R_2 as the theorem of the CEO problem has them."""
    P, N, D = pair.power, np.array(pair.noise), pair.distortion
    g = (1 - np.exp(-2 * r)) / N
    one = [r[j] + 0.5 * np.log(1 / D) - 0.5 * np.log(1 / P + g[1 - j]) for j in (0, 1)]
    return np.array([*one, r.sum() + 0.5 * np.log(P / D)])


@given(logs, st.tuples(logs, logs), shares, st.floats(0.01, 0.99))
def test_informations_of_views_are_the_theorem_s(
    power: float, noise: tuple[float, float], share: float, where: float
) -> None:
    pair = at_share(power, noise, share)
    low, high = pair.range
    g = low + where * (high - low)
    both = np.array([float(pair.first(g)), g])
    assert (both >= -1e-12).all()
    assert (both <= 1).all()
    assert 1 / (1 / power + (both / noise).sum()) == pytest.approx(pair.distortion)
    least = ceo_constraints(pair, -0.5 * np.log1p(-both))
    alone, saved = pair.alone(g), pair.dependence(g)
    for j in (0, 1):
        assert alone[j] - saved == pytest.approx(least[j], rel=1e-6, abs=1e-9)
        corner = pair.binned(g, j)
        assert corner[j] == pytest.approx(least[j], rel=1e-6, abs=1e-9)
        assert corner.sum() == pytest.approx(least[2], rel=1e-6, abs=1e-9)
    assert alone.sum() - saved == pytest.approx(least[2], rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(logs, st.tuples(logs, logs), shares, weights)
def test_the_least_rates_are_a_scan_s(
    power: float, noise: tuple[float, float], share: float, w: tuple[float, float]
) -> None:
    pair = at_share(power, noise, share)
    low, high = pair.range
    g = low + (high - low) * np.linspace(1e-9, 1 - 1e-9, 20_001)
    for found, rates in (
        (separate_rates(pair, w), pair.alone(g)),
        (joint_rates(pair, w), pair.binned(g, 0 if w[0] >= w[1] else 1)),
    ):
        scan = (rates @ w).min()
        assert found @ w <= scan + 1e-9
        assert found @ w == pytest.approx(scan, rel=1e-3, abs=1e-3)


@given(logs, st.tuples(logs, logs), shares)
def test_the_excess_in_sum_is_between_two_dependences(
    power: float, noise: tuple[float, float], share: float
) -> None:
    pair = at_share(power, noise, share)
    ours, least = (f(pair, (1.0, 1.0)).sum() for f in (separate_rates, joint_rates))
    low, high = pair.range
    grid = low + (high - low) * np.linspace(1e-9, 1 - 1e-9, 4_001)
    own, best = (
        grid[np.argmin(f(grid).sum(-1))] for f in (pair.alone, lambda g: pair.binned(g, 0))
    )
    common = -0.5 * np.log1p(-(power**2) / ((power + noise[0]) * (power + noise[1])))
    assert float(pair.dependence(own)) <= ours - least + 1e-4
    assert ours - least <= float(pair.dependence(best)) + 1e-4
    assert ours - least <= common + 1e-9  # I(X_1; X_2)


@given(st.integers(0, 10**6), st.sampled_from([(1, 1), (1, 1, 1), (2, 3)]))
def test_informations_by_their_definition(seed: int, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((1 + sum(sizes),) * 2)
    data = sources(mixing @ mixing.T, sizes)
    gain = rng.standard_normal(len(data.cross))
    gain[data.device == 0] *= seed % 3
    system = system_of(data, gain, 0.1, 0.01)
    found = informations(data, system)
    J = data.devices
    w = np.zeros((len(gain), J))
    for j in range(J):
        if system.decoder[j] > 0:
            w[:, j] = np.where(data.device == j, gain, 0) / system.decoder[j]
    received = w.T @ data.correlation @ w + np.diag(system.received_variance)

    def entropy(used: list[int]) -> float:
        return 0.5 * float(np.linalg.slogdet(received[np.ix_(used, used)])[1])

    noise = 0.5 * np.log(system.received_variance)
    everyone = list(range(J))
    assert found.together == pytest.approx(entropy(everyone) - noise.sum(), abs=1e-9)
    for j in everyone:
        rest = [k for k in everyone if k != j]
        expected = entropy(everyone) - entropy(rest) - noise[j]
        assert found.given_others[j] == pytest.approx(expected, abs=1e-9)
        assert found.alone[j] == pytest.approx(entropy([j]) - noise[j], abs=1e-9)
    assert found.dependence >= -1e-12
    assert (system.rates >= found.alone - 1e-12).all()


def test_on_good_channels_the_rate_is_the_information() -> None:
    data = noisy_views(1.0, [0.3, 0.6])
    found = distributed_response(data, [0.05, 0.08], 1e-6)
    assert found.rates == pytest.approx(informations(data, found).alone, rel=1e-9)


@pytest.mark.parametrize("betas", [(0.05, 0.05), (0.1, 0.02), (0.6, 0.6), (0.02, 0.3)])
@pytest.mark.parametrize("noise", [(0.3, 0.6), (2.0, 1.0), (0.1, 0.1)])
def test_our_objective_is_the_best_point_of_the_separate_rates(
    betas: tuple[float, float], noise: tuple[float, float]
) -> None:
    ours = distributed_response(noisy_views(1.0, noise), np.array(betas), 1e-9).objective

    def lowest(rates: Callable[[PairOfViews, tuple[float, float]], np.ndarray]) -> float:
        """The least objective over D, by a scan and one finer scan; 1 is that of silence."""

        def cost(x: float) -> float:
            pair = at_share(1.0, noise, 1 / (1 + np.exp(-x)))
            return float(pair.distortion + rates(pair, betas) @ betas)

        coarse = np.linspace(-9, 9, 300)
        best = min(coarse, key=cost)
        return min(1.0, *(cost(x) for x in np.linspace(best - 0.06, best + 0.06, 100)))

    assert lowest(separate_rates) == pytest.approx(ours, rel=1e-5)
    assert lowest(separate_rates) >= ours - 1e-12
    least = joint_objective(1.0, noise, betas)
    assert least <= ours + 1e-9
    assert lowest(joint_rates) == pytest.approx(least, rel=1e-5)


def test_binning_saves_nothing_where_one_device_sends() -> None:
    prices = equal_prices(1.0, 0.2)
    beta = (prices.switches + prices.opens) / 2
    data = noisy_views(1.0, [0.2, 0.2])
    found = distributed_response(data, beta, 1e-9)
    assert found.open == 1
    assert informations(data, found).dependence == pytest.approx(0, abs=1e-12)
    # And yet a system that bins is better there: both devices would be open.
    assert joint_objective(1.0, (0.2, 0.2), (beta, beta)) < found.objective - 1e-3


def test_the_boundary_with_binning_is_convex_and_below_the_other() -> None:
    pair = pair_of_views(1.0, (0.4, 0.7), 0.4)
    joint, separate = boundary(pair, 60), boundary(pair, 60, joint=False)
    assert joint.shape == (120, 2)
    assert separate.shape == (60, 2)
    assert (np.diff(joint[:, 0]) <= 1e-9).all()
    assert (np.diff(joint[:, 1]) >= -1e-9).all()
    # The two corners at equal prices have the same sum, and differ by what binning saves.
    first, second = joint[59], joint[60]
    assert first.sum() == pytest.approx(second.sum())
    for angle in np.linspace(0.05, np.pi / 2 - 0.05, 30):
        w = (np.cos(angle), np.sin(angle))
        least = joint_rates(pair, w) @ w
        assert (joint @ w >= least - 1e-9).all()
        assert (separate @ w >= separate_rates(pair, w) @ w - 1e-9).all()
        assert least <= separate_rates(pair, w) @ w + 1e-12


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.8, 0.97])
def test_two_equal_devices_open_where_the_closed_forms_say(noise: float) -> None:
    prices = equal_prices(1.0, noise)
    assert prices.opens == pytest.approx(2 / (1 + noise))
    assert prices.symmetric == pytest.approx(noise * (1 + noise) / 2)
    assert prices.lonely == pytest.approx(2 * noise**2 / (1 + noise))
    assert prices.opens > prices.symmetric > prices.switches > prices.lonely
    data = noisy_views(1.0, [noise, noise])

    def used(beta: float) -> int:
        return distributed_response(data, beta, 1e-12).open

    assert [used(prices.opens * f) for f in (1.001, 0.999)] == [0, 1]
    assert [used(prices.switches * f) for f in (1.0001, 0.9999)] == [1, 2]
    both = distributed_response(data, prices.switches * 0.9999, 1e-12)
    assert both.rates[0] == pytest.approx(both.rates[1], rel=1e-6)
    # Just above the switch both systems cost the same; the rates jump.
    one = distributed_response(data, prices.switches * 1.0001, 1e-12)
    assert one.objective == pytest.approx(both.objective, rel=1e-3)


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.8])
def test_the_best_of_two_equal_devices_is_one_or_both_equally(noise: float) -> None:
    data, prices = noisy_views(1.0, [noise, noise]), equal_prices(1.0, noise)
    for beta in np.geomspace(prices.lonely / 10, prices.opens * 0.99, 40):
        gain = np.abs(distributed_response(data, beta, 1e-12).gain)
        equal = gain[0] == pytest.approx(gain[1], rel=1e-6)
        assert equal or gain.min() == 0
        assert equal == (beta < prices.switches)


@pytest.mark.parametrize("noise", [1.0, 1.5, 10.0])
def test_noisier_devices_open_together(noise: float) -> None:
    prices = equal_prices(1.0, noise)
    assert len(set(prices)) == 1
    data = noisy_views(1.0, [noise, noise])
    for factor, expected in ((1.001, 0), (0.999, 2), (0.1, 2)):
        found = distributed_response(data, prices.opens * factor, 1e-9)
        assert found.open == expected
        # The closed form of the symmetric system.
        if expected:
            rho, c, beta = 1 / (1 + noise), np.abs(data.cross[0]), prices.opens * factor
            e = (c + np.sqrt(c**2 + 2 * rho * (1 + rho) * beta)) / (2 * (1 + rho))
            # At N = P the minimum is flat where sending begins, so its place is less sharp.
            assert np.abs(found.gain) == pytest.approx([e - beta / (2 * e)] * 2, rel=1e-3)


def test_prices_next_to_equal_power_are_finite() -> None:
    for noise in (0.9999, 1 - 1e-8, 1e-6):
        assert np.isfinite(equal_prices(1.0, noise)).all()
    assert equal_prices(4.0, 2.0) == pytest.approx(4 * np.array(equal_prices(1.0, 0.5)))


def test_the_distributed_bottleneck_s_price_is_beta_over_one_minus_beta() -> None:
    # −I(Y;U) + β I(X;U) is −(1 − β) I(Y;U) + β Σ I(X_j;U_j|Y), of which the side decoders come.
    data, beta = noisy_views(1.0, [0.5, 0.8]), 0.2
    for gain in pair_candidates(data, 0.05, 1e-4):
        system = system_of(data, gain, 0.05, 1e-4)
        ratio = system.received_variance / np.maximum(system.sent_power, 1e-300)
        precision = 1 / (np.array([0.5, 0.8]) + ratio * np.array([1.5, 1.8]))
        relevant = 0.5 * np.log1p(precision.sum())
        rest = -0.5 * np.log1p(-precision * np.array([0.5, 0.8])).sum()
        together = informations(data, system).together
        assert together == pytest.approx(relevant + rest, abs=1e-9)
        scaled = (1 - beta) * (-relevant + beta / (1 - beta) * rest)
        assert -relevant + beta * together == pytest.approx(scaled, abs=1e-9)


PAIR = pair_of_views(1.0, (0.5, 0.5), 0.5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pair_of_views(1, (1, 1), 0.3), "distortion = 0.3: give more than 0.333"),
        (lambda: pair_of_views(1, (1, 1), 1.0), "distortion = 1.0"),
        (lambda: pair_of_views(1, (1, 1, 1), 0.5), "noise = "),
        (lambda: pair_of_views(-1, (1, 1), 0.5), "power = -1"),
        (lambda: joint_rates(PAIR, (1, 0)), "weights = "),
        (lambda: separate_rates(PAIR, (1, 1, 1)), r"weights = \(1, 1, 1\): give one"),
        (lambda: joint_objective(1, (1, -1), (1, 1)), "noise = "),
        (lambda: equal_prices(1, 0), "noise = 0"),
    ],
)
def test_bad_input_is_an_error_that_names_it(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
