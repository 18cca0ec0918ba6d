"""The mean of a delay's posterior distribution where a channel's statistics are known.

This is the classical counterpart of a trained network: it is told in formulas what the network
learns from examples, how channels are distributed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from threadpoolctl import threadpool_limits

from hvib.check import require
from hvib.ranging.roots import Delays, one_way, roots
from hvib.ranging.simulate import SPEED_OF_LIGHT, Link, Measurements, Multipath

# Threads inside the factorisation of one small matrix make it up to 100 times slower.
unthreaded = threadpool_limits.wrap(limits=1, user_api="blas")

INDOORS = Multipath()
"""the statistics with which the channels of the ranging tasks are simulated"""

LEVELS = tuple(10 ** (-db / 10) for db in range(0, 50, 5))
"""noise variances over the power of the response; each response takes the likeliest"""


def reflected_covariance(multipath: Multipath, link: Link) -> Complex[np.ndarray, "K K"]:
    """Covariance over the tones of all reflections, for a first path that arrives at delay 0.

    By Campbell's theorem it is the transform of `arrivals_per_ns` · `Multipath.mean_power` over
    the excess delay t, here in closed form: with the decay time T, the longest delay M and the
    rate z = 1/T + j2π(f_k − f_l), it is in proportion to (1 − e^{−zM}) / z.
    """
    apart = 1e-9 * (link.offsets_hz[:, None] - link.offsets_hz[None, :])  # (K, K), in GHz
    rate = 1 / multipath.decay_ns + 2j * np.pi * apart
    shape = -np.expm1(-rate * multipath.max_excess_ns) / rate
    return (1 - multipath.first_power) * shape / shape[0, 0].real


@dataclass(frozen=True)
class _Model:
    """What the likelihood needs at one level of noise, without the delay."""

    inverse: Complex[np.ndarray, "K K"]
    """T⁻¹, of the covariance T of reflections and noise"""
    filter: Complex[np.ndarray, " K"]
    """T⁻¹ 1, the filter that is matched to the first path"""
    gain: float
    """P / (1 + P 1ᴴT⁻¹1), with the power P of the first path"""
    logdet: float
    """log det (T + P 1 1ᴴ)"""


def _model(reflected: Complex[np.ndarray, "K K"], first: float, level: float) -> _Model:
    covariance = reflected + level * np.eye(len(reflected))
    inverse = np.linalg.inv(covariance)
    matched = inverse.sum(1)
    told = 1 + first * float(matched.sum().real)
    logdet = float(np.linalg.slogdet(covariance)[1] + np.log(told))
    return _Model(inverse, matched, first / told, logdet)


def _log_likelihood(
    h: Complex[np.ndarray, "N A K"], model: _Model, turns: Complex[np.ndarray, "K G"]
) -> Float[np.ndarray, "N G"]:
    """The logarithm of the likelihood of each delay of a grid.

    With R the covariance of one antenna's response without its delay, and D(τ) the turns of its
    tones by the delay, that is −A K log Σ_a h_aᴴ D R⁻¹ Dᴴ h_a − A log det R: the power of the
    response is unknown, and is integrated over.

    Args:
        turns: exp(j2π f_k τ) of the tones at the delays of the grid.
    """
    number, antennas, tones = h.shape
    sums = np.empty((number, tones), complex)
    # The quadratic form with T⁻¹ is a Fourier series in τ, with a coefficient for each distance
    # between two tones; negative distances add the complex conjugate.
    for lag in range(tones):
        products = (h[..., lag:] * h[..., : tones - lag].conj()).sum(1)  # (N, K − lag)
        sums[:, lag] = products.conj() @ np.diagonal(model.inverse, -lag) * (2 if lag else 1)
    form = sums.real @ turns.real + sums.imag @ turns.imag  # (N, G)
    matched = (h * model.filter.conj()) @ turns  # (N, A, G)
    form = form - model.gain * (matched.real**2 + matched.imag**2).sum(1)
    return -antennas * (tones * np.log(form) + model.logdet)


def _candidates(measured: Measurements, count: int) -> Complex[np.ndarray, "N B A K"]:
    """One-way responses of unit power: B likely roots of each product, or the one response."""
    h = measured.response.astype(complex)
    if measured.link.two_way:
        h = roots(h, count).response[:, :, None] if h.ndim == 2 else one_way(h)[:, None]
    else:
        h = h.reshape(len(h), 1, -1, h.shape[-1])
    power = (np.abs(h) ** 2).mean((2, 3), keepdims=True)
    require(bool((power > 0).all()), "measured", "a response of zeros", "leave it out")
    return h / np.sqrt(power)


def posterior_mean(
    measured: Measurements,
    multipath: Multipath = INDOORS,
    *,
    step_ns: float = 0.1,
    count: int = 8,
    chunk: int = 250,
) -> Delays:
    """Estimate delays by the mean of their posterior distribution.

    The gains of all paths are taken for complex Gaussian, which makes the response Gaussian with
    a covariance that is known but for the delay: `Multipath.first_power` times a matrix of ones,
    `reflected_covariance`, and noise. Before the measurement the delay is uniform over the
    distances of `multipath`. The noise is unknown; each response takes the likeliest of `LEVELS`.
    Of a two-way product the posterior sums over the likeliest roots. Antennas count as
    independent. Among all estimators the exact posterior mean has the smallest mean squared
    error; this one falls short of it as far as the gains are not Gaussian.

    Args:
        multipath: the statistics of the channels.
        step_ns: step of the grid of delays.
        count: number of roots of a product over which the posterior sums.
        chunk: number of responses that one thread handles at once, which bounds the memory.

    Returns:
        N delays in ns.

    Raises:
        ValueError: a response is zero at all tones.
    """
    link = measured.link
    reflected, first = reflected_covariance(multipath, link), multipath.first_power
    models = [_model(reflected, first, level) for level in LEVELS]
    low, high = (d / SPEED_OF_LIGHT for d in (multipath.min_distance_m, multipath.max_distance_m))
    delays = np.linspace(low, high, 2 + int((high - low) / step_ns))
    turns = np.exp(2e-9j * np.pi * link.offsets_hz[:, None] * delays)  # (K, G)

    def part(begin: int) -> Delays:
        h = _candidates(measured[begin : begin + chunk], count)
        return _mean(h, models, turns, delays)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(part, range(0, len(measured), chunk))))


def _mean(
    h: Complex[np.ndarray, "N B A K"],
    models: list[_Model],
    turns: Complex[np.ndarray, "K G"],
    delays: Float[np.ndarray, " G"],
) -> Delays:
    """The posterior means of one chunk of responses."""
    # One root and a fifth of the delays tell the level of the noise.
    coarse = np.stack([_log_likelihood(h[:, 0], m, turns[:, ::5]).max(1) for m in models])
    level = coarse.argmax(0)
    found = np.empty(len(h))
    for at in np.unique(level):
        rows = np.flatnonzero(level == at)
        each = [_log_likelihood(root, models[at], turns) for root in h[rows].swapaxes(0, 1)]
        score = np.stack(each)  # (B, N, G)
        weights = np.exp(score - score.max((0, 2), keepdims=True)).sum(0)
        found[rows] = weights @ delays / weights.sum(1)
    return found
