"""Which rates several devices need: with codes that know of each other, and with ours.

The rate (9) charges each device against a prior of its own, so at best it is I(X_j; U_j), with U_j
what is received of device j. A code for long blocks can do with less. Its bins rely on what the
network hears from the other devices, and the rates of any set S of devices need only add up to
I(X_S; U_S | U_rest), with U_rest what is received of the others: the Berger–Tung rates. For
devices that observe y itself with independent noise, the CEO problem, no code does better than
this with Gaussian U :cite:`oohama2005ceo,prabhakaran2004rate`.

In both cases I(X_j; U_j | Y) = r_j determines U_j, and with g_j = 1 − exp(−2r_j) the distortion is
D = 1/(1/P + Σ_j g_j/N_j). The names are those of `hvib.theory.distributed`; rates are in nats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize

from hvib.check import require
from hvib.theory.distributed import DistributedResponse, Sources
from hvib.theory.linear import Scalars, positive

Rates = Float[np.ndarray, "*K 2"]


class Informations(NamedTuple):
    """What the received features of J devices tell, in nats."""

    alone: Float[np.ndarray, " J"]
    """I(X_j; Û_j): what device j's rate is at least"""
    given_others: Float[np.ndarray, " J"]
    """I(X_j; U_j | all other U): what device j must send at least if it bins"""
    together: float
    """I(X; U) of all devices: what those that bin must send in sum"""

    @property
    def dependence(self) -> float:
        """Σ_j I(X_j; U_j) − I(X; U), the total correlation of all U_j, which bins save in sum."""
        return float(self.alone.sum()) - self.together


def informations(data: Sources, system: DistributedResponse) -> Informations:
    """Compute the mutual informations of a linear system with what its devices observe."""
    axes = np.where(data.device[:, None] == np.arange(data.devices), system.gain[:, None], 0.0)
    length = np.linalg.norm(axes, axis=0)
    axes = axes / np.where(length > 0, length, 1.0)
    root = np.sqrt(system.sent_power / system.received_variance)  # of the signal-to-noise ratio
    covariance = root[:, None] * (axes.T @ data.correlation @ axes) * root + np.eye(data.devices)

    def heard(used: np.ndarray) -> float:
        # I(X_S; U_S), in units of the noise: half the logarithm of the determinant.
        return 0.5 * float(np.linalg.slogdet(covariance[np.ix_(used, used)])[1])

    everyone = np.arange(data.devices)
    whole = heard(everyone)
    rest = np.array([heard(np.delete(everyone, j)) for j in everyone])
    return Informations(0.5 * np.log(np.diag(covariance)), whole - rest, whole)


class PairOfViews(NamedTuple):
    """Two devices that observe y with independent noise, and a distortion to be reached."""

    power: float
    """P = E y²"""
    noise: tuple[float, float]
    """N_1 and N_2"""
    distortion: float
    """D"""

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest g_2 with which D can be reached, both g being below 1."""
        N1, N2 = self.noise
        excess = 1 / self.distortion - 1 / self.power
        return max(0.0, N2 * (excess - 1 / N1)), min(1.0, N2 * excess)

    def first(self, g: Scalars) -> Float[np.ndarray, "*K"]:
        """Compute g_1 from g_2."""
        excess = 1 / self.distortion - 1 / self.power
        return self.noise[0] * (excess - np.asarray(g) / self.noise[1])

    def dependence(self, g: Scalars) -> Float[np.ndarray, "*K"]:
        """Compute I(U_1; U_2) from g_2."""
        a, b = self.power * self.first(g) / self.noise[0], self.power * g / self.noise[1]
        return 0.5 * (np.log1p(a) + np.log1p(b) - np.log1p(a + b))

    def alone(self, g: Scalars) -> Rates:
        """Compute I(X_1; U_1) and I(X_2; U_2) from g_2: what our objective charges."""
        both = np.stack([self.first(g), np.asarray(g, dtype=float)], -1)
        return 0.5 * (np.log1p(self.power * both / self.noise) - np.log1p(-both))

    def binned(self, g: Scalars, dear: int) -> Rates:
        """Compute the rates where the dearer device bins on what is heard from the other."""
        rates = self.alone(g)
        rates[..., dear] -= self.dependence(g)
        return rates


def pair_of_views(power: float, noise: Sequence[float], distortion: float) -> PairOfViews:
    """Describe the CEO problem of two devices at one distortion.

    Args:
        power: P = E y².
        noise: N_1 and N_2.
        distortion: D, below P and above the distortion 1/(1/P + 1/N_1 + 1/N_2) of infinite rates.

    Raises:
        ValueError: a number is out of its range.
    """
    P, N = float(positive("power", power)), positive("noise", np.asarray(noise, dtype=float))
    require(N.shape == (2,), "noise", noise, "give N_1 and N_2")
    least = float(1 / (1 / P + (1 / N).sum()))
    ok = least < distortion < P
    require(ok, "distortion", distortion, f"give more than {least!r} and less than {P!r}")
    return PairOfViews(P, (float(N[0]), float(N[1])), float(distortion))


def _least(factors: Sequence[tuple[float, float, float]], between: tuple[float, float]) -> float:
    """Minimise Σ c ln(a + b g) over an interval of g, exactly.

    The derivative Σ c b / (a + b g) vanishes at roots of a polynomial, so that the least value is
    at one of them or at an end.

    Args:
        factors: (c, a, b) of each summand.
        between: the ends of the interval, inside which all a + b g > 0.
    """
    slope = np.zeros(1)
    for i, (c, _, b) in enumerate(factors):
        others = [[f[2], f[1]] for k, f in enumerate(factors) if k != i]
        term = np.array([c * b])
        for other in others:
            term = np.polymul(term, other)
        slope = np.polyadd(slope, term)
    points = np.clip(np.append(np.roots(slope).real, between), *between)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = sum(c * np.log(a + b * points) for c, a, b in factors)
    # At an end where a + b g = 0 the rate is infinite; rounding may make it no number.
    return float(points[np.argmin(np.where(np.isfinite(values), values, np.inf))])


def _factors(pair: PairOfViews) -> list[tuple[float, float]]:
    """Return a and b of 1 − g_1, 1 − g_2, 1 + P g_1/N_1 and 1 + P g_2/N_2 as a + b g_2."""
    (N1, N2), P = pair.noise, pair.power
    g1 = float(pair.first(0.0))
    first = (1 + P * g1 / N1, -P / N2)
    return [(1 - g1, N1 / N2), (1.0, -1.0), first, (1.0, P / N2)]


def separate_rates(pair: PairOfViews, weights: Sequence[float]) -> Rates:
    """Compute the rates I(X_1; U_1), I(X_2; U_2) that reach D and have the least weighted sum.

    They are the best that our objective can do, with each device charged against its own prior.

    Args:
        weights: of both rates, as the prices β_1 and β_2.

    Raises:
        ValueError: the weights are not two positive numbers.
    """
    w = _weights(weights)
    closed = _factors(pair)
    costs = [(c, *f) for c, f in zip((-w[0], -w[1], w[0], w[1]), closed, strict=True)]
    return pair.alone(_least(costs, pair.range))


def joint_rates(pair: PairOfViews, weights: Sequence[float]) -> Rates:
    """Compute the rates of the CEO problem's region that have the least weighted sum.

    The dearer device bins, R_1 = I(X_1; U_1 | U_2) for β_1 ≥ β_2, and the other sends
    I(X_2; U_2). The weighted sum is convex in g_2.

    Args:
        weights: of both rates, as the prices β_1 and β_2.

    Raises:
        ValueError: the weights are not two positive numbers.
    """
    w = _weights(weights)
    dear, cheap = (0, 1) if w[0] >= w[1] else (1, 0)
    closed = _factors(pair)
    # R_dear = −½ ln(1 − g_dear) + ½ ln(P/D) − ½ ln(1 + P g_cheap/N_cheap), of which P/D is fixed.
    costs = [(-w[j], *closed[j]) for j in (0, 1)]
    costs.append((w[cheap] - w[dear], *closed[2 + cheap]))
    return pair.binned(_least(costs, pair.range), dear)


def _weights(weights: Sequence[float]) -> Float[np.ndarray, " 2"]:
    w = positive("weights", np.asarray(weights, dtype=float))
    require(w.shape == (2,), "weights", weights, "give one for each of the two rates")
    return w


def boundary(pair: PairOfViews, count: int = 101, *, joint: bool = True) -> Rates:
    """Compute points of the least rates (R_1, R_2) that reach D, R_1 descending.

    Args:
        count: K, of each half with binning; of the whole without.
        joint: with binning, where straight lines between neighbouring points belong to the
            boundary; else the least rates without, whose set need not be convex.

    Returns:
        (K, 2) without binning, (2K, 2) with.
    """
    if joint:
        angles = np.linspace(0, np.pi / 4, count + 1)[1:]
        cheap_first = [joint_rates(pair, (np.sin(a), np.cos(a))) for a in angles[:-1]]
        # At equal prices both corners are best, and the line between them is part of the boundary.
        corners = _equal_corners(pair)
        dear_first = [joint_rates(pair, (np.cos(a), np.sin(a))) for a in angles[:-1][::-1]]
        return np.stack([*cheap_first, *corners, *dear_first])
    low, high = pair.range
    inside = (np.arange(count) + 0.5) / count
    return pair.alone(low + (high - low) * inside)


def _equal_corners(pair: PairOfViews) -> list[Rates]:
    """Return the two ends of the line of least sum, first the one with the larger R_1."""
    first = joint_rates(pair, (1.0, 1.0))
    closed = _factors(pair)
    g = _least([(-1.0, *closed[0]), (-1.0, *closed[1])], pair.range)
    return [pair.binned(g, 1), first]


def joint_objective(power: float, noise: Sequence[float], betas: Sequence[float]) -> float:
    """Compute min D + Σ_j β_j R_j over all rates of the CEO problem's region and all D.

    It is what our objective could be if devices could bin, on channels without noise.

    Args:
        power: P = E y².
        noise: N_1 and N_2.
        betas: β_1 and β_2.

    Raises:
        ValueError: a parameter is out of its range.
    """
    w = _weights(betas)
    P, N = float(positive("power", power)), positive("noise", np.asarray(noise, dtype=float))
    least = 1 / (1 / P + (1 / N).sum())

    def value(log_excess: float) -> float:
        distortion = least + (P - least) / (1 + np.exp(-log_excess))
        return distortion + float(w @ joint_rates(pair_of_views(P, noise, distortion), betas))

    # The objective in D may have several valleys, so a grid is searched before one is refined.
    grid = np.linspace(-25, 25, 401)
    at = int(np.argmin([value(x) for x in grid]))
    ends = (grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)])
    found = optimize.minimize_scalar(value, bounds=ends, method="bounded", options={"xatol": 1e-9})
    return float(min(found.fun, P))  # P: nothing is sent


class EqualPrices(NamedTuple):
    """The prices β at which the best system of two equal devices changes, on good channels."""

    opens: float
    """above it nothing is sent"""
    symmetric: float
    """below it equal use of both devices is a local minimum"""
    switches: float
    """above it one device alone is best, below it both equally"""
    lonely: float
    """above it one device alone is a local minimum"""


def equal_prices(power: float, noise: float) -> EqualPrices:
    """Compute at which prices two equal devices, x_j = y + n_j, are used.

    At σ² below the received variances, sending begins at 2P²/(P + N). For N ≥ P both devices open
    there. For N < P the symmetric system becomes a minimum at N(P + N)/(2P), and the second device
    opens beside the first only at 2N²/(P + N). In between both systems are minima, and the best
    one jumps at a price where their objectives agree, which is a root found numerically.

    Args:
        power: P = E y².
        noise: N, the variance of each device's noise.

    Raises:
        ValueError: a parameter is not finite and positive.
    """
    P, N = float(positive("power", power)), float(positive("noise", noise))
    rho = P / (P + N)
    unit = 2 * rho * P  # prices in this unit depend on ρ alone
    if N >= P:
        return EqualPrices(unit, unit, unit, unit)
    symmetric, lonely = (1 - rho) / (4 * rho**3), ((1 - rho) / rho) ** 2

    def gap(B: float) -> float:
        # Objectives over c², without the power of y: one device's, less both devices'.
        e = (1 + np.sqrt(1 + 4 * rho * (1 + rho) * B)) / (2 * (1 + rho))
        t, s = e - B / e, B / e**2
        each = 2 * np.sqrt(B * s) * t + B * (s - 1 - np.log(s))
        return float(-1 + B * (1 - np.log(B)) - (-4 * t + 2 * (1 + rho) * t**2 + 2 * each))

    # For N next to P the two ends agree to rounding, and so do the objectives.
    apart = gap(lonely) * gap(symmetric) < 0
    switch = optimize.brentq(gap, lonely, symmetric, xtol=1e-15) if apart else lonely
    return EqualPrices(unit, unit * symmetric, unit * float(switch), unit * lonely)
