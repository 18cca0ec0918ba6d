"""Cramér–Rao bounds on the error of an estimated propagation time, in nanoseconds.

A Cramér–Rao bound is the smallest standard deviation that an unbiased estimator can have. The
three bounds differ in what the estimator knows: `one_path_bound` assumes a single path,
`multipath_bound` any number of unknown paths, and `known_shape_bound` a channel of which only
the delay and one phase are unknown.
"""

import numpy as np
from jaxtyping import Complex, Float

from hvib.ranging.estimators import Delays, unthreaded
from hvib.ranging.simulate import Link, Paths, response


def _noise_power(link: Link, snr_db: float) -> float:
    """Return the noise variance σ² of one tone with which the bounds reckon.

    On a two-way link the two ends read H e^{jθ} and H e^{−jθ}, each with noise of its own. What
    they say about the oscillators' phase θ is orthogonal to what they say about the phase of H,
    so an unknown θ costs nothing. Both readings together are worth one reading of H at half the
    noise variance.
    """
    return 10 ** (-snr_db / 10) / (2 if link.two_way else 1)


def one_path_bound(link: Link, snr_db: float, power: float = 1.0) -> float:
    """Compute the Cramér–Rao bound for a channel of one path with an unknown complex gain.

    The bound is var τ ≥ σ² / (8π² A P Σ_k (f_k − f̄)²) for A antennas, path power P and noise
    variance σ² on each tone. An unknown angle of arrival does not change it.

    Args:
        snr_db: power of 1 over the noise power of one tone, in dB.
        power: P, the path's power.

    Returns:
        The smallest standard deviation of the delay, in ns.
    """
    spread = ((link.offsets_hz - link.offsets_hz.mean()) ** 2).sum()
    information = 8 * np.pi**2 * link.antennas * power * spread
    return float(1e9 * np.sqrt(_noise_power(link, snr_db) / information))


def _residual_bound(
    column: Complex[np.ndarray, "N R"], others: Complex[np.ndarray, "N R Q"], noise: float
) -> Delays:
    """Return √[J⁻¹]₁₁ for the information matrix J = (2/σ²) Re GᴴG of the unknowns.

    G has the derivatives of the response as columns, first the one by the delay. Only the part
    of that column which no real combination of the other columns explains bears information, and
    its length is the last diagonal entry of R in a QR decomposition with the column put last.

    Args:
        column: derivative of the response by the delay in ns.
        others: derivatives by all Q other unknowns.
        noise: σ², the noise variance of one tone.

    Returns:
        Standard deviations in ns; infinite where there are more unknowns than real numbers
        measured.
    """
    whole = np.concatenate([others, column[:, :, None]], 2)  # (N, R, Q + 1)
    # The unknowns are real, so real and imaginary parts count as separate measurements.
    real = np.concatenate([whole.real, whole.imag], 1)  # (N, 2R, Q + 1)
    if real.shape[2] > real.shape[1]:
        return np.full(len(real), np.inf)
    # QR of G, not the inverse of GᴴG: squaring G would lose twice the digits on close paths.
    last = np.abs(np.linalg.qr(real, mode="r")[:, -1, -1])  # type: ignore[call-overload]
    # The floor turns a column that the others explain completely into a huge bound, not 1/0.
    return np.sqrt(noise / 2) / np.maximum(last, 1e-300)


@unthreaded
def multipath_bound(paths: Paths, link: Link, snr_db: float) -> Delays:
    """Compute the Cramér–Rao bound of each channel with all gains, delays and angles unknown.

    The bound holds for unbiased estimators that do not know how channels are distributed. It is
    large where paths lie closer than the tones resolve. An estimator that does know the
    distribution can be below it there; `known_shape_bound` limits such an estimator.

    Args:
        snr_db: power of 1 over the noise power of one tone, in dB.

    Returns:
        The smallest standard deviation of the first path's delay in ns for each of the N
        channels, infinite where a channel has no first path.
    """
    result = np.full(len(paths), np.inf)
    present = paths.gain != 0
    count = np.where(present[:, 0], present.sum(1), 0)
    # Channels with equally many paths have equally many unknowns, so they form one stack.
    for number in np.unique(count[count > 0]):
        rows = np.flatnonzero(count == number)
        # The sort is stable so that the first path stays first; a gain of 0 marks an absent path.
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
    """Differentiate the response by each unknown of the channel.

    The R = A·K rows are all antennas and tones. The Q other unknowns are the P real and P
    imaginary parts of the gains, the P − 1 other delays and, with several antennas, the P angles.

    Returns:
        The derivative by the first delay in ns, and the derivatives by all other unknowns.
    """
    tones, antennas = link.frequencies_hz * 1e-9, np.arange(link.antennas)[:, None]
    turns = tones[None, None, :, None] * tau[:, None, None, :]  # (N, 1, K, P)
    turns = turns + link.steering * antennas[None, :, :, None] * sine[:, None, None, :]
    one = np.exp(-2j * np.pi * turns)  # (N, A, K, P)
    path = -2j * np.pi * one * gain[:, None, None, :]
    # Using offsets from the first tone drops a multiple of `path`, which the gains' columns
    # span anyway; the bound is the same, and the smaller numbers lose fewer digits.
    moved = (tones - tones[0])[:, None] * path
    others = [one, 1j * one, moved[..., 1:]]
    if link.antennas > 1:
        others.append(antennas[:, :, None] * path)  # (N, A, K, P), up to a constant
    flat = [part.reshape(len(tau), link.antennas * link.tones, -1) for part in others]
    return moved[..., 0].reshape(len(tau), -1), np.concatenate(flat, 2)  # (N, A·K); (N, A·K, Q)


def known_shape_bound(paths: Paths, link: Link, snr_db: float) -> Delays:
    """Compute the bound of each channel where only the delay and one common phase are unknown.

    The estimator is told the excess delays, the angles and the gains. Its bound therefore also
    limits estimators that have learnt how channels are distributed, such as a trained network:
    over many channels their mean squared error is at least the mean of the squared bound. This
    holds as long as the errors are small against the range of delays.

    Args:
        snr_db: power of 1 over the noise power of one tone, in dB.

    Returns:
        The smallest standard deviation in ns for each of the N channels.
    """
    h = response(paths, link).reshape(len(paths), -1).astype(complex)  # (N, A·K)
    # Offsets suffice, because the unknown phase absorbs the turn that all tones share.
    tones = np.tile(link.offsets_hz * 1e-9, link.antennas)
    return _residual_bound(-2j * np.pi * tones * h, 1j * h[:, :, None], _noise_power(link, snr_db))
