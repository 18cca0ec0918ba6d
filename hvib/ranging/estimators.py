"""Classical estimators of a propagation time from measured channel responses.

An estimator takes complex one-way responses, (N, tones) or (N, antennas, tones), and returns N
delays in nanoseconds. A two-way product is first converted by `hvib.ranging.roots.one_way`. The
defaults of all settings come from the RMSE on 10,000 simulated validation responses of `BLUETOOTH`
and of `WIFI`, and are within 2% of the best that was tried on either. Of thresholds that are as
good, the highest is taken, since noise passes for a path less often then.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Complex, Float
from numpy.lib.stride_tricks import sliding_window_view

from hvib.check import require
from hvib.ranging.posterior import posterior_mean, unthreaded
from hvib.ranging.roots import Delays, Responses, mean_turn, one_way
from hvib.ranging.simulate import Measurements


def _unwrapped(h: Responses) -> Float[np.ndarray, "N *A K"]:
    """Unwrap the phase along the tones, in radians, about its mean turn from tone to tone."""
    steady = mean_turn(h) * np.arange(h.shape[-1])  # (N, 1, K), or (N, K)
    # Without the steady turn neighbouring tones differ little, so unwrapping rarely errs.
    return steady + np.unwrap(np.angle(h * np.exp(-1j * steady)), axis=-1)


def directed(measured: Measurements) -> Responses:
    """Return measured responses as one-way responses, whether the link is two-way or not."""
    return one_way(measured.response) if measured.link.two_way else measured.response


def _by_antenna(h: Responses) -> Complex[np.ndarray, "N A K"]:
    """Check responses and give them an axis of antennas.

    Raises:
        ValueError: h has another number of axes, fewer than 4 tones or a value that is not finite.
    """
    require(
        h.ndim in (2, 3) and h.shape[-1] >= 4 and bool(np.isfinite(h).all()),
        "h",
        h.shape,
        "give finite responses, (N, tones) or (N, antennas, tones), 4 tones at least",
    )
    h = h.astype(complex)
    return h[:, None] if h.ndim == 2 else h


def phase_slope(h: Responses, spacing_hz: float) -> Delays:
    """Estimate delays from the slope of the phase, by least squares over all antennas and tones.

    A tone is weighted by its power, because the variance of its phase is inversely proportional
    to that. One path has the phase φ_k = φ_0 − 2π f_k τ, for which this estimator meets its
    Cramér–Rao bound at high SNR. Reflections bias it towards the mean delay of all paths.

    Args:
        spacing_hz: distance between neighbouring tones.

    Returns:
        N delays in ns.

    Raises:
        ValueError: h is not finite responses of at least 4 tones, or it is 0 at all of them.
    """
    h = _by_antenna(h)
    phase, weight = _unwrapped(h), np.abs(h) ** 2
    total = weight.sum(2, keepdims=True)
    require(bool((total.sum(1) > 0).all()), "h", "a response of zeros", "leave it out")
    # Tones centred for each antenna make the slope independent of its unknown phase φ_0.
    k = np.arange(h.shape[2])
    centred = k - (weight * k).sum(2, keepdims=True) / np.where(total > 0, total, 1)
    slope = (weight * centred * phase).sum((1, 2)) / (weight * centred**2).sum((1, 2))
    return -slope / (2 * np.pi * spacing_hz) * 1e9


def _refined(score: Float[np.ndarray, "N G"], at: np.ndarray) -> Float[np.ndarray, " N"]:
    """Place peaks between grid points, at the top of the parabola through three neighbours.

    Args:
        score: values on a periodic grid of G points.
        at: index of one peak in each row.

    Returns:
        Positions in grid points, at most half a point from `at`.
    """
    rows = np.arange(len(score))
    left, mid, right = (score[rows, (at + d) % score.shape[1]] for d in (-1, 0, 1))
    curvature = left - 2 * mid + right
    shift = 0.5 * (left - right) / np.where(curvature == 0, -1, curvature)
    return at + np.clip(shift, -0.5, 0.5)


def _peaks(score: Float[np.ndarray, "N G"]) -> np.ndarray:
    """Mark the peaks of a periodic score, (N, G).

    A peak is higher than its left neighbour and no lower than its right one, so that a plateau
    of two equal values counts once.
    """
    return (score > np.roll(score, 1, 1)) & (score >= np.roll(score, -1, 1))


def inverse_fft(
    h: Responses, spacing_hz: float, *, threshold_db: float = -7.0, pad: int = 16
) -> Delays:
    """Estimate delays by the first high peak of the zero-padded inverse FFT.

    A peak counts as high if its power, averaged over the antennas, is within the threshold of the
    highest peak's.

    Args:
        spacing_hz: distance between neighbouring tones.
        threshold_db: power of the weakest peak that counts, relative to the highest peak.
        pad: length of the transform, as a multiple of the number of tones.

    Returns:
        N delays in ns.

    Raises:
        ValueError: h is not finite responses of at least 4 tones.
    """
    h = _by_antenna(h)
    length = pad * h.shape[-1]
    # A delay turns the tones by exp(−j2πfτ), which the inverse transform's sign undoes. No taper:
    # that would widen the main lobe. Its side lobes of −13 dB lie below the default threshold.
    power = (np.abs(np.fft.ifft(h, length)) ** 2).mean(1)  # (N, G)
    high = power >= 10 ** (threshold_db / 10) * power.max(1, keepdims=True)
    # The last cell of the range comes first: noise moves a delay near 0 to just below 0.
    first = np.argmax(np.roll(_peaks(power) & high, pad, axis=1), axis=1) - pad
    return _refined(power, first) / (length * spacing_hz) * 1e9


def smoothed_covariance(
    h: Complex[np.ndarray, "N A K"], subarray: int
) -> Complex[np.ndarray, "N L L"]:
    """Average the covariance over shifted subarrays of L tones :cite:`pillai1989forward`.

    Reflections of one signal are coherent, so the covariance of a single response has rank one.
    Averaging over the S = K − L + 1 shifts, over the antennas, and over both directions of the
    tones restores the rank that separates the paths.

    Args:
        subarray: L, the number of tones in a subarray.
    """
    windows = sliding_window_view(h, subarray, axis=-1)  # (N, A, S, L)
    rows = windows.reshape(len(h), -1, subarray)  # (N, A·S, L)
    forward = rows.swapaxes(1, 2) @ rows.conj() / rows.shape[1]  # (N, L, L)
    # Reversing the tones and conjugating maps the response of a delay onto one of that delay.
    return 0.5 * (forward + forward[:, ::-1, ::-1].conj())


def model_order(eigenvalues: Float[np.ndarray, "N L"], snapshots: int) -> Float[np.ndarray, " N"]:
    """Estimate the number of paths by minimum description length :cite:`wax1985detection`.

    A forward–backward covariance of k paths has k(2L − k + 1)/2 free parameters, about half as
    many as a covariance without that symmetry :cite:`xu1994detection`.

    Args:
        eigenvalues: of the covariance, ascending.
        snapshots: number of vectors that the covariance averages.

    Returns:
        A number from 0 to L − 1 for each response.
    """
    size = eigenvalues.shape[1]
    # Rounding leaves eigenvalues at or below 0 in a noiseless covariance; the logarithm needs > 0.
    values = np.maximum(eigenvalues, 1e-12 * eigenvalues[:, -1:])
    smallest = np.arange(size, 0, -1)  # noise eigenvalues, for 0 … L − 1 paths
    # The eigenvalues ascend, so a running sum read backwards covers the L − k smallest for each k.
    log_geometric = np.cumsum(np.log(values), 1)[:, ::-1] / smallest  # (N, L)
    log_arithmetic = np.log(np.cumsum(values, 1)[:, ::-1] / smallest)
    paths = np.arange(size)
    penalty = 0.25 * paths * (2 * size - paths + 1) * np.log(snapshots)
    lengths = snapshots * smallest * (log_arithmetic - log_geometric) + penalty
    return np.argmin(lengths, axis=1)


@unthreaded
def music(
    h: Responses,
    spacing_hz: float,
    *,
    subarray: float = 0.55,
    threshold_db: float = -10.0,
    pad: int = 32,
    chunk: int = 500,
) -> Delays:
    """Estimate delays by MUSIC :cite:`schmidt1986multiple`, as the first path near the strongest.

    The eigenvectors of the smoothed covariance split into signal and noise, with as many signal
    vectors as `model_order` finds paths. The candidate delays are those whose tones are most
    nearly orthogonal to the noise vectors, and their gains follow by least squares. The first
    candidate whose gain is within the threshold of the largest is the estimate. Antennas serve as
    further snapshots; angles are not estimated.

    Args:
        spacing_hz: distance between neighbouring tones.
        subarray: length of a subarray as a share of the tones.
        threshold_db: power of the weakest path that counts, relative to the strongest path.
        pad: points of the delay grid, as a multiple of the number of tones.
        chunk: number of responses that one thread handles at once, which bounds the memory.

    Returns:
        N delays in ns.

    Raises:
        ValueError: h is not finite responses of at least 4 tones, or `subarray` is out of range.
    """
    # Both directions give 2(K − L + 1) vectors, fewer than L for longer subarrays of one antenna.
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
    """Run MUSIC on one chunk of responses.

    Args:
        size: L, the number of tones in a subarray.
        threshold_db: power of the weakest path that counts, relative to the strongest path.
        length: G, the number of grid points over the unambiguous range.

    Returns:
        Delays in grid points.
    """
    covariance = smoothed_covariance(h, size)  # (N, L, L)
    eigenvalues, vectors = np.linalg.eigh(covariance)  # (N, L); (N, L, L), vectors in columns
    snapshots = h.shape[1] * (h.shape[2] - size + 1)
    # At least one path, and at least one vector for the noise.
    order = np.clip(model_order(eigenvalues, snapshots), 1, size - 1)
    noise = vectors * (np.arange(size) < size - order[:, None])[:, None, :]
    projector = noise @ noise.conj().swapaxes(1, 2)  # Π, (N, L, L)
    # aᴴ(τ) Π a(τ) is a Fourier series in τ whose coefficients are the sums of Π's diagonals. Π is
    # Hermitian, so the upper diagonals suffice: they give half of it, up to a constant.
    sums = np.stack([np.trace(projector, d, 1, 2) for d in range(size)], 1)  # (N, L)
    # The minus sign turns the zeros that MUSIC looks for into peaks.
    score = -np.fft.fft(sums, length, axis=1).real  # (N, G)
    delays, kept = _deepest(score, order, length // h.shape[2])
    return _first_strong(h, delays, kept, length, threshold_db)


def _deepest(
    score: Float[np.ndarray, "N G"], order: np.ndarray, cell: int
) -> tuple[Float[np.ndarray, "N D"], np.ndarray]:
    """Find the highest peaks of each score.

    Args:
        score: values on a periodic grid, one row for each response.
        order: number of peaks wanted in each row.
        cell: grid points of a cell of resolution; the last cell of the range is read as the one
            below 0, because noise moves a delay near 0 to there.

    Returns:
        Positions in grid points, ascending, and which of them count: rows want different numbers
        of peaks, and some have fewer peaks than wanted.
    """
    most = int(order.max())
    ranked = np.where(_peaks(score), score, -np.inf)
    best = np.argsort(-ranked, axis=1)[:, :most]  # (N, D)
    rows = np.arange(len(score))[:, None]
    kept = (np.arange(most) < order[:, None]) & np.isfinite(ranked[rows, best])
    refined = np.stack([_refined(score, best[:, d]) for d in range(most)], 1)
    refined = np.where(refined >= score.shape[1] - cell, refined - score.shape[1], refined)
    # Infinite, so that sorting puts what does not count last.
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
    """Choose the first delay whose least-squares gain is near the largest.

    Args:
        delays: D candidates in grid points, ascending; infinite where `kept` is False.
        kept: which candidates count, (N, D).
        length: number of grid points over the unambiguous range.
        threshold_db: power of the weakest path that counts, relative to the strongest path.

    Returns:
        Delays in grid points, 0 where no candidate counts.
    """
    tones = np.arange(h.shape[2])  # (K,)
    # 0 for ∞, because ∞ · 0 is NaN.
    turns = np.where(kept, delays, 0)[:, None, :] / length * tones[:, None]  # (N, K, D)
    steering = np.exp(-2j * np.pi * turns) * kept[:, None, :]  # (N, K, D)
    across = steering.conj().swapaxes(1, 2)  # (N, D, K)
    # The ridge, 60 dB below a path's own power, keeps nearly equal delays solvable. A column that
    # does not count gets 1 on the diagonal, and with it gain 0.
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
"""the estimators by name; each takes one-way responses and the spacing of the tones in Hz"""


POSTERIOR = "posterior mean"
"""the name of the estimator that knows the statistics of the channels"""


def classical(measured: Measurements) -> dict[str, Delays]:
    """Apply each of `ESTIMATORS` to measured responses, and `posterior_mean`.

    Returns:
        N delays in ns for each name.
    """
    h, spacing = directed(measured), measured.link.spacing_hz
    found = {name: estimate(h, spacing) for name, estimate in ESTIMATORS.items()}
    return found | {POSTERIOR: posterior_mean(measured)}
