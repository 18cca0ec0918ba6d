"""Ready-made distortions: labels that hold or not, weighted classes, errors, sums of these."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require
from hvib.distortions.default import BY_KIND, as_distortion, distortion, require_numbers
from hvib.distortions.distortion import Distortion, Function


def _require_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse targets that would be broadcast against the predictions."""
    shape = tuple(prediction.shape)
    mend = f"for predictions {shape} give as many numbers, {shape}"
    require(target.shape == prediction.shape, "targets", tuple(target.shape), mend)


@dataclass(frozen=True)
class MultiLabel(Distortion):
    """Several labels an example, of which each holds or does not: targets 0 or 1, (N, k).

    The prediction is one logit for each label. d is the binary cross-entropy in nats, summed over
    the k labels; the metric is the share of the labels that are right, in [0, 1].
    """

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch k"]
    ) -> Float[Tensor, "*batch"]:
        """The sum over the labels."""
        _require_same_shape(prediction, target)
        target = target.to(prediction.dtype)
        entropies = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        return entropies.sum(-1)

    def metric(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch k"]
    ) -> Float[Tensor, "*batch"]:
        """The share of labels whose logit has the right sign."""
        _require_same_shape(prediction, target)
        return ((prediction > 0) == (target > 0)).float().mean(-1)

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse targets that are not 0 or 1 for each of `count` labels.

        Raises:
            ValueError: there are such targets.
        """
        require_numbers(name, y, count)
        others = y[(y != 0) & (y != 1)]
        mend = "a label holds or does not: give 0 and 1"
        require(not len(others), name, others[:1].tolist(), mend)


@dataclass(frozen=True)
class WeightedCrossEntropy(Distortion):
    """The cross-entropy of classes in nats, times the weight of the example's class.

    D is the mean over examples of w_y · (−ln q(y)), and is not divided by the mean weight. The
    metric is the accuracy, in which every example counts alike.
    """

    weights: tuple[float, ...]

    classes = True

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """The weighted cross-entropies."""
        self._require(prediction.shape[-1], "targets", target)
        entropies = distortion(prediction, target)
        return entropies * entropies.new_tensor(self.weights)[target.long()]

    def metric(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Whether the class is right, 1 or 0."""
        return BY_KIND.metric(prediction, target)

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse real targets, and other classes than those that have a weight and a logit.

        Raises:
            ValueError: there are such targets.
        """
        self._require(count, name, y)
        BY_KIND.require_targets(name, y, count)

    def _require(self, count: int, name: str, y: Tensor) -> None:
        mend = f"the network ends in {count} logits: give a weight for each class"
        require(len(self.weights) == count, "weights", self.weights, mend)
        mend = "weights are for classes: give whole numbers, (N,)"
        require(not y.is_floating_point(), f"{name}.dtype", y.dtype, mend)


@dataclass(frozen=True)
class AbsoluteError(Distortion):
    """The absolute error, summed over the k numbers of an example: targets (N, k), reals or counts.

    It weighs a far-off example less than the squared error does. The metric is the same error.
    """

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch k"]
    ) -> Float[Tensor, "*batch"]:
        """The sum over an example's numbers."""
        _require_same_shape(prediction, target)
        return (prediction - target.to(prediction.dtype)).abs().sum(-1)

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse targets that are not `count` numbers an example.

        Raises:
            ValueError: they are not.
        """
        require_numbers(name, y, count)


@dataclass(frozen=True)
class Part:
    """One part of an answer of several.

    Args:
        outputs: which of the network's k numbers.
        targets: which columns of y. One column by its number is a class, as a whole number, and a
            slice is numbers.
        distortion: of this part; the default, if None.
        weight: by which the part is multiplied in the sum.
    """

    outputs: slice
    targets: int | slice
    distortion: Function | None = None
    weight: float = 1.0

    @property
    def of(self) -> Distortion:
        """Its distortion."""
        return as_distortion(self.distortion)

    def read(self, target: Shaped[Tensor, "*batch t"]) -> Shaped[Tensor, "..."]:
        """Its own targets: classes as int64, numbers as reals."""
        own = target[..., self.targets]
        if isinstance(self.targets, int):
            return own.long()
        return own if own.is_floating_point() else own.to(torch.get_default_dtype())


@dataclass(frozen=True)
class Several(Distortion):
    """Answers of several kinds from one network: d is the weighted sum of the parts' distortions.

    The targets are one tensor, (N, t), of which each part reads its columns. The metric is d.
    """

    parts: tuple[Part, ...]

    @property
    def may_be_negative(self) -> bool:  # type: ignore[override]  # depends on the parts
        """Whether a part's distortion may be."""
        return any(part.of.may_be_negative for part in self.parts)

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "*batch t"]
    ) -> Float[Tensor, "*batch"]:
        """The weighted sum."""
        values = [
            part.weight * part.of(prediction[..., part.outputs], part.read(target))
            for part in self.parts
        ]
        return torch.stack(values).sum(0)

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse targets without the parts' columns, and a network with outputs in no part.

        Raises:
            ValueError: there are such targets or outputs.
        """
        require(y.dim() == 2, name, tuple(y.shape), "give the columns of all parts, (N, t)")
        used = [range(count)[part.outputs] for part in self.parts]
        left = sorted(set(range(count)).difference(*used))
        mend = f"the network ends in {count} numbers: give each of them to a part"
        require(not left, "outputs in no part", left, mend)
        for part, outputs in zip(self.parts, used, strict=True):
            column = f"{name}[:, {_told(part.targets)}]"
            if isinstance(part.targets, int):
                wide = y.shape[1]
                require(-wide <= part.targets < wide, column, wide, f"y has {wide} columns")
                whole = bool((y[:, part.targets] == y[:, part.targets].round()).all())
                require(whole, column, "no whole numbers", "give a column of classes")
            part.of.require_targets(column, part.read(y), len(outputs))


def _told(columns: int | slice) -> str:
    """Columns as they stand between brackets."""
    if isinstance(columns, int):
        return str(columns)
    return ":".join("" if end is None else str(end) for end in (columns.start, columns.stop))


multi_label = MultiLabel()
"""The one `MultiLabel` there is."""

absolute_error = AbsoluteError()
"""The one `AbsoluteError` there is."""


def weighted_cross_entropy(weights: Iterable[float]) -> WeightedCrossEntropy:
    """A `WeightedCrossEntropy`.

    Args:
        weights: one for each class, at least 0; a rare class may be given 1 / its share.

    Raises:
        ValueError: there is none, one is negative or not finite, or all are 0.
    """
    told = tuple(float(weight) for weight in weights)
    right = all(math.isfinite(weight) and weight >= 0 for weight in told) and any(told)
    require(right, "weights", told, "give a finite number ≥ 0 for each class, one of them > 0")
    return WeightedCrossEntropy(told)


def several(*parts: Part) -> Several:
    """A sum of `Part`.

    Raises:
        ValueError: there is no part, or a part is none, reads no slice of the outputs, or has a
            weight that is not positive and finite.
    """
    require(bool(parts), "parts", parts, "give at least one Part(outputs, targets)")
    for part in parts:
        right = isinstance(part, Part)
        require(right, "part", type(part).__name__, "give a Part(outputs, targets)")
        mend = "give a slice of the network's outputs, as slice(0, 3)"
        require(isinstance(part.outputs, slice), "outputs", part.outputs, mend)
        mend = "give a column's number for a class, a slice of columns for numbers"
        require(isinstance(part.targets, int | slice), "targets", part.targets, mend)
        finite = math.isfinite(part.weight) and part.weight > 0
        require(finite, "weight", part.weight, "give a finite number > 0")
        as_distortion(part.distortion)
    return Several(parts)
