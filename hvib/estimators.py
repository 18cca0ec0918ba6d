"""Classical estimators of a propagation time, and the Cramér–Rao bounds on any.

Estimators take complex responses, the tones on the last axis and the antennas, if there are
several, before it, and give nanoseconds. A two-way product goes through `one_way` first.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Complex, Float
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from hvib.config import require
from hvib.ranging import Link, Measurements, Paths, response

# Threads inside the factorisation of one small matrix make it up to 100 times slower.
_unthreaded = threadpool_limits.wrap(limits=1, user_api="blas")

Delays = Float[np.ndarray, " N"]
Responses = Complex[np.ndarray, "N *A K"]


def _unwrapped(h: Responses) -> Float[np.ndarray, "N *A K"]:
    """Phase along the tones, unwrapped about its mean turn from tone to tone.

    That turn is taken as of a delay between −1/10 and 9/10 of the unambiguous range.
    """
    over = tuple(range(1, h.ndim))
    mean = (h[..., 1:] * h[..., :-1].conj()).sum(over, keepdims=True)
    turn = (np.angle(mean) + 1.8 * np.pi) % (2 * np.pi) - 1.8 * np.pi
    steady = turn * np.arange(h.shape[-1])
    return steady + np.unwrap(np.angle(h * np.exp(-1j * steady)), axis=-1)


def one_way(product: Responses) -> Responses:
    """One direction's response from a two-way product: the root :cite:`helwa2023bridging`.

    Its sign is tracked by unwrapping the phase of the product before halving it. That is wrong
    only across a deep fade, where the product turns by over π from one tone to the next; over
    all tones the sign stays unknown, which no delay depends on.
    """
    return np.sqrt(np.abs(product)) * np.exp(0.5j * _unwrapped(product))


def directed(measured: Measurements) -> Responses:
    """Measured responses as one-way ones, whatever the link."""
    return one_way(measured.response) if measured.link.two_way else measured.response


def _by_antenna(h: Responses) -> Complex[np.ndarray, "N A K"]:
    require(
        h.ndim in (2, 3) and h.shape[-1] >= 4 and bool(np.isfinite(h).all()),
        "h",
        h.shape,
        "give finite responses, (N, tones) or (N, antennas, tones), 4 tones at least",
    )
    h = h.astype(complex)
    return h[:, None] if h.ndim == 2 else h


def phase_slope(h: Responses, spacing_hz: float) -> Delays:
    """Least-squares slope of the unwrapped phase over frequency, mean over the antennas.

    One path has φ_k = φ_0 − 2π f_k τ, and this estimate meets its bound at high SNR. With
    reflections it is drawn to the mean delay.
    """
    phase = _unwrapped(_by_antenna(h))
    k = np.arange(phase.shape[-1]) - (phase.shape[-1] - 1) / 2
    slope = (phase @ k / (k @ k)).mean(1)
    return -slope / (2 * np.pi * spacing_hz) * 1e9


def _refined(score: Float[np.ndarray, "N G"], at: np.ndarray) -> Float[np.ndarray, " N"]:
    """Positions of peaks between grid points: the top of the parabola through three of them."""
    rows = np.arange(len(score))
    left, mid, right = (score[rows, (at + d) % score.shape[1]] for d in (-1, 0, 1))
    curvature = left - 2 * mid + right
    shift = 0.5 * (left - right) / np.where(curvature == 0, -1, curvature)
    return at + np.clip(shift, -0.5, 0.5)


def _peaks(score: Float[np.ndarray, "N G"]) -> np.ndarray:
    """Where a periodic score is higher than at its left and no lower than at its right."""
    return (score > np.roll(score, 1, 1)) & (score >= np.roll(score, -1, 1))


def inverse_fft(
    h: Responses, spacing_hz: float, *, threshold_db: float = -8.0, pad: int = 16
) -> Delays:
    """First peak of the zero-padded inverse FFT that is near the highest.

    The tones are not tapered: side lobes are 13 dB down, the main lobe is the narrowest.

    Args:
        threshold_db: how far below the highest peak the first may lie.
        pad: length of the transform over the number of tones.
    """
    h = _by_antenna(h)
    length = pad * h.shape[-1]
    power = (np.abs(np.fft.ifft(h, length)) ** 2).mean(1)
    high = power >= 10 ** (threshold_db / 10) * power.max(1, keepdims=True)
    first = np.argmax(_peaks(power) & high, axis=1)
    return _refined(power, first) / (length * spacing_hz) * 1e9


def smoothed_covariance(
    h: Complex[np.ndarray, "N A K"], subarray: int
) -> Complex[np.ndarray, "N L L"]:
    """Forward–backward smoothed covariance over subarrays of L tones :cite:`pillai1989forward`.

    Reflections of one signal are coherent, and one snapshot has a covariance of rank one;
    averaging over shifted subarrays, forwards and backwards, restores the rank.
    """
    windows = sliding_window_view(h, subarray, axis=-1)  # (N, A, S, L)
    rows = windows.reshape(len(h), -1, subarray)
    forward = rows.swapaxes(1, 2) @ rows.conj() / rows.shape[1]
    return 0.5 * (forward + forward[:, ::-1, ::-1].conj())


def model_order(eigenvalues: Float[np.ndarray, "N L"], snapshots: int) -> Float[np.ndarray, " N"]:
    """Number of paths by minimum description length :cite:`wax1985detection`.

    k paths leave k(2L − k + 1)/2 free numbers in a forward–backward covariance, about half as
    many as in another :cite:`xu1994detection`.

    Args:
        eigenvalues: of the covariance, ascending.
        snapshots: how many vectors it averages.
    """
    size = eigenvalues.shape[1]
    values = np.maximum(eigenvalues, 1e-12 * eigenvalues[:, -1:])
    smallest = np.arange(size, 0, -1)  # how many are left to noise, for 0 … L − 1 paths
    log_geometric = np.cumsum(np.log(values), 1)[:, ::-1] / smallest
    log_arithmetic = np.log(np.cumsum(values, 1)[:, ::-1] / smallest)
    paths = np.arange(size)
    penalty = 0.25 * paths * (2 * size - paths + 1) * np.log(snapshots)
    lengths = snapshots * smallest * (log_arithmetic - log_geometric) + penalty
    return np.argmin(lengths, axis=1)


@_unthreaded
def music(
    h: Responses,
    spacing_hz: float,
    *,
    subarray: float = 0.5,
    threshold_db: float = -10.0,
    pad: int = 32,
    chunk: int = 500,
) -> Delays:
    """MUSIC :cite:`schmidt1986multiple`: the first path that is near the strongest.

    The noise subspace of the smoothed covariance, model order by `model_order`, gives as many
    delays; their gains follow by least squares, and the first delay counts whose gain is
    within the threshold of the largest. Antennas are snapshots: angles are not estimated.

    Args:
        subarray: length of a subarray as a share of the tones.
        threshold_db: how far below the largest gain the first path's may lie.
        pad: points of the delay grid over the number of tones.
        chunk: responses at once by one thread; bounds the memory.
    """
    require(0 < subarray <= 2 / 3, "subarray", subarray, "give a share of the tones up to 2/3")
    h = _by_antenna(h)
    size = max(round(subarray * h.shape[-1]), 3)
    length = pad * h.shape[-1]

    def part(begin: int) -> Float[np.ndarray, " N"]:
        return _music(h[begin : begin + chunk], size, threshold_db, length)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = np.concatenate(list(pool.map(part, range(0, len(h), chunk))))
    return found / (length * spacing_hz) * 1e9


def _music(
    h: Complex[np.ndarray, "N A K"], size: int, threshold_db: float, length: int
) -> Float[np.ndarray, " N"]:
    """Delays on a grid of `length` points over the unambiguous range."""
    covariance = smoothed_covariance(h, size)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    snapshots = h.shape[1] * (h.shape[2] - size + 1)
    order = np.clip(model_order(eigenvalues, snapshots), 1, size - 1)
    noise = vectors * (np.arange(size) < size - order[:, None])[:, None, :]
    projector = noise @ noise.conj().swapaxes(1, 2)
    # aᴴ(τ) Π a(τ), but for a constant: its Fourier coefficients are the sums of Π's diagonals.
    sums = np.stack([np.trace(projector, d, 1, 2) for d in range(size)], 1)
    score = -np.fft.fft(sums, length, axis=1).real
    delays, kept = _deepest(score, order)
    return _first_strong(h, delays, kept, length, threshold_db)


def _deepest(
    score: Float[np.ndarray, "N G"], order: np.ndarray
) -> tuple[Float[np.ndarray, "N D"], np.ndarray]:
    """The `order` highest peaks of each score, in ascending position, and which count."""
    most = int(order.max())
    ranked = np.where(_peaks(score), score, -np.inf)
    best = np.argsort(-ranked, axis=1)[:, :most]
    rows = np.arange(len(score))[:, None]
    kept = (np.arange(most) < order[:, None]) & np.isfinite(ranked[rows, best])
    refined = np.stack([_refined(score, best[:, d]) for d in range(most)], 1)
    refined = np.where(kept, refined, np.inf)
    ascending = np.argsort(refined, axis=1)
    return refined[rows, ascending], kept[rows, ascending]


def _first_strong(
    h: Complex[np.ndarray, "N A K"],
    delays: Float[np.ndarray, "N D"],
    kept: np.ndarray,
    length: int,
    threshold_db: float,
) -> Float[np.ndarray, " N"]:
    """The first delay whose least-squares gain is near the largest."""
    tones = np.arange(h.shape[2])
    turns = np.where(kept, delays, 0)[:, None, :] / length * tones[:, None]
    steering = np.exp(-2j * np.pi * turns) * kept[:, None, :]  # (N, K, D)
    across = steering.conj().swapaxes(1, 2)
    ridge = 1e-6 * len(tones) * np.eye(delays.shape[1]) + np.eye(delays.shape[1]) * ~kept[:, None]
    gains = np.linalg.solve(across @ steering + ridge, across @ h.swapaxes(1, 2))  # (N, D, A)
    strength = (np.abs(gains) ** 2).mean(2) * kept
    strong = strength >= 10 ** (threshold_db / 10) * strength.max(1, keepdims=True)
    first = np.argmax(strong & kept, axis=1)
    return np.where(kept.any(1), delays[np.arange(len(h)), first], 0.0)


ESTIMATORS: dict[str, Callable[[Responses, float], Delays]] = {
    "phase slope": phase_slope,
    "inverse FFT": inverse_fft,
    "MUSIC": music,
}
"""By name, each of one-way responses and the tones' spacing in hertz."""


def classical(measured: Measurements) -> dict[str, Delays]:
    """What each of `ESTIMATORS` says of measured responses, in ns."""
    h, spacing = directed(measured), measured.link.spacing_hz
    return {name: estimate(h, spacing) for name, estimate in ESTIMATORS.items()}


def _noise_power(link: Link, snr_db: float) -> float:
    """Noise variance of a tone, as the bounds count it.

    Two-way, H = re^{jφ} is read with the phases φ + θ and φ − θ. What the two say of θ and of φ
    is orthogonal, so that θ costs nothing: they equal one direction at half the noise.
    """
    return 10 ** (-snr_db / 10) / (2 if link.two_way else 1)


def one_path_bound(link: Link, snr_db: float, power: float = 1.0) -> float:
    """Cramér–Rao bound on the standard deviation in ns, for one path of unknown complex gain.

    var τ ≥ σ² / (8π² A P Σ_k (f_k − f̄)²) for A antennas, path power P and noise variance σ² a
    tone; an unknown angle does not change it.
    """
    spread = ((link.offsets_hz - link.offsets_hz.mean()) ** 2).sum()
    information = 8 * np.pi**2 * link.antennas * power * spread
    return float(1e9 * np.sqrt(_noise_power(link, snr_db) / information))


def _residual_bound(
    column: Complex[np.ndarray, "N R"], others: Complex[np.ndarray, "N R Q"], noise: float
) -> Delays:
    """√[J⁻¹]₁₁ for J = (2/σ²) Re GᴴG: what of a column the other columns do not explain.

    By QR of G rather than the inverse of J, which loses twice the digits where paths are close.
    """
    whole = np.concatenate([others, column[:, :, None]], 2)
    real = np.concatenate([whole.real, whole.imag], 1)
    if real.shape[2] > real.shape[1]:  # more unknowns than numbers measured
        return np.full(len(real), np.inf)
    last = np.abs(np.linalg.qr(real, mode="r")[:, -1, -1])  # type: ignore[call-overload]
    return np.sqrt(noise / 2) / np.maximum(last, 1e-300)


@_unthreaded
def multipath_bound(paths: Paths, link: Link, snr_db: float) -> Delays:
    """Cramér–Rao bound in ns of each channel: all gains, delays and angles unknown.

    It holds for estimators without bias, which know nothing of how channels are distributed.
    Where paths lie closer than the tones resolve it is large, and one that knows the
    distribution can be below it: for such, `known_shape_bound`.
    """
    result = np.full(len(paths), np.inf)
    present = paths.gain != 0
    count = np.where(present[:, 0], present.sum(1), 0)
    for number in np.unique(count[count > 0]):  # as many paths, as many unknowns
        rows = np.flatnonzero(count == number)
        which = np.argsort(~present[rows], axis=1, kind="stable")[:, :number]
        tau, gain, sine = (
            np.take_along_axis(part[rows], which, 1)
            for part in (paths.delay_ns, paths.gain, paths.sine)
        )
        result[rows] = _residual_bound(*_columns(tau, gain, sine, link), _noise_power(link, snr_db))
    return result


def _columns(
    tau: Float[np.ndarray, "N P"],
    gain: Complex[np.ndarray, "N P"],
    sine: Float[np.ndarray, "N P"],
    link: Link,
) -> tuple[Complex[np.ndarray, "N R"], Complex[np.ndarray, "N R Q"]]:
    """Derivatives of the response by the first delay in ns, and by all other unknowns."""
    tones, antennas = link.frequencies_hz * 1e-9, np.arange(link.antennas)[:, None]
    turns = tones[None, None, :, None] * tau[:, None, None, :]
    turns = turns + link.steering * antennas[None, :, :, None] * sine[:, None, None, :]
    one = np.exp(-2j * np.pi * turns)  # (N, A, K, P)
    path = -2j * np.pi * one * gain[:, None, None, :]
    # A gain takes up a turn of all tones alike: their offsets suffice, and round less.
    moved = (tones - tones[0])[:, None] * path
    others = [one, 1j * one, moved[..., 1:]]
    if link.antennas > 1:
        others.append(antennas[:, :, None] * path)
    flat = [part.reshape(len(tau), link.antennas * link.tones, -1) for part in others]
    return moved[..., 0].reshape(len(tau), -1), np.concatenate(flat, 2)


def known_shape_bound(paths: Paths, link: Link, snr_db: float) -> Delays:
    """Bound in ns of each channel where all is known but the delay and one common phase.

    The excess delays, angles and gains are given away, so it binds estimators that know how
    channels are distributed, trained networks among them: over many channels no mean squared
    error is below the mean of its square, as far as errors are small against the range.
    """
    h = response(paths, link).reshape(len(paths), -1).astype(complex)
    tones = np.tile(link.offsets_hz * 1e-9, link.antennas)
    return _residual_bound(-2j * np.pi * tones * h, 1j * h[:, :, None], _noise_power(link, snr_db))
