"""A distortion, with the targets and the metric that go with it; a function of one's own as one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require
from hvib.checks.forward import at_least_float32

Function = Callable[[Tensor, Tensor], Tensor]
"""of predictions (*batch, k) and targets (*batch, …), one number an example: (*batch,)"""


class Distortion:
    """d(y, ŷ) of (7), the targets that it takes, and the metric that is told beside it.

    One for a kind of targets that you often have derives from this class. For a single system
    give the function alone, as `hvib.System(…, distortion=function)`.
    """

    classes = False
    """whether integer targets are classes, (N,), so that an evaluation tells the accuracy in each;
    otherwise integers of any shape are taken"""
    may_be_negative = False
    """whether it may be; a method that divides the objective by its size cannot train on such"""

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """d(y, ŷ) of each example."""
        raise NotImplementedError

    def metric(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """The metric of each example, of which an evaluation tells the mean: d itself, if no other.

        A task that is judged by it has `Metric(…, of_distortion=True)`.
        """
        return self(prediction, target)

    def require_targets(self, name: str, y: Shaped[Tensor, "N *shape"], count: int) -> None:
        """Refuse targets of a split that do not go with a network of `count` outputs.

        Raises:
            ValueError: there are such targets; the message calls them by `name`.
        """

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: copies of a system share one distortion."""
        return self


def _of_rows(name: str, function: Function, prediction: Tensor, target: Tensor) -> Tensor:
    """The function's value for each example, called on examples in one batch axis.

    Raises:
        ValueError: it does not return one number an example.
    """
    axes = prediction.shape[:-1]
    rows = prediction.flatten(0, -2)  # (B, k)
    found = function(rows, target.flatten(0, len(axes) - 1))
    told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    mend = (
        f"return one number for each of the {len(rows)} examples, ({len(rows)},): a loss of "
        "PyTorch's does with reduction='none', summed over what an example has of it"
    )
    require(told == (len(rows),), f"value of the {name}", told, mend)
    if not found.is_floating_point():  # whether an answer is right
        found = found.to(prediction.dtype)
    return at_least_float32(found).unflatten(0, axes)


@dataclass(frozen=True)
class Own(Distortion):
    """A function of your own as a distortion.

    Args:
        function: of predictions (B, k) in float32 or float64, and of targets (B, …) as the split
            has them, one row an example. It returns one number an example, (B,), that depends on
            this example alone and has a gradient. Parameters inside are not trained.
        measure: another such function, the metric of an evaluation; it needs no gradient. Without
            it the metric is the distortion.
    """

    function: Function
    measure: Function | None = None

    may_be_negative = True

    def __call__(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """The function's values.

        Raises:
            ValueError: it does not return one number an example, or they have no gradient.
        """
        found = _of_rows("distortion", self.function, prediction, target)
        # Without one, training would lower the rate alone.
        mend = "it has no gradient: compute it from the predictions in steps that have one"
        grows = found.requires_grad or not prediction.requires_grad
        require(grows, "distortion", getattr(self.function, "__name__", self.function), mend)
        return found

    def metric(
        self, prediction: Float[Tensor, "*batch k"], target: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*batch"]:
        """The measure's values, or the function's."""
        return _of_rows("metric", self.measure or self.function, prediction, target)
