"""Lower bounds on the objective C = D + βR that hold for every device and network, linear or not.

They rest on R ≥ I(X; Ẑ) ≥ I(Y; Ẑ), which are (6) and data processing, and on what a distortion
needs of I(Y; Ẑ). `line_code` bounds the minimum from the other side, by a code that is simple.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from hvib.check import require
from hvib.theory.information import entropy
from hvib.theory.linear import Scalars, positive

Array = Float[np.ndarray, "*K"]


class Point(NamedTuple):
    """Where D + βR is least under the bound, for each β."""

    objective: Array
    """D + βR"""
    distortion: Array
    """D: nats, or squared units of the target"""
    rate: Array
    """R in nats"""


def _least(floor: float) -> float:
    """Check a floor of the distortion.

    Raises:
        ValueError: it is negative or not finite.
    """
    require(math.isfinite(floor) and floor >= 0, "floor", floor, "give a distortion ≥ 0")
    return float(floor)


def uniform_entropy_power(width: float) -> float:
    """Compute the entropy power N = e^{2h}/(2πe) of a uniform variable: width² / (2πe).

    Raises:
        ValueError: the width is not finite and positive.
    """
    return float(positive("width", width)) ** 2 / (2 * math.pi * math.e)


def shannon_bound(entropy_power: float, beta: Scalars, floor: float = 0.0) -> Point:
    """Minimise max(floor, N e^{−2R}) + βR over R ≥ 0: a bound for the squared error of a number.

    N e^{−2R} is Shannon's lower bound on D at the rate R :cite:`cover2006elements`.

    Args:
        entropy_power: N of the target.
        beta: one β or an array of K.
        floor: a distortion that no system undercuts.

    Raises:
        ValueError: an argument is out of its range.
    """
    N, beta = float(positive("entropy_power", entropy_power)), positive("beta", beta)
    # Without a floor the slope −2N e^{−2R} is −β at N e^{−2R} = β/2.
    distortion = np.maximum(_least(floor), np.minimum(beta / 2, N))
    rate = np.maximum(0.0, 0.5 * np.log(N / distortion))
    return Point(distortion + beta * rate, distortion, rate)


def remote_shannon_bound(entropy_power: float, beta: Scalars, least: float) -> Point:
    """Minimise least + N e^{−2R} + βR over R ≥ 0: as `shannon_bound`, for what x tells of y.

    If `least` is the error of E[y|x] and N the entropy power of E[y|x], it is a lower bound.

    Raises:
        ValueError: an argument is out of its range.
    """
    least = _least(least)
    found = shannon_bound(entropy_power, beta)
    return Point(found.objective + least, found.distortion + least, found.rate)


def cross_entropy_bound(class_entropy: float, beta: Scalars, floor: float = 0.0) -> Point:
    """Minimise max(floor, H − R) + βR over R ≥ 0: a bound for the cross-entropy of classes.

    It is floor + min(β, 1)(H − floor).

    Args:
        class_entropy: H of the classes in nats.
        beta: one β or an array of K.
        floor: a distortion that no system undercuts.

    Raises:
        ValueError: an argument is out of its range.
    """
    H, beta = float(positive("class_entropy", class_entropy)), positive("beta", beta)
    floor = _least(floor)
    # Linear in R: all of the rate that lowers D where a nat costs less than 1, else none of it.
    rate = np.where(beta < 1, max(H - floor, 0.0), 0.0)
    distortion = np.maximum(H - rate, floor)
    return Point(distortion + beta * rate, distortion, rate)


def bayesian_floor(variances: Float[np.ndarray, " N"], width: float) -> float:
    """Compute the least mean squared error of a uniform delay from bounds for unbiased estimators.

    Any estimator of a τ that is uniform over a width L has, by van Trees' inequality
    :cite:`gill1995applications` on the part of the prior with two ramps of length δ ≤ L/2 cut off,
    an error of at least (1 − δ/L) / (1/b² + π²/(δ(L − δ))). Here b² is the Cramér–Rao bound, the
    same at every τ. The bound is averaged over channels, and the best δ is taken.

    Args:
        variances: b² of each channel.
        width: L, in the unit of which the b² are squares.

    Raises:
        ValueError: a value is not finite and positive.
    """
    b2, L = positive("variances", variances), float(positive("width", width))
    ramps = np.geomspace(1e-4, 0.5, 100) * L
    return max(float(((1 - r / L) / (1 / b2 + math.pi**2 / (r * (L - r)))).mean()) for r in ramps)


class LineCode(NamedTuple):
    """A code that sends a guess of the class on one feature, at one β."""

    objective: float
    """D + βR"""
    distortion: float
    """D in nats"""
    rate: float
    """R in nats"""
    mean: Float[np.ndarray, " C"]
    """of ẑ, for each guess"""
    variance: Float[np.ndarray, " C"]
    """s of ẑ, for each guess"""
    surprise: Float[np.ndarray, "C C"]
    """E[−ln q(y|ẑ)] for each guess, a row, and each label: what a pair of them costs in D"""


def _on_line(
    mean: Float[np.ndarray, " C"],
    s: Float[np.ndarray, " C"],
    p: Float[np.ndarray, " C"],
    truth: Float[np.ndarray, "C C"],
    z: Float[np.ndarray, " Z"],
) -> tuple[Float[np.ndarray, "Z C"], Float[np.ndarray, "Z C"]]:
    """The density of ẑ for each guess, and −ln p(y|ẑ), both on an evenly spaced line.

    Args:
        mean: of ẑ, for each guess.
        s: variance of ẑ, for each guess.
        p: how often each guess is made.
        truth: p(y | guess), a row for each guess.
    """
    log_density = -0.5 * ((z[:, None] - mean) ** 2 / s + np.log(2 * math.pi * s))
    log_joint = log_density + np.log(p)
    # Relative to the largest: far out every density underflows.
    label = np.exp(log_joint - log_joint.max(1, keepdims=True)) @ truth
    # The floor keeps 0 · ln 0 from being NaN where a label is impossible.
    posterior = np.maximum(label / label.sum(1, keepdims=True), 1e-300)
    return np.exp(log_density), -np.log(posterior)


def line_code(
    probabilities: Sequence[float], beta: float, noise_variance: float, right: float = 1.0
) -> LineCode:
    """Compute what a device attains that guesses the class and places its guess on one feature.

    Each guess is sent as a mean and a variance s ≥ σ² of its own, and the network answers with the
    exact p(y|ẑ). Means and variances minimise D + βR from guesses that start evenly spread in the
    prior's quantiles. So the minimum of a task whose classes can be inferred with this accuracy
    lies between `cross_entropy_bound` and this.

    Args:
        probabilities: how often each class is guessed.
        beta: one β.
        noise_variance: σ² > 0.
        right: the share of right guesses; the wrong ones are spread evenly over the other classes.

    Raises:
        ValueError: an argument is out of its range.
    """
    p = np.asarray(probabilities, dtype=float)
    require(entropy(p) > 0 and bool((p > 0).all()), "probabilities", p.tolist(), "give two or more")
    require(0 < right <= 1, "right", right, "give a share in (0, 1]")
    beta, floor = float(positive("beta", beta)), float(positive("noise_variance", noise_variance))
    truth = np.full((len(p), len(p)), (1 - right) / (len(p) - 1))
    np.fill_diagonal(truth, right)
    # A step of an eighth of the least standard deviation: the trapezoidal rule is exact there.
    reach = 10 + 10 * math.sqrt(floor)
    z = np.linspace(-reach, reach, int(16 * reach / math.sqrt(min(floor, 1))) + 1)
    spread = special.ndtri(np.cumsum(p) - p / 2)
    start = np.concatenate([spread, np.full(len(p), math.log(max(floor, 0.25 / len(p))))])

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        mean, log_s = np.split(parameters, 2)
        s = np.exp(log_s)
        density, surprise = _on_line(mean, s, p, truth, z)
        # p(y|ẑ) is the best network, so D does not change with it to first order.
        each = density * p * (surprise @ truth.T) * (z[1] - z[0])
        off = z[:, None] - mean
        rate = 0.5 * float(p @ (mean**2 + s - 1 - log_s))
        to_mean = (each * off / s).sum(0) + beta * p * mean
        to_log_s = (each * (off**2 / s - 1) / 2).sum(0) + beta * p * (s - 1) / 2
        return float(each.sum() + beta * rate), np.concatenate([to_mean, to_log_s])

    # The means stay well inside the line, and a variance may not fall below the channel's.
    limits = [(-6.0, 6.0)] * len(p) + [(math.log(floor), max(math.log(floor), 0.0))] * len(p)
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=limits)
    silent = np.zeros(len(p)), np.full(len(p), max(floor, 1.0))
    codes = [(found.x[: len(p)], np.exp(found.x[len(p) :])), silent]
    return min((_line_code(*code, p, truth, beta, z) for code in codes), key=lambda one: one[0])


def _line_code(
    mean: Float[np.ndarray, " C"],
    s: Float[np.ndarray, " C"],
    p: Float[np.ndarray, " C"],
    truth: Float[np.ndarray, "C C"],
    beta: float,
    z: Float[np.ndarray, " Z"],
) -> LineCode:
    """What a code of these means and variances attains; the arguments are those of `_on_line`."""
    density, surprise = _on_line(mean, s, p, truth, z)
    cost = density.T @ surprise * (z[1] - z[0])  # (guess, label)
    distortion = float(p @ (truth * cost).sum(1))
    rate = 0.5 * float(p @ (mean**2 + s - 1 - np.log(s)))
    return LineCode(distortion + beta * rate, distortion, rate, mean, s, cost)
