"""Algorithm 1: one training loop for VIB, Hyper-VIB and the batched grid."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from hvib.check import require, require_known
from hvib.checks.shares import require_equal_shares
from hvib.data import Batcher, Data, Split
from hvib.distortions.measures import checked, require_answerable
from hvib.hyper import at
from hvib.methods.belonging import mark, require_belongs
from hvib.methods.loaders import Batches, MiniBatch
from hvib.methods.optimiser import optimizer_of
from hvib.methods.registry import method_of
from hvib.methods.resuming import Checkpoint, file_of, part_of
from hvib.methods.tending import Tending
from hvib.methods.training import Training, training_by
from hvib.methods.yours import run_of
from hvib.run import Run
from hvib.system import Stacked, System, one_of


class Diverged(FloatingPointError):
    """A training loss is not finite.

    Attributes:
        beta: the β whose loss it was.
        step: the step at which it was seen, counted from 0.
        state: the model's last good state dictionary; in a call's first step that at its start.
    """

    def __init__(self, beta: float, step: int, state: dict[str, Tensor], run: Run) -> None:
        mend = (
            f"lower learning_rate (now {run.learning_rate:g}) or set precision='float32'"
            if step
            else "it is so before any training: check the scale of x and the model's start"
        )
        super().__init__(f"the loss at beta = {beta:.3g} is not finite in step {step}: {mend}")
        self.beta, self.step, self.state = beta, step, state


def torch_device(device: str = "auto") -> torch.device:
    """`cpu`, `cuda`, or for `auto` CUDA where there is a card.

    Raises:
        ValueError: the name is unknown, or CUDA is asked for and absent.
    """
    require_known("device", device, ("auto", "cpu", "cuda"))
    available = torch.cuda.is_available()
    require(device != "cuda" or available, "device", device, "no CUDA here; use 'cpu' or 'auto'")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16, rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def product_dtype(run: Run, device: torch.device) -> torch.dtype:
    """The number format of a run's matrix products; weights and the objective stay float32."""
    if run.precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if run.precision == "bfloat16" else torch.float32


def _autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@dataclass(frozen=True)
class Fit:
    """What training took, and its course."""

    seconds: float
    """wall-clock, over all calls that it took; where a single CPU thread trains, the processor's"""
    steps: int
    epoch_objectives: list[float]
    """mean training objective of each epoch, over β and examples"""


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Treat denormals as zero: collapsed features produce them, and a CPU is slow at them."""
    # PyTorch does not tell whether it is on: the smallest denormal does.
    before = torch.tensor(5e-324, dtype=torch.float64).mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def steps(
    model: System | Stacked,
    data: Data,
    run: Run,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
) -> Iterator[Float[Tensor, " M"]]:
    """Algorithm 1, step by step: yields the objectives of each step, one for each of its β.

    Args:
        checkpoint: what training goes on from, and is filed in at the end of each epoch.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        Diverged: a loss is not finite.
    """
    where = torch_device(device)
    require_belongs(model, run, method_of(run))
    train = checked(data, one_of(model).distortion).limited(run.limit).train.to(where)
    mend = f"give at most the {len(train)} training examples"
    require(run.batch_size <= len(train), "batch_size", run.batch_size, mend)
    batches = Batcher(train, run.shift, run.flip, run.erase)
    per_epoch = steps_per_epoch(data, run)
    total = run.epochs * per_epoch
    training = training_by(run, model.to(where).train(), where, total)
    tending = Tending(model, run, total, data)
    optimizer, schedule = optimizer_of(model, run, total)
    done = checkpoint.begin(optimizer, schedule, training, tending) if checkpoint else 0

    def mini_batches() -> Iterator[MiniBatch]:
        for step in range(done, total):
            if step % per_epoch == 0:
                order = torch.randperm(len(train), generator=training.generator, device=where)
                # The last, incomplete mini-batch is left out: an epoch's order is random, so
                # every example has the same chance to be in it.
                shuffled = order[: per_epoch * run.batch_size].split(run.batch_size)
            x, y = batches(shuffled[step % per_epoch], training.generator)
            yield MiniBatch(x, y, step, step % per_epoch == 0, {} if step else data.named)

    for step, losses in enumerate(trained(model, mini_batches(), run, training, optimizer), done):
        schedule.step()
        tending.step()
        yield losses
        if (step + 1) % per_epoch == 0:
            tending.end_epoch(last=step + 1 == total)
            if checkpoint:
                checkpoint.end_epoch(last=step + 1 == total)


def trained(
    model: System | Stacked,
    batches: Iterable[MiniBatch],
    run: Run,
    training: Training,
    optimizer: torch.optim.Optimizer,
) -> Iterator[Float[Tensor, " M"]]:
    """Take a step of training on each mini-batch, and yield its objectives.

    Raises:
        ValueError: the model or the targets are found not to fit in the pass of a step.
        Diverged: a loss is not finite.
    """
    where = training.generator.device
    dtype, state, system = product_dtype(run, where), _copy(model), one_of(model)
    for batch in batches:
        with denormals_flushed():  # not around the yield: others run between the steps
            draw = training.draw(len(batch.x))
            x = draw.shares(batch.x)  # (M, N, …)
            if batch.step == 0 and not isinstance(model, Stacked):
                require_equal_shares(model, x, draw.noise, draw.betas)
            # The backward pass too, in which a checkpointed layer runs again.
            with at(draw.betas, snr_db=draw.snr_db):
                with _autocast(dtype, where):
                    output = model(x, draw.noise)
                require_answerable(output.prediction, batch.named, training.distortion)
                losses = training.objectives(draw, output, batch.y)  # (M,)
                if not torch.isfinite(losses).all():
                    beta = draw.betas[~torch.isfinite(losses)][0].item()
                    raise Diverged(beta, batch.step, state, run)
                if batch.begins:  # weights whose loss was just seen to be finite
                    state = _copy(model)
                optimizer.zero_grad()
                training.learned(losses, system, batch.y).backward()
            optimizer.step()
        yield losses.detach()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def steps_per_epoch(data: Data, run: Run) -> int:
    """How many whole mini-batches the training split holds."""
    return len(data.limited(run.limit).train) // run.batch_size


def bar(shown: bool, *args: Any, **settings: Any) -> "tqdm[Any]":
    """A progress bar of tqdm's; where it is shown, $TQDM_DISABLE still hides it."""
    return tqdm(*args, **settings) if shown else tqdm(*args, **settings, disable=True)


def fit(
    model: System | Stacked,
    data: Data | Split | Batches,
    run: Run | None = None,
    *,
    epochs: int | None = None,
    device: str = "auto",
    progress: bool = False,
    resume: str | PathLike[str] | None = None,
    **settings: Any,
) -> Fit:
    """Train `model` in place on (17) by Algorithm 1.

    Each step takes `batch_size` examples and splits them into as many shares as it draws values
    of β. At the end the model is in `eval` mode.

    Args:
        model: what the run's method builds, or a `System` of yours: plain for method `vib`, gated
            by `hyperize` for `hyper-vib`.
        data: the splits; training uses the first, the others are checked. One split is enough
            where nothing is to be selected or reported. Or any iterable of mini-batches (x, y),
            such as a `DataLoader`; see `hvib.methods.fitting.fit_batches`.
        run: the settings; its method decides how β is drawn and weighted. Without a run, give
            `epochs`: the system says the rest, and `settings` what differs, as fields of `Run`.
        device: `auto`, `cpu` or `cuda`.
        progress: whether to show a progress bar.
        resume: a file that ends in `.safetensors`, or a folder, in which each run has a file of
            its own. Training is filed there at the ends of epochs, every few seconds at most.
            After a kill the same call goes on from the file and ends, bit for bit on the same
            machine, as if undisturbed; PyTorch's own generators, which dropout draws from, are
            set to this end. The file stays: after the end the same call returns the same `Fit`
            at once, with the trained weights. See `hvib.methods.resuming`.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine; or the file is
            damaged, or of another run, model, data or kind of machine.
        Diverged: a loss is not finite.
        OSError: the file cannot be written.
    """
    if not isinstance(data, Data | Split):
        from hvib.methods.fitting import fit_batches  # here: it is made of this file

        settings |= {"run": run, "resume": resume}
        return fit_batches(model, data, epochs, device, progress, **settings)
    data = Data(data, data, data) if isinstance(data, Split) else data
    # `steps` asks for it too, which would count as training time.
    data = checked(data, one_of(model).distortion)
    if run is None:
        run = run_of(model, data, epochs, **settings)
    else:
        mend = "they are fields of the run: give them there, or leave the run out"
        require(epochs is None and not settings, "settings", {"epochs": epochs, **settings}, mend)
    file = None if resume is None else file_of(resume, run)
    if parts := method_of(run).parts:
        return _fit_parts(model, data, parts(run), device, progress, file)
    return _fit_one(model, data, run, device, progress, file)


def _fit_one(
    model: System | Stacked, data: Data, run: Run, device: str, progress: bool, file: Path | None
) -> Fit:
    # PyTorch's first optimiser imports this, which would count as training time.
    import torch._dynamo

    per_epoch, where = steps_per_epoch(data, run), torch_device(device)
    total, clock, dtype = run.epochs * per_epoch, _clock(where), product_dtype(run, where)
    kept = Checkpoint(file, model, run, data, where, dtype, clock) if file else None
    means: list[Tensor] = kept.means if kept else []
    start = clock()
    with bar(progress, total=total, initial=len(means), desc=run.slug) as shown:
        for losses in steps(model, data, run, device, kept):
            means.append(losses.mean())
            shown.update()
    if finish := method_of(run).finish:
        finish(one_of(model), data, run)
    model.eval()
    if not method_of(run).fixed:
        mark(model, run.method, (run.betas[0], run.betas[-1]))
    course = torch.stack(means).view(run.epochs, per_epoch).mean(1).tolist()
    return Fit(kept.seconds if kept else clock() - start, total, course)


def _fit_parts(
    model: System | Stacked,
    data: Data,
    parts: Iterable[tuple[System, Run]],
    device: str,
    progress: bool,
    file: Path | None,
) -> Fit:
    """Fit systems one after another. The stack takes over those of method `vib`, one for each β."""
    mend = "give a `Stacked` of one system for each β, as the run's method builds"
    require(isinstance(model, Stacked), "model", type(model).__name__, mend)
    assert isinstance(model, Stacked)  # for mypy
    courses, states = [], []
    for index, (system, part) in enumerate(parts):
        own = part_of(file, index) if file else None
        courses.append(_fit_one(system, data, part, device, progress, own))
        if part.method == "vib":
            states.append({name: p.detach().clone() for name, p in system.named_parameters()})
    model.to(torch_device(device)).load(states)
    return Fit(
        sum(course.seconds for course in courses),
        sum(course.steps for course in courses),
        [value for course in courses for value in course.epoch_objectives],
    )


def _clock(device: torch.device) -> Callable[[], float]:
    """Wall-clock seconds; for a single CPU thread the processor's, which leave out waiting."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter
