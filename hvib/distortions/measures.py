"""Where a distortion meets data: the checks of its targets, and what an evaluation measures."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from hvib import objective
from hvib.checks.arrays import Betas, require_fit
from hvib.data import Data
from hvib.distortions.distortion import Distortion
from hvib.system import Output


class _Answered(Protocol):
    """A split."""

    @property
    def y(self) -> Tensor: ...


def checked(data: Data, distortion: Distortion) -> Data:
    """Data that are fit for training and evaluation, as `Data.checked` has it.

    Where integers are no classes, they may have any shape.

    Raises:
        ValueError: as `Data.checked`.
    """
    if distortion.classes:
        return data.checked
    require_fit({name: (split.x, split.y) for name, split in data.named.items()}, classes=False)
    return data


def require_answerable(
    prediction: Float[Tensor, "M N k"], splits: Mapping[str, _Answered], distortion: Distortion
) -> None:
    """Refuse targets that a network cannot name: other classes, or other than its k numbers.

    Args:
        prediction: what the network ends in. One of another shape is refused with the objective.
        splits: by name; one that stands alone has none.
        distortion: says which targets go with k numbers.

    Raises:
        ValueError: there are such targets.
    """
    for split, values in splits.items() if prediction.dim() == 3 else ():
        name = f"{split}.y".lstrip(".")
        distortion.require_targets(name, values.y, prediction.shape[-1])


class Measures:
    """Sums over the chunks of an evaluation, at K values of β.

    Args:
        distortion: the system's.
        count: K.
        blocks: of several devices, as `System.blocks` has it.
    """

    def __init__(self, distortion: Distortion, count: int, blocks: Sequence[int] = ()) -> None:
        self.distortion, self.blocks, self.count = distortion, blocks, 0
        self._sums = torch.zeros(4 + len(blocks), count, dtype=torch.float64)
        # Right answers and examples of each class: a number that grows to (K, k) with the first
        # sum.
        self._right, self._members = torch.zeros(2, dtype=torch.float64)

    def add(self, output: Output, y: Shaped[Tensor, "K N *k"]) -> None:
        """Take in a chunk.

        Raises:
            ValueError: the targets do not go with the distortion.
        """
        self.distortion.require_targets("y", y[0], output.prediction.shape[-1])
        parts = objective.terms(output, y, self.distortion, self.blocks)
        power = (output.mean.square() + output.variance).mean((-1, -2))
        metric = self.distortion.metric(output.prediction, y).mean(-1)
        rates = [] if parts.of_devices is None else parts.of_devices.unbind(-1)
        means = torch.stack([metric, parts.distortion, parts.rate, power, *rates]).double()
        self._sums += y.shape[1] * means.cpu()
        self.count += y.shape[1]
        if self.distortion.classes and not y.is_floating_point():
            of_class = one_hot(y[0].cpu(), output.prediction.shape[-1]).double()  # (N, k)
            right = output.prediction.argmax(-1) == y
            self._right = self._right + right.cpu().double() @ of_class
            self._members = self._members + of_class.sum(0)

    def rows(self, betas: Sequence[Betas]) -> list[dict[str, Any]]:
        """What `hvib.evaluate` returns: a dictionary for each β."""
        metric, distortion, rate, power, *of_devices = (self._sums / self.count).tolist()
        rates = list(zip(*of_devices, strict=True)) or [()] * len(betas)
        by_class = (self._right / self._members.clamp(min=1)).tolist()
        return [
            {
                **_named(beta),
                "metric": metric[k],
                "distortion": distortion[k],
                "rate_nats": rate[k],
                **({"rates_nats": list(rates[k])} if self.blocks else {}),
                "objective": distortion[k] + _cost(beta, rate[k], rates[k]),
                "tx_power": power[k],
                **({"by_class": by_class[k]} if self._right.dim() else {}),
            }
            for k, beta in enumerate(betas)
        ]


def _named(beta: Betas) -> dict[str, Any]:
    if isinstance(beta, tuple):
        return {"beta": beta[0], "betas": list(beta)}
    return {"beta": beta}


def _cost(beta: Betas, rate: float, rates: Sequence[float]) -> float:
    """β R, or of several devices with a β each Σ β_j R_j."""
    if isinstance(beta, tuple):
        return sum(one * of_device for one, of_device in zip(beta, rates, strict=True))
    return beta * rate
