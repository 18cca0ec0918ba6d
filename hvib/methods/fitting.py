"""`hvib.fit` on mini-batches from elsewhere, which are never all in memory."""

import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hvib.check import require
from hvib.data import reals
from hvib.methods.belonging import mark, require_belongs
from hvib.methods.loaders import Batches, MiniBatch, mini_batches, require_batches
from hvib.methods.optimiser import optimizer_of
from hvib.methods.registry import method_of
from hvib.methods.tending import Tending
from hvib.methods.training import training_by
from hvib.methods.yours import run_of
from hvib.run import Run
from hvib.system import Stacked, System, one_of
from hvib.train import Fit, bar, torch_device, trained

OF_SPLITS = ("run", "resume", "batch_size", "limit", "shift", "flip", "erase")
"""What is set for splits, and cannot be for mini-batches that are made elsewhere."""


def fit_batches(
    model: System | Stacked,
    batches: Batches,
    epochs: int | None,
    device: str,
    progress: bool,
    **settings: Any,
) -> Fit:
    """Train `model` in place on mini-batches (x, y), each pass over which is one epoch.

    A mini-batch is split into M shares, as many as the step draws values of β. One whose length is
    no multiple of M is cut to the largest multiple, and one of fewer than M examples is left out.
    A warning tells if that happens to others than the last of a pass, because such examples could
    be the same ones in each pass.

    The learning rate goes through one cycle if the mini-batches say how many they are, by `len`,
    and is constant otherwise. The seconds include those in which mini-batches are made.

    Args:
        model: a system that says its method and range, or is plain.
        batches: an iterable that can be passed over once for each epoch, such as a `DataLoader`
            or a list; for one epoch also an iterator.
        epochs, device, progress: as `hvib.fit` has them.
        settings: fields of `Run`, but for those of the mini-batches themselves.

    Raises:
        ValueError: the mini-batches can be passed over only once, one is no pair (x, y) that is
            fit for training, or none has M examples; a setting does not fit.
        Diverged: a loss is not finite.
    """
    require_batches("data", batches, "Data(train, validation, test), one Split")
    for name in OF_SPLITS:
        value = settings.pop(name, None)
        mend = "it is not for mini-batches that you make: leave it out, or give Data or a Split"
        require(value is None, name, value, mend)
    run = run_of(model, None, epochs, **settings)
    method, where = method_of(run), torch_device(device)
    mend = "it trains several systems, or ends on a validation split: give it Data"
    require(not method.parts and not method.finish, "method", run.method, mend)
    require_belongs(model, run, method)
    mend = f"it can be passed over once: for {run.epochs} epochs give a list or a DataLoader"
    again = run.epochs == 1 or not isinstance(batches, Iterator)
    require(again, "data", type(batches).__name__, mend)
    length = _length(batches)
    # PyTorch's first optimiser imports this, which would count as training time.
    import torch._dynamo

    start = time.perf_counter()
    course: list[list[Tensor]] = [[] for _ in range(run.epochs)]
    total = None if length is None else run.epochs * length
    with bar(progress, total=total, desc=run.slug) as shown:
        for epoch, losses in _steps(model, batches, run, where, total):
            course[epoch].append(losses.mean())
            shown.update()
    model.eval()
    if not method.fixed:
        mark(model, run.method, (run.betas[0], run.betas[-1]))
    means = [torch.stack(epoch).mean().item() for epoch in course]
    return Fit(time.perf_counter() - start, sum(map(len, course)), means)


def _length(batches: Batches) -> int | None:
    """How many mini-batches there are, if they say so."""
    try:
        return len(batches)  # type: ignore[arg-type]  # not all have a length
    except (TypeError, NotImplementedError):
        return None


def _steps(
    model: System | Stacked, batches: Batches, run: Run, where: torch.device, total: int | None
) -> Iterator[tuple[int, Float[Tensor, " M"]]]:
    """The epoch and the objectives of each step."""
    training = training_by(run, model.to(where).train(), where, total)
    tending = Tending(model, run, total, None)
    optimizer, schedule = optimizer_of(model, run, total)
    classes, shares = one_of(model).distortion.classes, training.count
    epoch = 0

    def usable() -> Iterator[MiniBatch]:
        nonlocal epoch
        step = 0
        for epoch in range(run.epochs):
            before, cut = step, 0
            for index, batch in enumerate(mini_batches(batches, "data", classes)):
                _warn_of_cut(cut, shares, epoch)
                kept = len(batch) - len(batch) % shares
                mend = f"give mini-batches of a multiple of the M = {shares} shares"
                require(step > 0 or kept > 0, f"length of mini-batch {index}", len(batch), mend)
                cut = 0 if kept == len(batch) else len(batch)
                if kept:
                    part = batch.first(kept).to(where)
                    named = {f"mini-batch {index}": batch}
                    yield MiniBatch(reals(part.x), part.y, step, step == before, named)
                    step += 1
            require(step > before, "length of each mini-batch", cut, mend)

    for step, losses in enumerate(trained(model, usable(), run, training, optimizer)):
        if total is None or step < total:
            schedule.step()
        elif step == total:
            message = (
                f"data: more than the {total} mini-batches that its length tells of; the learning "
                "rate has come to its end, so that the others hardly train"
            )
            warnings.warn(message, stacklevel=4)
        tending.step()
        yield epoch, losses
    tending.end_epoch(last=True)


def _warn_of_cut(length: int, shares: int, epoch: int) -> None:
    """Warn of a mini-batch that was cut and is not the last one of the first pass."""
    if length and epoch == 0:
        message = (
            f"mini-batches of {length} examples: each is cut to a multiple of the M = {shares} "
            "shares; a batch_size that is a multiple leaves none out"
        )
        warnings.warn(message, stacklevel=6)
