"""Take the root of a two-way product: decide the sign of each tone by the response's smoothness.

A product H² says nothing about the sign of H, and each tone could have either. Only one choice of
signs makes a response that is smooth over the tones, as the response of paths that arrive within
a short time is.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

Delays = Float[np.ndarray, " N"]
"""N delays, or standard deviations of delays, in ns"""

Responses = Complex[np.ndarray, "N *A K"]
"""N complex responses over K tones, with an axis of A antennas before them if several"""


class Prior(NamedTuple):
    """What the search of signs supposes of a response."""

    flat: bool
    """whether the power is the same over a range of delays, or decays exponentially"""
    spread: float
    """root mean square of the delays about their mean, as a share of 1/spacing"""
    level: float
    """noise variance over the power of the response"""


PRIORS = (
    *(Prior(False, 0.02, level) for level in (0.003, 0.03, 0.3)),
    *(Prior(True, 0.08, level) for level in (0.003, 0.03)),
)
"""what `roots` may suppose; each product takes the prior under which its root is the likeliest

The first three fit indoor channels at tones 1 MHz apart, the flat ones any paths within 28% of the
range.
"""


def mean_turn(h: Responses) -> Float[np.ndarray, "N *A 1"]:
    """The mean turn of the phase from tone to tone in radians, one for all antennas.

    It is read as that of a delay between −1/10 and 9/10 of the unambiguous range, so that noise
    on a delay near 0 does not move it to the far end of the range.
    """
    over = tuple(range(1, h.ndim))
    mean = (h[..., 1:] * h[..., :-1].conj()).sum(over, keepdims=True)
    # Angles in [−1.8π, 0.2π): a delay turns the phase backwards.
    return (np.angle(mean) + 1.8 * np.pi) % (2 * np.pi) - 1.8 * np.pi


class Roots(NamedTuple):
    """The B likeliest roots of each of N products, the likeliest first."""

    response: Complex[np.ndarray, "N B K"]
    """the roots, with one of the two signs that the whole root may have"""
    surprise: Float[np.ndarray, "N B"]
    """the negative logarithm of each root's likelihood, up to a constant"""


def one_way(product: Responses) -> Responses:
    """Recover one direction's response from a two-way product by a root :cite:`helwa2023bridging`.

    The product is H², and the sign of each tone's root is decided as `roots` does. The sign of
    the whole response stays unknown, but no delay depends on it.
    """
    rows = product.reshape(-1, product.shape[-1])
    turn = np.broadcast_to(mean_turn(product), (*product.shape[:-1], 1)).reshape(-1, 1)
    return _roots(rows, turn, 1).response[:, 0].reshape(product.shape)


def tracked(product: Responses) -> Responses:
    """Take the root of a product by unwrapping its phase and halving it, tone by tone.

    This loses the sign where the product's phase turns by more than half a cycle from one tone to
    the next, as it does in a deep fade. It is here to be compared with `one_way`.
    """
    steady = mean_turn(product) * np.arange(product.shape[-1])
    rest = np.unwrap(np.angle(product * np.exp(-1j * steady)), axis=-1)
    return np.sqrt(np.abs(product)) * np.exp(0.5j * (steady + rest))


def roots(product: Complex[np.ndarray, "N K"], count: int = 8) -> Roots:
    """Find the likeliest one-way responses whose square is a measured two-way product.

    Without its mean delay a response is taken for a stationary Gaussian process over the tones.
    The likelihood of a choice of signs is then the product of those of the errors of linear
    prediction. The choices are searched tone by tone: each choice that is kept is continued with
    either sign, and the likeliest of the continued ones are kept.

    The prediction carries the response through a deep fade, where its phase may turn by half a
    cycle from one tone to the next. Unwrapping the product's phase loses the sign there.

    Args:
        product: H² of one antenna.
        count: B, the number of roots; fewer are returned of very few tones.
    """
    return _roots(product, mean_turn(product), count)


def _roots(
    product: Complex[np.ndarray, "N K"], turn: Float[np.ndarray, "N 1"], count: int
) -> Roots:
    """`roots`, where `turn` is the mean turn of the product's phase from tone to tone."""
    steady = np.exp(0.5j * turn * np.arange(product.shape[1]))  # (N, K)
    root = np.sqrt(product / steady**2)
    size = np.sqrt((np.abs(root) ** 2).mean(1, keepdims=True))  # (N, 1)
    root = root / np.where(size > 0, size, 1)  # a silent response stays 0
    best, *others = (_search(root, count, prior) for prior in PRIORS)
    for other in others:
        likelier = other.surprise[:, :1] < best.surprise[:, :1]
        best = Roots(
            np.where(likelier[:, :, None], other.response, best.response),
            np.where(likelier, other.surprise, best.surprise),
        )
    return Roots(best.response * (size * steady)[:, None], best.surprise)


@functools.cache
def _predictor(prior: Prior, tones: int) -> tuple[Complex[np.ndarray, " Q"], float]:
    """The linear prediction of a tone from the Q = `tones` before it, oldest first.

    Returns:
        The weights of these tones, and the variance of the prediction's error.
    """
    lag = np.arange(tones + 1)
    turns = 2j * np.pi * prior.spread * lag
    # The transforms of an exponential and of a constant density, both of mean 0.
    decaying, flat = np.exp(turns) / (1 + turns), np.sinc(2 * np.sqrt(3) * prior.spread * lag)
    wanted = flat + 0j if prior.flat else decaying
    apart = lag[:tones, None] - lag[None, :tones]
    covariance = np.where(apart >= 0, wanted[np.abs(apart)], wanted[np.abs(apart)].conj())
    across = wanted[tones - lag[:tones]]
    weights = np.linalg.solve(covariance.T + prior.level * np.eye(tones), across)
    return weights, float(1 + prior.level - (weights @ across.conj()).real)


def _search(
    root: Complex[np.ndarray, "N K"], count: int, prior: Prior, memory: int = 24, beam: int = 8
) -> Roots:
    """Search the signs of all tones under one prior.

    Args:
        root: a root of each tone, of either sign, without the mean delay and of mean power 1.
        memory: the number of tones from which the next is predicted.
        beam: the number of choices of signs that are kept from tone to tone.
    """
    number, tones = root.shape
    rows, beam = np.arange(number)[:, None], max(beam, count)
    # The first tone's sign is free: it is the sign of the whole response.
    recent = root[:, None, :1]  # (N, B, Q), signed
    surprise = np.abs(root[:, :1]) ** 2 / (1 + prior.level) + np.log(1 + prior.level)
    steps = []
    for tone in range(1, tones):
        weights, variance = _predictor(prior, recent.shape[2])
        predicted = recent @ weights.astype(root.dtype)  # (N, B)
        ends = root[:, tone, None] * np.array([1, -1])[:, None, None]  # (2, N, 1)
        errors = np.abs(ends - predicted) ** 2 / variance + np.log(variance)
        both = np.concatenate(list(surprise + errors), 1)  # (N, 2B), first those of sign +
        kept = np.argsort(both, axis=1)[:, :beam]
        surprise = both[rows, kept]
        before, sign = kept % recent.shape[1], np.where(kept < recent.shape[1], 1, -1)
        steps.append((before, sign))
        known = recent[rows, before][:, :, -memory + 1 :]
        recent = np.concatenate([known, (sign * root[:, tone, None])[:, :, None]], 2)
    at = np.broadcast_to(np.arange(surprise.shape[1]), surprise.shape)[:, :count]
    signs = np.ones((number, at.shape[1], tones), np.int8)
    # Back from the last tone: which choice of signs each of the best ones continues.
    for tone, (before, sign) in zip(range(tones - 1, 0, -1), reversed(steps), strict=True):
        signs[:, :, tone] = sign[rows, at]
        at = before[rows, at]
    return Roots(signs * root[:, None], surprise[:, :count])
