"""The distortion of a system that names none: what kind of numbers the targets are decides."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require
from hvib.checks.forward import at_least_float32
from hvib.distortions.distortion import Distortion, Function, Own


def distortion(
    prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
) -> Float[Tensor, "*batch"]:
    """d(y, ŷ) of (7) for each example.

    Integer targets are classes, and d is the cross-entropy of the logits `prediction` in nats.
    Real targets have the shape of `prediction`, and d is the squared error summed over the last
    axis.

    Raises:
        ValueError: the targets' shape does not go with the predictions'.
    """
    real = target.is_floating_point()
    if target.shape != (prediction.shape if real else prediction.shape[:-1]):
        shape = tuple(prediction.shape)
        mend = f"for predictions {shape} give classes as int64, {shape[:-1]}, or reals, {shape}"
        require(False, "targets", tuple(target.shape), mend)
    prediction = at_least_float32(prediction)
    if real:
        return (prediction - target.to(prediction.dtype)).square().sum(-1)
    log_q = F.log_softmax(prediction, dim=-1)
    return -log_q.gather(-1, target.unsqueeze(-1).long()).squeeze(-1)


def require_numbers(name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
    """Refuse targets that are not `count` numbers an example, (N, count).

    Raises:
        ValueError: they are not.
    """
    give = "y[:, None]" if count == 1 and y.dim() == 1 else f"(N, {count})"
    mend = f"the network ends in {count} numbers: give {give}"
    require(y.shape[1:] == (count,), name, tuple(y.shape), mend)


@dataclass(frozen=True)
class ByKind(Distortion):
    """`distortion` above: cross-entropy and accuracy for classes, squared error for reals."""

    classes = True

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """As `distortion` has it."""
        return distortion(prediction, target)

    def metric(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """Whether the largest logit is the class's, 1 or 0; of real targets the squared error."""
        if target.is_floating_point():
            return self(prediction, target)
        return (prediction.argmax(-1) == target).float()

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse other classes than 0 to `count` − 1, and reals of another shape than (N, count).

        Raises:
            ValueError: there are such targets.
        """
        if y.is_floating_point():
            require_numbers(name, y, count)
        else:
            low, high = int(y.min()), int(y.max())
            mend = f"the network ends in {count} logits: give classes from 0 to {count - 1}"
            require(low >= 0 and high < count, name, (low, high), mend)


BY_KIND = ByKind()
"""The distortion of a system that names none."""


def as_distortion(given: Function | None) -> Distortion:
    """A `Distortion` as it is, a function as one, and `BY_KIND` for None.

    Raises:
        ValueError: it cannot be called on predictions and targets.
    """
    if given is None:
        return BY_KIND
    if isinstance(given, Distortion):
        return given
    mend = "give a function of (prediction, target) that returns one number an example"
    right = callable(given) and not isinstance(given, type)
    require(right, "distortion", getattr(given, "__name__", given), mend)
    return Own(given)
