"""The book's symbolic results, derived anew by another route and tied to the module's code."""

import itertools
import math

import pytest
import sympy as sp
import torch
from torch import nn

from hvib.hyper import Gate, Gated, at
from hvib.objective import gaussian_kl

z, mu, centre = sp.symbols("z mu c", real=True)
s, sigma, theta, tau = sp.symbols("s sigma theta tau", positive=True)
LINE = (z, -sp.oo, sp.oo)


def density(at: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    return sp.exp(-((at - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


def is_zero(expression: sp.Expr) -> bool:
    return bool(sp.simplify(sp.expand_log(sp.expand(expression), force=True)) == 0)


def test_received_feature_has_the_sum_of_the_variances() -> None:
    """By characteristic functions: that of a sum of independent variables is their product."""
    t = sp.Symbol("t", real=True)

    def transform(mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
        return sp.exp(sp.I * t * mean - variance * t**2 / 2)

    one = sp.integrate(sp.exp(sp.I * t * z) * density(z, 0, s), LINE, conds="none")
    assert sp.simplify(one - transform(sp.Integer(0), s)) == 0
    product = transform(mu, theta**2) * transform(sp.Integer(0), sigma**2)
    assert sp.simplify(product / transform(mu, theta**2 + sigma**2)) == 1


def test_bounds_5_and_6_are_off_by_a_divergence() -> None:
    """On three values each, with exact rational numbers instead of symbols."""
    joint = sp.Matrix(3, 3, [3, 1, 4, 1, 5, 9, 2, 6, 5]) / 36
    rows, columns = joint * sp.ones(3, 1), sp.ones(1, 3) * joint
    q_row = sp.Matrix(3, 3, [2, 1, 7, 8, 2, 8, 1, 8, 2])
    q_marginal = [sp.Rational(k, 7) for k in (1, 2, 4)]
    cells = list(itertools.product(range(3), repeat=2))

    def mean(f: sp.Matrix) -> sp.Expr:
        return sum(joint[i, k] * sp.log(f[i, k]) for i, k in cells)

    def each(f: object) -> sp.Matrix:
        return sp.Matrix(3, 3, f)

    information = mean(each(lambda i, k: joint[i, k] / rows[i] / columns[k]))
    q = each(lambda i, k: sp.Rational(q_row[i, k], sum(q_row.col(k))))
    entropy = -sum(rows[i] * sp.log(rows[i]) for i in range(3))
    gap = mean(each(lambda i, k: joint[i, k] / columns[k] / q[i, k]))
    assert is_zero(information - (mean(q) + entropy) - gap)
    assert float(gap) > 0
    bound = mean(each(lambda i, k: joint[i, k] / rows[i] / q_marginal[k]))
    gap = sum(columns[k] * sp.log(columns[k] / q_marginal[k]) for k in range(3))
    assert is_zero(bound - information - gap)
    assert float(gap) > 0


def test_the_normaliser_of_exp_minus_d_does_not_depend_on_the_answer() -> None:
    answers = sp.symbols("a0:4", real=True)
    softmax = [sp.exp(a) / sum(map(sp.exp, answers)) for a in answers]
    assert sp.simplify(sum(sp.exp(sp.log(p)) for p in softmax)) == 1
    assert sp.integrate(sp.exp(-((z - centre) ** 2)), LINE).equals(sp.sqrt(sp.pi))


def closed_kl(prior_variance: sp.Expr | int = 1) -> sp.Expr:
    """From the two moments: E(z − μ)² = s and E z² = μ² + s."""
    p = density(z, mu, s)
    inner = sp.integrate((z - mu) ** 2 * p, LINE)
    outer = sp.integrate(z**2 * p, LINE)
    log_ratio = -sp.log(s / prior_variance) / 2 - inner / (2 * s) + outer / (2 * prior_variance)
    return sp.simplify(log_ratio)


def test_closed_form_of_the_divergence_9() -> None:
    assert is_zero(closed_kl() - (mu**2 + s - 1 - sp.log(s)) / 2)
    # At a stationary point of the divergence, and only there, it is zero.
    slopes = [sp.diff(closed_kl(), v).subs({mu: 0, s: 1}) for v in (mu, s)]
    assert slopes == [0, 0]
    assert closed_kl().subs({mu: 0, s: 1}) == 0


@pytest.mark.parametrize(("m", "v"), [(0.0, 1.0), (0.7, 0.3), (-2.5, 0.01), (0.1, 4.0)])
def test_the_module_s_divergence_is_the_symbolic_one(m: float, v: float) -> None:
    found = gaussian_kl(*torch.tensor([[m], [v]], dtype=torch.float64))
    exact = float(closed_kl().subs({mu: sp.Float(m, 30), s: sp.Float(v, 30)}))
    assert float(found) == pytest.approx(exact, abs=1e-12)


def test_the_best_prior_variance_is_the_received_power() -> None:
    power = sp.Symbol("P", positive=True)
    rate = sp.expand_log(closed_kl(tau**2), force=True).expand().subs(mu**2, power - s)
    (best,) = sp.solve(sp.diff(rate, tau), tau)
    assert is_zero(best - sp.sqrt(power))
    excess = rate.subs(tau, 1) - rate.subs(tau, best)
    assert is_zero(excess - (power - 1 - sp.log(power)) / 2)


def test_the_gaussian_bottleneck_s_minimum() -> None:
    rho, beta, kappa = sp.symbols("rho beta kappa", positive=True)
    cost = sp.log(1 - rho**2 * kappa) / 2 - beta * sp.log(1 - kappa) / 2
    best = (rho**2 - beta) / (rho**2 * (1 - beta))
    assert sp.simplify(sp.diff(cost, kappa).subs(kappa, best)) == 0
    assert sp.simplify(best.subs(beta, rho**2)) == 0
    point = {rho: sp.sqrt(sp.Rational(3, 5)), beta: sp.Rational(1, 4)}
    assert sp.diff(cost, kappa, 2).subs(kappa, best).subs(point) > 0


def test_gaussian_bounds_are_exact_at_unit_power_and_half_the_error() -> None:
    """(6) and (5) for jointly Gaussian variables, from integrals instead of determinants."""
    a = sp.Symbol("a", positive=True)
    power = a**2 + s
    between = closed_kl().subs({mu: 0, s: power})
    rate = (a**2 + s - 1 - sp.log(s)) / 2
    assert is_zero(rate - between - (sp.log(power) - sp.log(s)) / 2)
    m = sp.Symbol("m", positive=True)
    # KL of N(0, m), the true residual, from N(0, ½), which squared error asserts.
    p, log_q = density(z, 0, m), -(z**2) - sp.log(sp.pi) / 2
    divergence = sp.integrate(sp.expand(p * (-(z**2) / (2 * m) - log_q)), LINE)
    divergence -= sp.log(2 * sp.pi * m) / 2
    assert is_zero(divergence - (2 * m - 1 - sp.log(2 * m)) / 2)
    assert sp.simplify(divergence.subs(m, sp.Rational(1, 2))) == 0


def test_the_gate_is_a_ratio_of_powers_of_beta() -> None:
    u, v = sp.symbols("u v", real=True)
    beta, nu = sp.symbols("beta nu", positive=True)
    power = sp.exp(v) * beta**u
    gate = power / (1 + power)
    assert sp.simplify(gate / (1 - gate) - power) == 0
    assert is_zero(sp.log(power) - v - u * sp.log(beta))  # its logit
    linear = gate.subs({u: -1, v: sp.log(2 * nu**2)})
    assert sp.simplify(linear - 2 * nu**2 / (2 * nu**2 + beta)) == 0
    code = Gate(1)
    with torch.no_grad():
        code.u.fill_(-1.0)
        code.v.fill_(math.log(2 * 1.5**2))
    found = code(torch.tensor([math.log(0.3)])).detach()
    assert float(found) == pytest.approx(4.5 / 4.8, rel=1e-6)


def test_gated_layer_on_symbols_is_the_module_s() -> None:
    """Rows of W and b scaled, (12), with the numbers of a real gated layer put in."""
    torch.manual_seed(1)
    gated = Gated(nn.Linear(3, 2), Gate(2), -1)
    layer = gated.layer
    assert isinstance(layer, nn.Linear)
    h, beta = torch.randn(1, 3), 1e-3
    with torch.no_grad(), at(beta):
        found = gated(h)[0]
    W, b, x = (sp.Matrix(t.tolist()) for t in (layer.weight, layer.bias, h[0]))
    u, v = (t.tolist() for t in (gated.gate.u, gated.gate.v))
    scale = sp.diag(*[1 / (1 + sp.exp(-(u[i] * sp.log(beta) + v[i]))) for i in range(2)])
    expected = (scale * W) * x + scale * b
    for i in range(2):
        assert float(found[i]) == pytest.approx(float(expected[i]), rel=1e-5)


def test_a_batch_norm_divides_a_gate_out_up_to_epsilon() -> None:
    batch = sp.symbols("h1:5", real=True)
    gate, epsilon = sp.symbols("g epsilon", positive=True)

    def squares(scale: sp.Expr, epsilon: sp.Expr) -> list[sp.Expr]:
        scaled = [scale * h for h in batch]
        mean = sum(scaled) / 4
        variance = sum((h - mean) ** 2 for h in scaled) / 4
        return [(h - mean) ** 2 / (variance + epsilon) for h in scaled]

    pairs = zip(squares(gate, epsilon), squares(sp.Integer(1), epsilon / gate**2), strict=True)
    assert all(sp.cancel(one - other) == 0 for one, other in pairs)


@pytest.mark.parametrize(
    ("shares", "reuse", "extra"),
    [(1, False, 0), (2, False, 0), (4, False, 0), (2, True, 1), (4, True, 3)],
)
def test_variance_of_the_gradient_estimate(shares: int, reuse: bool, extra: int) -> None:
    """V_β/M + V_ω/N, and (M − 1) V_x/N more for shared examples: all outcomes, N = 4."""
    g = [[sp.Integer(k) for k in row] for row in ((3, -1), (4, 10))]  # g[β][x]
    n, each = 4, 4 // shares
    outcomes = []
    for betas in itertools.product(range(2), repeat=shares):
        for x in itertools.product(range(2), repeat=each if reuse else n):
            drawn = [x if reuse else x[m * each : (m + 1) * each] for m in range(shares)]
            passes = [g[b][one] for b, share in zip(betas, drawn, strict=True) for one in share]
            outcomes.append(sum(passes) / sp.Integer(n))

    def variance(values: list[sp.Expr]) -> sp.Expr:
        mean = sum(values) / sp.Integer(len(values))
        return sum((v - mean) ** 2 for v in values) / sp.Integer(len(values))

    v_beta = variance([sum(row) / 2 for row in g])
    v_x = variance([sum(column) / 2 for column in zip(*g, strict=True)])
    v_omega = sum(variance(row) for row in g) / 2
    expected = v_beta / shares + v_omega / n + extra * v_x / n
    assert sp.simplify(variance(outcomes) - expected) == 0
