"""The linear Gaussian case with several devices, each with a channel and a price of its own.

Device j observes x_j, sends z_j = w_jᵀx_j + θ_j ξ_j, and its channel adds noise of variance σ_j².
The network infers ŷ = Σ_j v_j ẑ_j, and the objective is C = E(y − ŷ)² + Σ_j β_j R_j with R_j the
rate (9) of device j. All variables are jointly Gaussian, or the code is linear, with mean 0.

Write b_j² for the power of v_j w_jᵀx_j, the part of ŷ that device j contributes. For given parts
the best v_j and θ_j cost φ_j(b_j), the `price` below, which is a function of one number a device.
So the problem is a regression of y on all x_j with a penalty for each device, and that is what is
minimised here. A second feature of a device would not help, because φ_j is concave: by the lemma
of the general linear case parts of one regression vector cost at least as much as the vector.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hvib.check import require
from hvib.theory.linear import Scalars, Vector, positive

PerDevice = Float[np.ndarray, " J"]

OneOrEach = float | Sequence[float] | PerDevice
"""a number for all devices, or one for each"""


class Sources(NamedTuple):
    """What the minimum depends on, of y and of what J devices observe."""

    power: float
    """E y²"""
    correlation: Float[np.ndarray, "d d"]
    """K = E u uᵀ of all devices' observations, each device's own being white: K_jj = I"""
    cross: Float[np.ndarray, " d"]
    """c = E u y"""
    device: Int[np.ndarray, " d"]
    """which of the devices, from 0 to J − 1, observes each entry of u"""

    @property
    def devices(self) -> int:
        """J, the number of devices."""
        return int(self.device.max()) + 1

    @property
    def scalar(self) -> bool:
        """Whether each device observes one number."""
        return len(self.device) == self.devices

    def norms(self, gain: Vector) -> PerDevice:
        """Compute b_j, the root mean square of each device's part uᵀt of ŷ, of t."""
        return np.sqrt(np.bincount(self.device, gain**2, self.devices))

    def error(self, gain: Vector) -> float:
        """Compute E(y − tᵀu)² of t."""
        return float(self.power - 2 * self.cross @ gain + gain @ self.correlation @ gain)


def sources(covariance: Float[np.ndarray, "1+d 1+d"], sizes: Sequence[int]) -> Sources:
    """Describe y and what the devices observe by their covariance.

    Args:
        covariance: of (y, x_1, …, x_J), in this order.
        sizes: how many numbers each device observes; they add up to d.

    Raises:
        ValueError: the sizes do not fit, or the matrix is no covariance.
    """
    whole = np.asarray(covariance, dtype=float)
    known = len(sizes) > 0 and all(isinstance(n, (int, np.integer)) and n >= 1 for n in sizes)
    require(known, "sizes", sizes, "give for each device how many numbers it observes, ≥ 1")
    expected = (1 + sum(sizes),) * 2
    mend = f"give {expected}: y first, and then what each device observes"
    require(whole.shape == expected, "covariance.shape", whole.shape, mend)
    ok = bool(np.isfinite(whole).all()) and np.allclose(whole, whole.T)
    scale = float(np.abs(whole).max()) if ok else 0.0
    ok = ok and scale > 0 and float(np.linalg.eigvalsh(whole)[0]) > -1e-9 * scale
    require(ok, "covariance", whole.tolist(), "give a symmetric matrix without negative eigenvalue")
    whitening, owner, first = [], [], 1
    for j, size in enumerate(sizes):
        values, axes = np.linalg.eigh(whole[first : first + size, first : first + size])
        kept = values > 1e-12 * max(values[-1], np.finfo(float).tiny)
        require(bool(kept.any()), f"covariance of device {j}", 0, "leave the device out")
        whiten = np.zeros((sum(sizes), int(kept.sum())))
        whiten[first - 1 : first - 1 + size] = axes[:, kept] / np.sqrt(values[kept])
        whitening.append(whiten)
        owner += [j] * int(kept.sum())
        first += size
    white = np.concatenate(whitening, 1)  # (d, rank)
    K = white.T @ whole[1:, 1:] @ white
    return Sources(float(whole[0, 0]), K, white.T @ whole[1:, 0], np.array(owner))


def noisy_views(power: float, noise: Sequence[float]) -> Sources:
    """Describe J devices that observe y itself, each with independent noise: the CEO problem.

    Args:
        power: P = E y².
        noise: N_j, the variance of the noise in x_j = y + n_j.

    Raises:
        ValueError: a power is not finite and positive.
    """
    P, N = float(positive("power", power)), positive("noise", np.asarray(noise, dtype=float))
    matrix = np.full((1 + len(N),) * 2, P) + np.diag(np.append(0.0, N))
    return sources(matrix, [1] * len(N))


def _settings(
    data: Sources, betas: OneOrEach, noise_variances: OneOrEach
) -> tuple[PerDevice, PerDevice]:
    """Check β_j and σ_j², of which one number stands for all devices."""
    result = []
    for name, value in (("betas", betas), ("noise_variances", noise_variances)):
        # An error names a single number as it was given.
        array = positive(name, value if isinstance(value, (int, float)) else np.asarray(value))
        fits = array.shape in ((), (data.devices,))
        require(fits, f"{name}.shape", array.shape, f"give one, or one a device: {data.devices}")
        result.append(np.broadcast_to(array, data.devices))
    return result[0], result[1]


class Price(NamedTuple):
    """What a contribution of the power b² costs at least, beside its share of E(y − ŷ)²."""

    cost: Float[np.ndarray, "*K"]
    """φ(b): noise in ŷ plus β times the rate"""
    received_variance: Float[np.ndarray, "*K"]
    """s = θ² + σ², at its best"""


def price(b: Scalars, beta: Scalars, noise_variance: Scalars) -> Price:
    """Compute φ(b) = min over s ≥ σ² of √(2βs) b + β/2 (s − 1 − ln s).

    The first term is what v²s + β/2 · b²/v² is at the best v. The best s is
    (√(h² + 1) − h)² with h = b/√(2β), or σ² where that is larger. φ rises and is concave, its
    slope is √(2βs), and φ(b) + b²/2 is convex.

    Args:
        b: root mean square of the contribution, ≥ 0.
        beta: β > 0.
        noise_variance: σ² > 0.
    """
    h = np.asarray(b) / np.sqrt(2 * np.asarray(beta))
    # The reciprocal of a sum keeps the digits that the difference would lose at large h.
    s = np.maximum(noise_variance, (np.sqrt(h**2 + 1) + h) ** -2.0)
    return Price(np.sqrt(2 * beta * s) * b + beta / 2 * (s - 1 - np.log(s)), s)


def shrunk(length: Scalars, beta: Scalars, noise_variance: Scalars) -> Float[np.ndarray, "*K"]:
    """Compute the b ≥ 0 that minimises b² − 2eb + φ(b), by Theorem 2 for a power e².

    Args:
        length: e ≥ 0, how strongly what the device observes correlates with what the others leave.
        beta: β > 0.
        noise_variance: σ² > 0.
    """
    e = np.maximum(length, 1e-150)  # no division by 0, and the square stays above 0
    r = beta / (2 * e**2)
    s = np.maximum(noise_variance, np.minimum(1.0, r))
    return e * np.maximum(0.0, 1 - np.sqrt(s * r))


class DistributedResponse(NamedTuple):
    """A system at the best v_j and θ_j for its gains, and what it costs."""

    gain: Float[np.ndarray, " d"]
    """t = v_j w_j of each device's white observation u_j, one after the other"""
    received_variance: PerDevice
    """s_j = θ_j² + σ_j²"""
    decoder: PerDevice
    """v_j ≥ 0"""
    sent_power: PerDevice
    """E(w_jᵀx_j)²"""
    distortion: float
    """D = E(y − ŷ)²"""
    rates: PerDevice
    """R_j in nats"""
    objective: float
    """D + Σ_j β_j R_j"""
    proven: bool
    """whether it is known to be a global minimum"""

    @property
    def open(self) -> int:
        """How many devices contribute."""
        return int((self.decoder > 0).sum())


def system_of(
    data: Sources, gain: Vector, betas: OneOrEach, noise_variances: OneOrEach, proven: bool = False
) -> DistributedResponse:
    """Compute the best system of given gains.

    With b_j the root mean square of device j's part and s_j from `price`, v_j² = b_j √(β_j/2s_j)
    and E(w_jᵀx_j)² = b_j √(2s_j/β_j).
    """
    beta, noise = _settings(data, betas, noise_variances)
    b = data.norms(gain)
    s = price(b, beta, noise).received_variance
    v = np.sqrt(b * np.sqrt(beta / (2 * s)))
    sent = b * np.sqrt(2 * s / beta)
    distortion = data.error(gain) + float(v**2 @ s)
    rates = 0.5 * (sent + s - 1 - np.log(s))
    objective = distortion + float(beta @ rates)
    return DistributedResponse(gain, s, v, sent, distortion, rates, objective, proven)


def is_convex(data: Sources, noise_variances: OneOrEach) -> bool:
    """Tell whether the objective is convex in the gains, for all β at once.

    The curvature of φ_j is never below −1, and is 0 for σ_j² ≥ 1. So it suffices that
    2K − diag(1 where σ_j² < 1) has no negative eigenvalue. For two devices of one number each,
    and good channels, that is a correlation of at most ½ in size.
    """
    _, noise = _settings(data, 1.0, noise_variances)
    curved = np.diag((noise < 1).astype(float)[data.device])
    return bool(np.linalg.eigvalsh(2 * data.correlation - curved)[0] >= -1e-12)


def descend(data: Sources, betas: OneOrEach, noise_variances: OneOrEach, start: Vector) -> Vector:
    """Minimise over the devices in turn, each by Theorem 2, until no gain changes.

    No step raises the objective. Where it is convex the limit is the global minimum, because what
    is not smooth in it separates by device.

    Args:
        start: t to start from.

    Returns:
        t, (d,).
    """
    beta, noise = _settings(data, betas, noise_variances)
    own = [np.flatnonzero(data.device == j) for j in range(data.devices)]
    gain = np.array(start, dtype=float)
    size = np.sqrt(data.power)
    for _ in range(20_000):
        before = gain.copy()
        for j, at in enumerate(own):
            e = data.cross[at] - data.correlation[at] @ gain + gain[at]
            length = float(np.linalg.norm(e))
            scale = shrunk(length, beta[j], noise[j]) / length if length > 1e-150 else 0.0
            gain[at] = scale * e
        if np.abs(gain - before).max() <= 1e-14 * size:
            break
    return gain


def _roots(*coefficients: float) -> Iterator[float]:
    """Yield the real parts of a polynomial's roots that are not 0, highest power first."""
    scale = max(map(abs, coefficients))
    kept = [c if abs(c) > 1e-14 * scale else 0.0 for c in coefficients]
    yield from (float(r.real) for r in np.roots(kept) if r.real != 0)


def pair_candidates(
    data: Sources, betas: OneOrEach, noise_variances: OneOrEach
) -> Iterator[Vector]:
    """Yield gains among which are all stationary ones of two devices of one number each.

    A device is closed, or limited by its channel, t = e ∓ σ√(β/2), or at its rate's curve,
    t = e − β/(2e), with e = c − ρ times the other's gain. Each of the nine pairs of cases is an
    equation of degree 4 at most. A root that belongs to no stationary point does no harm, since
    any gains are those of some system.
    """
    beta, noise = _settings(data, betas, noise_variances)
    c, rho = data.cross, float(data.correlation[0, 1])
    half = np.sqrt(noise * beta / 2)
    yield np.zeros(2)
    for i, k in ((0, 1), (1, 0)):
        alone = np.zeros(2)
        alone[i] = np.sign(c[i]) * shrunk(abs(c[i]), beta[i], noise[i])
        yield alone
        for sign in (-1, 1):
            rest = c[k] - sign * half[k]
            for e in _roots(1 - rho**2, rho * rest - c[i], rho**2 * beta[i] / 2):
                both = np.zeros(2)
                both[i] = e - beta[i] / (2 * e)
                both[k] = rest - rho * both[i]
                yield both
    if 1 - rho**2 > 1e-14:
        for signs in product((-1, 1), repeat=2):
            yield np.linalg.solve(data.correlation, c - np.array(signs) * half)
    # e_2 e_1 = N(e_1), a square, and with it e_1 = c_1 − ρ(e_2 − β_2/(2e_2)) is of degree 4.
    N = np.array([-rho, c[1], rho * beta[0] / 2])
    quartic = np.polymul([1, -c[0], 0], N) + rho * np.polymul(N, N)
    quartic = np.polysub(quartic, [rho * beta[1] / 2, 0, 0])
    for e in _roots(*quartic):
        other = np.polyval(N, e) / e
        if other != 0:
            yield np.array([e - beta[0] / (2 * e), other - beta[1] / (2 * other)])


def distributed_response(
    data: Sources, betas: OneOrEach, noise_variances: OneOrEach
) -> DistributedResponse:
    """Compute the minimum of D + Σ_j β_j R_j over all linear systems.

    It is proven to be global where the objective is convex (`is_convex`), and for two devices of
    one number each, where the stationary points are the roots of polynomials. In other cases the
    best of descents from the regressions on each set of devices is returned; for one number a
    device `certified_bound` then bounds the minimum from below.

    Args:
        betas: β_j, or one for all devices.
        noise_variances: σ_j², or one for all devices.

    Raises:
        ValueError: a parameter is not positive, has another number of entries than there are
            devices, or there are too many devices to try all sets.
    """
    _settings(data, betas, noise_variances)
    convex = is_convex(data, noise_variances)
    pair = data.scalar and data.devices == 2
    if convex:
        starts: Iterator[Vector] = iter([np.zeros(len(data.cross))])
    elif pair:
        starts = pair_candidates(data, betas, noise_variances)
    else:
        starts = _regressions(data)

    def value(gain: Vector) -> float:
        return system_of(data, gain, betas, noise_variances).objective

    # For a pair a last descent only removes the rounding of the roots.
    found = list(starts) if pair else [descend(data, betas, noise_variances, t) for t in starts]
    best = min(found, key=value)
    best = min(descend(data, betas, noise_variances, best), best, key=value)
    return system_of(data, best, betas, noise_variances, convex or pair)


def _regressions(data: Sources) -> Iterator[Vector]:
    """Yield the least-squares gains on each set of devices."""
    J = data.devices
    require(J <= 12, "devices", J, "give at most 12 where the objective is not convex")
    for used in product((False, True), repeat=J):
        at = np.flatnonzero(np.array(used)[data.device])
        gain = np.zeros(len(data.cross))
        gain[at] = np.linalg.lstsq(data.correlation[np.ix_(at, at)], data.cross[at], rcond=None)[0]
        yield gain


def distributed_objective(
    parameters: Vector, data: Sources, betas: PerDevice, noise_variances: PerDevice
) -> tuple[float, Vector]:
    """Compute the objective of any linear system and its gradient, for a numerical minimiser.

    Args:
        parameters: w of all devices' white observations, v and θ in one vector of length d + 2J.
    """
    d, J = len(data.cross), data.devices
    w, v, theta = np.split(np.asarray(parameters), [d, d + J])
    s = theta**2 + noise_variances
    gain = v[data.device] * w
    sent = data.norms(w) ** 2
    value = data.error(gain) + v**2 @ s + 0.5 * betas @ (sent + s - 1 - np.log(s))
    to_gain = 2 * (data.correlation @ gain - data.cross)
    to_w = to_gain * v[data.device] + betas[data.device] * w
    to_v = np.bincount(data.device, to_gain * w, J) + 2 * v * s
    to_theta = 2 * theta * (v**2 + betas / 2 * (1 - 1 / s))
    return float(value), np.concatenate([to_w, to_v, to_theta])


def lost(data: Sources, system: DistributedResponse, device: int) -> tuple[float, float]:
    """Compute the distortion once nothing arrives from one device.

    Args:
        device: the lost one, from 0.

    Returns:
        D where the network keeps its other weights and takes 0 for what is lost, and D where it
        knows of the loss and has the best weights for the rest.

    Raises:
        ValueError: there is no such device.
    """
    mend = f"give a device from 0 to {data.devices - 1}"
    require(0 <= device < data.devices, "device", device, mend)
    rest = np.arange(data.devices) != device
    kept = data.error(np.where(rest[data.device], system.gain, 0.0))
    kept += float((system.decoder**2 * system.received_variance)[rest].sum())
    heard = np.flatnonzero(rest & (system.decoder > 0))
    # One unit direction a device, (d, heard), and its noise per unit of sent power.
    axes = np.where(data.device[:, None] == heard, system.gain[:, None], 0.0)
    axes = axes / np.linalg.norm(axes, axis=0)
    ratio = system.received_variance[heard] / system.sent_power[heard]
    cross = axes.T @ data.cross
    together = axes.T @ data.correlation @ axes + np.diag(ratio)
    return kept, float(data.power - cross @ np.linalg.solve(together, cross))
