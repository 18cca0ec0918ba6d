"""Evaluation over β: metric, distortion, rate and power of a trained system, β by β."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require
from hvib.checks.arrays import Betas, betas_of
from hvib.checks.numbers import count as count_of
from hvib.checks.shares import require_equal_shares
from hvib.data import Split, reals
from hvib.distortions.measures import Measures, require_answerable
from hvib.hyper import at
from hvib.methods.belonging import grid_of, warn_beyond
from hvib.methods.loaders import Batches, pieces
from hvib.system import Output, Stacked, System, draw_noise, one_of
from hvib.train import denormals_flushed


@torch.no_grad()
@denormals_flushed()
def evaluate(
    model: System | Stacked,
    split: Split | Batches,
    betas: Sequence[Betas] | None = None,
    *,
    draws: int = 8,
    seed: int = 0,
    chunk: int = 500,
    snr_db: float | None = None,
) -> list[dict[str, Any]]:
    """One row for each β: the metric and the terms of (8), averaged over channel draws.

    All β see the same noise, so that rows differ by β alone. Matrix products are in the weights'
    own format.

    Args:
        split: a split, or any iterable of mini-batches (x, y), such as a `DataLoader`.
        betas: at which β; of a gated system that knows its range, the grid over it by default. Of
            several devices each may be a tuple, with a β for each device.
        draws: channel draws, that is, independent draws of encoder and channel noise.
        seed: seed of the noise.
        chunk: how many examples pass at once for each β, which bounds the memory.
        snr_db: the channel's mean SNR in dB, if another than its own.

    Returns:
        One dictionary for each β: `beta`; `metric`, for classes the accuracy in [0, 1], for real
        targets the squared error summed over their k numbers, and for a distortion of another
        kind what its `metric` says; `distortion`, in nats or squared units of the target;
        `rate_nats`; `objective` = distortion + β·rate; `tx_power`, the transmitted power
        E‖z‖²/n; for classes also `by_class`, the accuracy in each class. Of several devices also
        `rates_nats`, the rate of each, and where each has a β of its own `betas`; `beta` is then
        the first device's, and the objective D + Σ β_j R_j.

    Raises:
        ValueError: there is nothing to evaluate, the model is a stack of other than these β, or
            no β is given and the model knows none.
    """
    betas = grid_of(model) if betas is None else betas_of(betas)
    found = Measures(one_of(model).distortion, len(betas), one_of(model).blocks)
    for output, y in passes(model, split, betas, draws, seed, chunk, snr_db):
        if not found.count and isinstance(split, Split):
            require_answerable(output.prediction, {"": split}, found.distortion)
        found.add(output, y)
    return found.rows(betas)


@torch.no_grad()
@denormals_flushed()
def predict(
    model: System | Stacked,
    split: Split | Batches,
    betas: Sequence[Betas],
    *,
    seed: int = 0,
    snr_db: float | None = None,
) -> Float[Tensor, "M N k"]:
    """ŷ of each example at each β, for one channel draw: logits, or real targets.

    Raises:
        ValueError: as `evaluate`.
    """
    chunks = passes(model, split, betas, draws=1, seed=seed, chunk=500, snr_db=snr_db)
    return torch.cat([output.prediction.cpu() for output, _ in chunks], 1)


def passes(
    model: System | Stacked,
    split: Split | Batches,
    betas: Sequence[Betas],
    draws: int,
    seed: int,
    chunk: int,
    snr_db: float | None = None,
) -> Iterator[tuple[Output, Shaped[Tensor, "M N *k"]]]:
    """The outputs for a split at each β, chunk by chunk, with the targets that go with them.

    A chunk of N examples has D·N outputs: all examples in the first channel draw, then all in the
    second, and so on. Between chunks the model is in the mode that it came in.

    Raises:
        ValueError: there is nothing to evaluate, or the model is a stack of other than these β.
    """
    betas = betas_of(betas)
    for name, value in (("draws", draws), ("chunk", chunk), ("number of betas", len(betas))):
        count_of(name, value)
    if isinstance(model, Stacked):
        held = len(model.stack[0])
        require(len(betas) == held, "betas", list(betas), f"give the {held} that it was trained at")
    chances, classes = one_of(model).chances, one_of(model).distortion.classes
    where = next(model.parameters()).device
    mode = model.training
    count = len(betas)
    at_betas = torch.tensor(betas, device=where)
    generator = torch.Generator(where).manual_seed(seed)
    repeat = 1 if isinstance(model, Stacked) else count  # a stack's systems share one input
    for index, part in enumerate(pieces(split, chunk, classes)):
        part = part.to(where)
        x = reals(part.x).expand(repeat, *part.x.shape)  # (M, N, …), without a copy
        noise = torch.cat([draw_noise(1, len(part), chances, generator) for _ in range(draws)], 2)
        if index == 0 and not isinstance(model, Stacked):
            warn_beyond(model, betas)
            require_equal_shares(model, x, noise.expand(-1, repeat, -1, -1), at_betas)
        model.eval()
        with at(at_betas, snr_db=snr_db):
            output = model(x, noise.expand(-1, repeat, -1, -1))
        model.train(mode)  # before the yield: a training may go on between two chunks
        y = torch.cat([part.y] * draws)
        yield output, y.expand(count, *y.shape)
