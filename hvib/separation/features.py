"""Coders that send what a classifier in the device found: its class, or its logits quantised."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from hvib.check import require
from hvib.checks.numbers import count, finite

Logits = Float[np.ndarray, "N classes"]
Bits = Float[np.ndarray, " N"]


@dataclass
class LogitCoder:
    """The leading principal components of the logits, quantised uniformly, coded ideally as one.

    The code length of a vector that occurs in training is −log₂ of its share there. Another one is
    announced, at the share of the vectors that occur once (Good and Turing), and its coordinates
    are coded one by one.

    Args:
        components: how many components are sent, at most as many as there are classes.
        step: of the quantiser, in root mean square values of a logit about its mean.
        train: (N, classes), logits of training images.

    Raises:
        ValueError: there are more components than classes, or the step is not positive.
    """

    components: int
    step: float
    train: Logits = field(repr=False)

    def __post_init__(self) -> None:
        classes = self.train.shape[1]
        most = count("components", self.components) <= classes
        require(most, "components", self.components, f"give at most the {classes} classes")
        require(finite("step", self.step, "RMS") > 0, "step", self.step, "give a step > 0")
        self.mean = self.train.mean(0)
        centred = self.train - self.mean
        _, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
        self.basis = vectors[:, ::-1][:, : self.components]  # (classes, k)
        self.width = self.step * float(np.sqrt(np.square(centred).mean()))
        symbols = self._symbols(self.train)
        found, counts = np.unique(symbols, axis=0, return_counts=True)
        # At least one in N + 1 is new, and at least one is not.
        new = max(int((counts == 1).sum()), 1) / (len(symbols) + 1)
        shares = (1 - new) * counts / len(symbols)
        self._known = dict(
            zip(map(tuple, found.tolist()), (-np.log2(shares)).tolist(), strict=True)
        )
        self._announced = -np.log2(new)
        self._low = symbols.min(0)
        self._single = []
        for k, column in enumerate(symbols.T):
            seen = np.bincount(column - self._low[k]) + 0.5
            self._single.append(-np.log2(seen / seen.sum()))

    def _symbols(self, logits: Logits) -> Int[np.ndarray, "N k"]:
        return np.rint((logits - self.mean) @ self.basis / self.width).astype(int)

    def __call__(self, logits: Logits) -> tuple[Bits, Int[np.ndarray, " N"]]:
        """The bits of each image, and the class that is decoded: of the largest logit."""
        symbols = self._symbols(logits)
        # Beyond what training had, the quantiser saturates.
        ends = self._low + np.array([len(bits) - 1 for bits in self._single])
        symbols = symbols.clip(self._low, ends)
        apart = np.full(len(symbols), self._announced)
        for k, bits in enumerate(self._single):
            apart += bits[symbols[:, k] - self._low[k]]
        rows = map(tuple, symbols.tolist())
        bits = np.array(
            [self._known.get(row, other) for row, other in zip(rows, apart, strict=True)]
        )
        return bits, (self.mean + self.width * symbols @ self.basis.T).argmax(1)


def class_answers(
    found: Int[np.ndarray, " N"], y: Int[np.ndarray, " N"], order: Int[np.ndarray, " classes"]
) -> list[tuple[str, Bits, Bool[np.ndarray, " N"]]]:
    """The device classifies, and sends one of m messages of log₂ m bits.

    Messages name the m most frequent classes; another class is sent as the most frequent one. One
    message says nothing, in no bits: the answer is the most frequent class.

    Args:
        found: the classes that the device finds.
        y: the true classes.
        order: the classes, the most frequent in training first.

    Returns:
        for each m the setting's name, the bits of each image, and whether the answer is right.
    """
    answers = []
    for messages in range(1, len(order) + 1):
        named = np.isin(found, order[:messages])
        right = np.where(named, found, order[0]) == y
        name = f"{messages} messages" if messages > 1 else "nothing"
        answers.append((name, np.full(len(y), np.log2(messages)), right))
    return answers
