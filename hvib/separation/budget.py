"""From bits to accuracy: what a coder achieves where each image has a budget of bits.

The budget is fixed for each image, as the block of a channel code is; bits that an image leaves
unused are lost. A coder has one setting, or two: then a bit says which one an image has, and those
that do not fit into the budget with the first have the second. An image that fits with neither is
answered wrongly. Settings are chosen on validation data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from hvib.check import require
from hvib.separation.capacity import capacity, finite_length, outage, small_code_error

Array = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Coded:
    """What one setting of a coder gave on one split.

    Args:
        setting: its name.
        bits: (N,), of each image.
        right: (N,), whether the class inferred from it is right.

    Raises:
        ValueError: bits and answers differ in number.
    """

    setting: str
    bits: Float[np.ndarray, " N"]
    right: Bool[np.ndarray, " N"]

    def __post_init__(self) -> None:
        shapes = (self.bits.shape, self.right.shape)
        require(
            shapes[0] == shapes[1], "shapes", shapes, "give bits and answers of the same images"
        )


class Choice(NamedTuple):
    """The settings that are chosen for a budget, by their places in a list; the second may miss."""

    first: int
    second: int | None


def accuracy(coded: Sequence[Coded], choice: Choice, budget: float) -> float:
    """The share of images that is answered rightly within the budget."""
    first = coded[choice.first]
    if choice.second is None:
        return float((first.right & (first.bits <= budget)).mean())
    second = coded[choice.second]
    fits, other = first.bits + 1 <= budget, second.bits + 1 <= budget
    return float(np.where(fits, first.right, other & second.right).mean())


def choose(coded: Sequence[Coded], budget: float) -> Choice:
    """The best settings for a budget on these data, which should be those of validation.

    One setting is preferred to two that are not better.

    Raises:
        ValueError: there is no setting.
    """
    require(len(coded) > 0, "coded", coded, "give at least one setting")
    alone = [accuracy(coded, Choice(k, None), budget) for k in range(len(coded))]
    fits = np.stack([one.bits + 1 <= budget for one in coded])  # (S, N)
    right = (fits & np.stack([one.right for one in coded])).astype(np.float32)
    # Row: the first setting, column: the second, for what does not fit with the first.
    pairs = (right.sum(1)[:, None] + (~fits).astype(np.float32) @ right.T) / fits.shape[1]
    first, second = np.unravel_index(int(pairs.argmax()), pairs.shape)
    if max(alone) >= pairs.max() - 1e-6:
        return Choice(int(np.argmax(alone)), None)
    return Choice(int(first), int(second))


def budgets(classes: int, most: int = 8192) -> list[float]:
    """The budgets that are tried: log₂ m, every bit up to 64, then steps of about 4%."""
    steps = [round(2 ** (k / 16)) for k in range(6 * 16, int(16 * np.log2(most)) + 1)]
    few = [float(np.log2(m)) for m in range(1, classes + 1)]
    return sorted({*few, *map(float, range(1, 65)), *map(float, steps)})


class Step(NamedTuple):
    """From this budget on a coder has these settings, until the next step."""

    bits: float
    setting: str
    second: str | None
    validation: float
    test: float


def ladder(
    validation: Sequence[Coded], test: Sequence[Coded], tried: Sequence[float]
) -> list[Step]:
    """The budgets at which more bits help on validation data, with what they give on test data.

    Args:
        validation, test: the settings of one coder, in the same order.
        tried: budgets, ascending.
    """
    steps: list[Step] = []
    for budget in tried:
        choice = choose(validation, budget)
        found = accuracy(validation, choice, budget)
        if steps and found <= steps[-1].validation:
            continue
        second = None if choice.second is None else validation[choice.second].setting
        names = (validation[choice.first].setting, second)
        steps.append(Step(budget, *names, found, accuracy(test, choice, budget)))
    return steps


@dataclass(frozen=True)
class Ladder:
    """The steps of one coder and one seed, as arrays; before the first step nothing is right.

    Args:
        bits: (J,), ascending.
        validation, test: (J,), accuracy from there on.
    """

    bits: Float[np.ndarray, " J"]
    validation: Float[np.ndarray, " J"]
    test: Float[np.ndarray, " J"]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Ladder":
        """The arrays of steps."""
        columns = ([getattr(s, name) for s in steps] for name in ("bits", "validation", "test"))
        return cls(*map(np.array, columns))

    def at(self, bits: ArrayLike) -> Array:
        """Test accuracy within budgets of bits, (…)."""
        # A budget that is met up to rounding, as log₂ 10 at its own SNR, is met.
        place = np.searchsorted(self.bits, np.asarray(bits, dtype=float) + 1e-9, "right")
        return np.concatenate([[0.0], self.test])[place]

    def over_awgn(self, snr_db: ArrayLike, uses: int) -> Array:
        """Test accuracy with an ideal code of n uses, without errors up to capacity.

        Args:
            snr_db: (…), in dB.
        """
        return self.at(capacity(snr_db, uses))

    def over_awgn_of_length(self, snr_db: ArrayLike, uses: int) -> Array:
        """Test accuracy with the best code of n uses, by the normal approximation.

        The block error rate is chosen on validation data; a block in error is answered wrongly.

        Args:
            snr_db: (…), in dB.
        """
        rates = np.geomspace(1e-6, 0.5, 40)
        bits = np.stack([finite_length(snr_db, uses, float(rate)) for rate in rates])
        place = np.searchsorted(self.bits, bits + 1e-9, "right")
        kept = 1 - rates.reshape(-1, *[1] * (bits.ndim - 1))
        told = kept * np.concatenate([[0.0], self.validation])[place]
        best = told.argmax(0)[None]
        return np.take_along_axis(kept * np.concatenate([[0.0], self.test])[place], best, 0)[0]

    def over_small_code(self, snr_db: ArrayLike, uses: int, messages: int) -> Array:
        """Test accuracy of one of a few messages, by a code that can be built; errors are wrong.

        Args:
            snr_db: (…), in dB.
            messages: how many, of log₂ of it bits.
        """
        return self.at(math.log2(messages)) * (1 - small_code_error(snr_db, uses, messages))

    def over_fading(self, snr_db: ArrayLike, uses: int, k_db: float = -math.inf) -> Array:
        """Test accuracy over block fading that the sender does not know.

        The step is chosen on validation data for each SNR; a block in outage is answered wrongly.

        Args:
            snr_db: (…), mean SNR in dB.
            k_db: K in dB; −∞ for Rayleigh.
        """
        snr = np.asarray(snr_db, dtype=float)
        kept = 1 - np.stack([outage(snr, uses, bits, k_db) for bits in self.bits])  # (J, …)
        shape = (-1, *[1] * snr.ndim)
        best = (kept * self.validation.reshape(shape)).argmax(0)[None]
        return np.take_along_axis(kept * self.test.reshape(shape), best, 0)[0]
