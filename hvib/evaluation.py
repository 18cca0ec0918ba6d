"""Evaluation over β: metric, distortion, rate and power of a trained system, β by β."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from hvib import objective
from hvib.check import require
from hvib.checks.arrays import require_answerable
from hvib.checks.shares import require_equal_shares
from hvib.data import Split, reals
from hvib.hyper import at
from hvib.methods.belonging import grid_of, warn_beyond
from hvib.system import Output, Stacked, System, draw_noise, one_of
from hvib.train import denormals_flushed


@torch.no_grad()
@denormals_flushed()
def evaluate(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float] | None = None,
    *,
    draws: int = 8,
    seed: int = 0,
    chunk: int = 500,
) -> list[dict[str, Any]]:
    """One row for each β: the metric and the terms of (8), averaged over channel draws.

    All β see the same noise, so that rows differ by β alone. Matrix products are in the weights'
    own format.

    Args:
        betas: at which β; of a gated system that knows its range, the grid over it by default.
        draws: channel draws, that is, independent draws of encoder and channel noise.
        seed: seed of the noise.
        chunk: how many examples pass at once for each β, which bounds the memory.

    Returns:
        One dictionary for each β: `beta`; `metric`, for classes the accuracy in [0, 1], for real
        targets the squared error summed over their k numbers; `distortion`, in nats or squared
        units of the target; `rate_nats`; `objective` = distortion + β·rate; `tx_power`, the
        transmitted power E‖z‖²/n; for classes also `by_class`, the accuracy in each class.

    Raises:
        ValueError: there is nothing to evaluate, the model is a stack of other than these β, or
            no β is given and the model knows none.
    """
    betas = grid_of(model) if betas is None else betas
    sums = torch.zeros(4, len(betas), dtype=torch.float64)
    # Right answers and examples of each class: a number that grows to (M, k) with the first sum.
    right, members = torch.zeros(2, dtype=torch.float64)
    for output, y in passes(model, split, betas, draws, seed, chunk):
        if not right.dim():
            require_answerable(output.prediction, {"": split})
        sums += y.shape[1] * _measures(output, y).cpu()
        if not y.is_floating_point():
            of_class = one_hot(y[0].cpu(), output.prediction.shape[-1]).double()  # (N, k)
            right = right + (output.prediction.argmax(-1) == y).cpu().double() @ of_class
            members = members + of_class.sum(0)
    metric, distortion, rate, power = (sums / (draws * len(split))).tolist()
    by_class = (right / members.clamp(min=1)).tolist()
    return [
        {
            "beta": beta,
            "metric": metric[k],
            "distortion": distortion[k],
            "rate_nats": rate[k],
            "objective": distortion[k] + beta * rate[k],
            "tx_power": power[k],
            **({} if split.y.is_floating_point() else {"by_class": by_class[k]}),
        }
        for k, beta in enumerate(betas)
    ]


@torch.no_grad()
@denormals_flushed()
def predict(
    model: System | Stacked, split: Split, betas: Sequence[float], *, seed: int = 0
) -> Float[Tensor, "M N k"]:
    """ŷ of each example at each β, for one channel draw: logits, or real targets.

    Raises:
        ValueError: as `evaluate`.
    """
    chunks = passes(model, split, betas, draws=1, seed=seed, chunk=500)
    return torch.cat([output.prediction.cpu() for output, _ in chunks], 1)


def passes(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float],
    draws: int,
    seed: int,
    chunk: int,
) -> Iterator[tuple[Output, Shaped[Tensor, "M N *k"]]]:
    """The outputs for a split at each β, chunk by chunk, with the targets that go with them.

    A chunk of N examples has D·N outputs: all examples in the first channel draw, then all in the
    second, and so on. Between chunks the model is in the mode that it came in.

    Raises:
        ValueError: there is nothing to evaluate, or the model is a stack of other than these β.
    """
    require(isinstance(split, Split), "split", type(split).__name__, "give a Split, as data.test")
    split.require_pairs()
    for name, value in (("draws", draws), ("chunk", chunk), ("number of betas", len(betas))):
        require(value >= 1, name, value, "give at least 1")
    if isinstance(model, Stacked):
        held = len(model.stack[0])
        require(len(betas) == held, "betas", list(betas), f"give the {held} that it was trained at")
    features = one_of(model).features
    where = next(model.parameters()).device
    mode = model.training
    count = len(betas)
    at_betas = torch.tensor(betas, device=where)
    generator = torch.Generator(where).manual_seed(seed)
    repeat = 1 if isinstance(model, Stacked) else count  # a stack's systems share one input
    for begin in range(0, len(split), chunk):
        part = Split(split.x[begin : begin + chunk], split.y[begin : begin + chunk]).to(where)
        x = reals(part.x).expand(repeat, *part.x.shape)  # (M, N, …), without a copy
        noise = torch.cat([draw_noise(1, len(part), features, generator) for _ in range(draws)], 2)
        if begin == 0 and isinstance(model, System):
            warn_beyond(model, betas)
            require_equal_shares(model, x, noise.expand(-1, repeat, -1, -1), at_betas)
        model.eval()
        with at(at_betas):
            output = model(x, noise.expand(-1, repeat, -1, -1))
        model.train(mode)  # before the yield: a training may go on between two chunks
        y = torch.cat([part.y] * draws)
        yield output, y.expand(count, *y.shape)


def _measures(output: Output, y: Tensor) -> Float[Tensor, "4 M"]:
    """Means over the examples of a chunk: metric, distortion, rate, transmitted power."""
    parts = objective.terms(output, y)
    power = (output.mean.square() + output.variance).mean((-1, -2))
    if y.is_floating_point():
        metric = parts.distortion
    else:
        metric = (output.prediction.argmax(-1) == y).float().mean(-1)
    return torch.stack([metric, parts.distortion, parts.rate, power]).double()
