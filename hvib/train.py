"""Algorithm 1: one training loop for VIB, Hyper-VIB and the batched grid."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from hvib import objective
from hvib.check import require, require_known
from hvib.data import Batcher, Data
from hvib.hyper import Gated, at
from hvib.methods.method import Method
from hvib.methods.registry import method_of
from hvib.run import Run
from hvib.system import Output, Stacked, System, draw_noise, one_of


class Diverged(FloatingPointError):
    """A training loss is not finite.

    Attributes:
        beta: the β whose loss it was.
        step: the step at which it was seen, counted from 0.
        state: the model's last good state dictionary; at step 0 the one it started from.
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


def parameter_groups(model: System | Stacked, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's two groups: matrices and filters decay, vectors do not.

    Vectors are biases, the weights of norms, and u and v of a gate. The matrix inside a `FreeGate`
    decays.
    """
    parameters = list(model.parameters())
    # A stack's parameters have one axis more, so it is one of its systems that tells.
    like = list(one_of(model).parameters())
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter, one in zip(parameters, like, strict=True):
        groups[one.dim() > 1].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class Fit:
    """What training took, and its course."""

    seconds: float
    """wall-clock; where a single CPU thread trains, the processor's time"""
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
    model: System | Stacked, data: Data, run: Run, device: str = "auto"
) -> Iterator[Float[Tensor, " M"]]:
    """Algorithm 1, step by step: yields the objectives of each step, one for each of its β.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        Diverged: a loss is not finite.
    """
    method, where = method_of(run), torch_device(device)
    _check_model(model, run, method)
    train = data.checked.limited(run.limit).train.to(where)
    mend = f"give at most the {len(train)} training examples"
    require(run.batch_size <= len(train), "batch_size", run.batch_size, mend)
    model.to(where).train()
    batches = Batcher(train, run.shift, run.flip, run.erase)
    generator = torch.Generator(where).manual_seed(run.seed)
    betas = torch.tensor(run.betas, device=where)
    shares, per_epoch = method.shares(run), steps_per_epoch(data, run)
    optimizer, schedule = _optimizer(model, run, run.epochs * per_epoch)
    dtype, running = product_dtype(run, where), objective.RunningObjective(method.power)
    state = _copy(model)
    for step in range(run.epochs * per_epoch):
        with denormals_flushed():  # not around the yield: others run between the steps
            if step % per_epoch == 0:
                order = torch.randperm(len(train), generator=generator, device=where)
                # The last, incomplete mini-batch is left out: an epoch's order is random, so
                # every example has the same chance to be in it.
                shuffled = order[: per_epoch * run.batch_size].split(run.batch_size)
            x, y = batches(shuffled[step % per_epoch], generator)
            x, y = x.unflatten(0, (shares, -1)), y.unflatten(0, (shares, -1))  # (M, N, …)
            if not method.fixed:
                betas = method.draw_betas(run.betas[0], run.betas[-1], shares, generator)
            noise = draw_noise(shares, x.shape[1], run.features, generator)  # (2, M, N, n)
            with at(betas):  # the backward pass too, in which a checkpointed layer runs again
                with _autocast(dtype, where):
                    output = model(x, noise)
                if step == 0:
                    _check_classes(output, data)
                # A stack answers K values of β with one share: all of them see the same targets.
                targets = y.expand(len(betas), *y.shape[1:])
                losses = objective.terms(output, targets).objective(betas)  # (M,)
                if not torch.isfinite(losses).all():
                    raise Diverged(betas[~torch.isfinite(losses)][0].item(), step, state, run)
                if step % per_epoch == 0:  # weights whose loss was just seen to be finite
                    state = _copy(model)
                # One system per β: a sum of separate losses. One for all: the mean of (17).
                weighted = losses if method.fixed else running.weights(losses) * losses
                loss = weighted.sum() if method.fixed else weighted.mean()
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            schedule.step()
        yield losses.detach()


def _optimizer(
    model: System | Stacked, run: Run, count: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and one cycle of its learning rate over so many steps."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, run.weight_decay),
        lr=run.learning_rate,
        betas=(0.9, run.adam_memory),
        fused=True,  # one kernel for all parameters, also on a CPU
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        run.learning_rate,
        total_steps=max(count, 2),  # PyTorch divides by the number of steps less one
        pct_start=0.2,
        cycle_momentum=False,
    )
    return optimizer, schedule


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _check_model(model: System | Stacked, run: Run, method: Method) -> None:
    """Refuse a model that does not go with the run: it would train, to something else."""
    system = one_of(model)
    mend = f"the model has {system.features}: give the run as many"
    require(system.features == run.features, "features", run.features, mend)
    if hasattr(system.channel, "snr_db"):
        mend = f"the model's channel has {system.channel.snr_db:g} dB: give the run the same"
        require(math.isclose(system.channel.snr_db, run.snr_db), "snr_db", run.snr_db, mend)
    if method.fixed:
        count = len(next(model.parameters())) if isinstance(model, Stacked) else 1
        mend = f"method {run.method} needs a `Stacked` of one system for each of {len(run.betas)} β"
        require(count == len(run.betas), "model", type(model).__name__, mend)
    else:
        gated = any(isinstance(m, Gated) for m in model.modules())
        mend = f"it has no gates, which method {run.method} trains: `hyperize` it first"
        require(gated, "model", type(model).__name__, mend)


def _check_classes(output: Output, data: Data) -> None:
    """Refuse a class that the network cannot name."""
    logits = output.prediction.shape[-1]
    for name, split in data.named.items():
        if not split.y.is_floating_point():
            low, high = int(split.y.min()), int(split.y.max())
            mend = f"the network ends in {logits} logits: give classes from 0 to {logits - 1}"
            require(low >= 0 and high < logits, f"{name}.y", (low, high), mend)


def steps_per_epoch(data: Data, run: Run) -> int:
    """How many whole mini-batches the training split holds."""
    return len(data.limited(run.limit).train) // run.batch_size


def bar(shown: bool, *args: Any, **settings: Any) -> "tqdm[Any]":
    """A progress bar of tqdm's; where it is shown, $TQDM_DISABLE still hides it."""
    return tqdm(*args, **settings) if shown else tqdm(*args, **settings, disable=True)


def fit(
    model: System | Stacked,
    data: Data,
    run: Run,
    *,
    device: str = "auto",
    progress: bool = False,
) -> Fit:
    """Train `model` in place on (17) by Algorithm 1.

    Each step takes `batch_size` examples and splits them into as many shares as it draws values
    of β. At the end the model is in `eval` mode.

    Args:
        model: what the run's method builds, or a `System` of yours: plain for method `vib`, gated
            by `hyperize` for `hyper-vib`.
        data: the splits; training uses the first, the others are checked.
        run: the settings; its method decides how β is drawn and weighted.
        device: `auto`, `cpu` or `cuda`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        Diverged: a loss is not finite.
    """
    # PyTorch's first optimiser imports this, which would count as training time.
    import torch._dynamo

    data = data.checked  # `steps` asks for it too, which would count as training time
    if parts := method_of(run).parts:
        return _fit_parts(model, data, parts(run), device, progress)
    per_epoch = steps_per_epoch(data, run)
    total = run.epochs * per_epoch
    clock = _clock(torch_device(device))
    start = clock()
    with bar(progress, total=total, desc=run.slug) as shown:
        means = []
        for losses in steps(model, data, run, device):
            means.append(losses.mean())
            shown.update()
    model.eval()
    course = torch.stack(means).view(run.epochs, per_epoch).mean(1).tolist()
    return Fit(clock() - start, total, course)


def _fit_parts(
    model: System | Stacked,
    data: Data,
    parts: Iterable[tuple[System, Run]],
    device: str,
    progress: bool,
) -> Fit:
    """Fit systems one after another. The stack takes over those of method `vib`, one for each β."""
    mend = "give a `Stacked` of one system for each β, as the run's method builds"
    require(isinstance(model, Stacked), "model", type(model).__name__, mend)
    assert isinstance(model, Stacked)  # for mypy
    courses, states = [], []
    for system, part in parts:
        courses.append(fit(system, data, part, device=device, progress=progress))
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
