"""What pages look at inside a trained system: single examples, single features."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib import ledger
from hvib.book.statistics import extremes, survived
from hvib.check import require
from hvib.data import Split
from hvib.evaluation import passes
from hvib.run import Run
from hvib.system import Stacked, System, one_of
from hvib.tasks import load
from hvib.train import denormals_flushed


@torch.no_grad()
@denormals_flushed()
def share_right(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float],
    *,
    draws: int = 8,
    seed: int = 0,
) -> Float[Tensor, "M N"]:
    """The share of channel draws in which each example's class is inferred, at each β."""
    classes = one_of(model).distortion.classes

    def right(prediction: Float[Tensor, "M DN k"], y: Shaped[Tensor, "M DN *k"]) -> Tensor:
        mend = "an answer is right of classes only: give targets that are classes"
        require(classes and not y.is_floating_point(), "split.y.dtype", y.dtype, mend)
        return (prediction.argmax(-1) == y).float().unflatten(1, (draws, -1)).mean(1).cpu()

    chunks = passes(model, split, betas, draws, seed, chunk=500)
    return torch.cat(
        [right(output.prediction, y) for output, y in chunks],
        1,
    )


@torch.no_grad()
@denormals_flushed()
def feature_rates(
    model: System | Stacked, split: Split, betas: Sequence[float]
) -> Float[Tensor, "M n"]:
    """The rate of each feature at each β in nats, a mean over examples; their sum is R (9)."""
    sums, count = torch.zeros(len(betas), one_of(model).features, dtype=torch.float64), 0
    for output, _ in passes(model, split, betas, draws=1, seed=0, chunk=500):
        sums += output.rates.sum(1).double().cpu()
        count += output.rates.shape[1]
    return sums / count


def survivors_of(run: Run, *, device: str, count: int = 2000) -> dict[str, Tensor]:
    """On which of the first test images a trained run keeps the class as β grows, and how far.

    Returns:
        `all`, to how many β each image survives, as `survived` counts; and of each class the
        image that survives longest and the one lost soonest: `x`, `y` and their `count`.
    """
    test = load(run.task).limited(run.limit).test.first(count)
    right = share_right(ledger.trained(run, device=device), test, run.betas).numpy()
    counts = survived(right)
    chosen = np.concatenate(extremes(counts, test.y.numpy()))
    picked = {"x": test.x[chosen], "y": test.y[chosen], "count": torch.tensor(counts[chosen])}
    return picked | {"all": torch.tensor(counts)}
