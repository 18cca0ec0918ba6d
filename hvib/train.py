"""Algorithm 1: one training loop for VIB, Hyper-VIB and the batched grid, and evaluation over β."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import one_hot
from tqdm import tqdm

from hvib import objective
from hvib.config import Run, require, require_known
from hvib.data import Batcher, Data, Split, reals
from hvib.hyper import FreeGate, Gate, Gated, at, fold, hyperize, opened
from hvib.models import Output, Stacked, System, build


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


@dataclass(frozen=True)
class Method:
    """How a method lays β out over a mini-batch."""

    build: Callable[[Run], System | Stacked]
    shares: Callable[[Run], int]
    """into how many shares the mini-batch is split, each with its own β"""
    fixed: bool
    """β is the run's own, not drawn anew in each step"""
    parts: Callable[[Run], Iterator[tuple[System, Run]]] | None = None
    """where systems train one after another: each with its own run"""
    power: float = 0.0
    """p: each β's loss is divided by a running estimate of its size to this power"""
    check: Callable[[Run], None] = lambda run: None
    draw: Callable[[float, float, int, torch.Generator], Tensor] = objective.draw_betas
    """draws a step's β: smallest, largest, how many, source of chance"""


def _one_beta(run: Run) -> None:
    require(len(run.betas) == 1, "betas", run.betas, "method vib trains for one β; give one")


def _several_shares(run: Run) -> None:
    require(
        run.batch_size % run.shares == 0,
        "batch_size",
        run.batch_size,
        f"give a multiple of the M = {run.shares} shares of a mini-batch",
    )


def hyper(
    gate: Callable[[Run], Callable[[int], Gate]], power: float = 0.0, behind_norms: bool = True
) -> Method:
    """Hyper-VIB with the gate that `gate` makes of a run."""
    return Method(
        lambda run: hyperize(build(run), run.seed, gate(run), behind_norms=behind_norms),
        lambda run: run.shares,
        fixed=False,
        power=power,
        check=_several_shares,
    )


def _grid(run: Run) -> Stacked:
    return Stacked([build(run) for _ in run.betas])


def over_range(gate: Callable[..., Gate]) -> Callable[[Run], Callable[[int], Gate]]:
    """A gate that is told the ends of the run's range of β."""
    return lambda run: partial(gate, betas=(run.betas[0], run.betas[-1]))


def _ordered(run: Run) -> System:
    """Gates without bounds on every layer, openings at both ends of the link."""
    gated = hyperize(build(run), run.seed, over_range(FreeGate)(run))
    return opened(gated, (run.betas[0], run.betas[-1]))


def _draw_beyond(
    beta_min: float, beta_max: float, count: int, generator: torch.Generator
) -> Tensor:
    """β over a quarter decade more at each end, where a gate that fits the range fits worst."""
    more = 10**0.25
    return objective.draw_betas(beta_min / more, beta_max * more, count, generator)


def _warm(run: Run) -> Iterator[tuple[System, Run]]:
    """One system from β to β, all but the first for a quarter of the epochs."""
    system = build(run)
    for beta in run.betas:
        epochs = run.epochs if beta == run.betas[0] else math.ceil(run.epochs / 4)
        yield system, replace(run, method="vib", betas=(beta,), epochs=epochs)


def _folded(run: Run) -> Stacked:
    gated = _ordered(run)
    return Stacked([fold(gated, beta) for beta in run.betas])


def _tuned(run: Run) -> Iterator[tuple[System, Run]]:
    """A gated system; then, folded at each β, a tenth of the epochs at a tenth of the rate."""
    gated = _ordered(run)
    yield gated, replace(run, method="hyper-vib-ordered")
    brief = replace(
        run,
        method="vib",
        epochs=math.ceil(run.epochs / 10),
        learning_rate=run.learning_rate / 10,
    )
    for beta in run.betas:
        yield fold(gated, beta), replace(brief, betas=(beta,))


METHODS: dict[str, Method] = {
    "vib": Method(build, lambda run: 1, fixed=True, check=_one_beta),
    "vib-batched": Method(_grid, lambda run: 1, fixed=True),
    "vib-warm": Method(_grid, lambda run: 1, fixed=True, parts=_warm),
    "hyper-vib": hyper(lambda run: Gate, power=0.0),
    "hyper-vib-before": hyper(lambda run: Gate, power=0.0, behind_norms=False),
    "hyper-vib-log": hyper(lambda run: Gate, power=1.0),
    "hyper-vib-free": hyper(over_range(FreeGate), power=1.0),
    "hyper-vib-ordered": replace(
        hyper(over_range(FreeGate), power=0.5), build=_ordered, draw=_draw_beyond
    ),
    "hyper-vib-tuned": Method(
        _folded, lambda run: 1, fixed=True, parts=_tuned, check=_several_shares
    ),
}
"""The methods by name. `vib` trains one system for one β. `vib-batched` trains the systems of
all β of a grid at once, as one stack; `vib-warm` one after another from the smallest β up, each
but the first for a quarter of the epochs, from where the one before it ended. `hyper-vib` trains
one gated system for a range of β on the mean objective (15); `hyper-vib-before` the same with
the gates before norms, not behind them; `hyper-vib-log` on the mean logarithm of the objective,
which has no scale; `hyper-vib-free` the same with gates that have no bounds. `hyper-vib-ordered`
has those gates and an opening of each feature at both ends of the link, so that features close
one by one as β grows; it draws β a little beyond the range, and each β's loss is divided by its
size to the power ½. `hyper-vib-tuned` trains it, folds it at each β of the grid, and trains each
plain system there for a tenth of the epochs more, at a tenth of the learning rate."""


def method_of(run: Run) -> Method:
    """The method of a run, its settings checked.

    Raises:
        ValueError: the method is unknown, or the run's settings do not fit it.
    """
    require_known("method", run.method, METHODS)
    method = METHODS[run.method]
    method.check(run)
    return method


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
    """The number format of matrix products; weights and the objective stay float32."""
    if run.precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if run.precision == "bfloat16" else torch.float32


def _autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _system(model: System | Stacked) -> System:
    return model.template if isinstance(model, Stacked) else model


def parameter_groups(model: System | Stacked, weight_decay: float) -> list[dict[str, Any]]:
    """Weight matrices and filters decay, also those that make a free gate; vectors do not.

    Vectors are biases, norms, and u and v of a gate.
    """
    parameters = list(model.parameters())
    like = list(_system(model).parameters())
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
def _denormals_flushed() -> Iterator[None]:
    """Count denormals as zero: collapsed features leave them, and the CPU is slow at them."""
    before = torch.tensor(5e-324, dtype=torch.float64).mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def steps(
    model: System | Stacked, data: Data, run: Run, device: str = "auto"
) -> Iterator[Float[Tensor, " M"]]:
    """Algorithm 1, step by step: yields each step's objectives, one for each of its β.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        Diverged: a loss is not finite.
    """
    method = method_of(run)
    where = torch_device(device)
    _check_model(model, run, method)
    train = data.checked.limited(run.limit).train.to(where)
    require(
        run.batch_size <= len(train),
        "batch_size",
        run.batch_size,
        f"give at most the {len(train)} training examples",
    )
    model.to(where).train()
    batches = Batcher(train, run.shift, run.flip, run.erase)
    generator = torch.Generator(where).manual_seed(run.seed)
    betas = torch.tensor(run.betas, device=where)
    shares = method.shares(run)
    per_epoch = steps_per_epoch(data, run)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, run.weight_decay),
        lr=run.learning_rate,
        betas=(0.9, run.adam_memory),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        run.learning_rate,
        total_steps=max(run.epochs * per_epoch, 2),
        pct_start=0.2,
        cycle_momentum=False,
    )
    dtype = product_dtype(run, where)
    scale = objective.Scale(method.power)
    state = _copy(model)
    for step in range(run.epochs * per_epoch):
        with _denormals_flushed():  # not around the yield: others run between the steps
            if step % per_epoch == 0:
                order = torch.randperm(len(train), generator=generator, device=where)
                shuffled = order[: per_epoch * run.batch_size].split(run.batch_size)
            x, y = batches(shuffled[step % per_epoch], generator)
            x, y = x.unflatten(0, (shares, -1)), y.unflatten(0, (shares, -1))
            if not method.fixed:
                betas = method.draw(run.betas[0], run.betas[-1], shares, generator)
            noise = draw_noise(shares, x.shape[1], run.features, generator)
            with at(betas):  # the backward pass too, in which a checkpointed layer runs again
                with _autocast(dtype, where):
                    output = model(x, noise)
                if step == 0:
                    _check_classes(output, data)
                targets = y.expand(len(betas), *y.shape[1:])
                losses = objective.terms(output, targets).objective(betas)
                if not torch.isfinite(losses).all():
                    raise Diverged(betas[~torch.isfinite(losses)][0].item(), step, state, run)
                if step % per_epoch == 0:  # weights whose loss was just seen to be finite
                    state = _copy(model)
                # One system per β: a sum of separate losses. One for all: the mean of (17).
                loss = losses.sum() if method.fixed else (scale.weights(losses) * losses).mean()
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            schedule.step()
        yield losses.detach()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _check_model(model: System | Stacked, run: Run, method: Method) -> None:
    """Refuse a model that is not the run's, which would train to something else unseen."""
    system = _system(model)
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
    """Whole mini-batches in the training split; what is left over is left to chance."""
    return len(data.limited(run.limit).train) // run.batch_size


def bar(shown: bool, *args: Any, **settings: Any) -> "tqdm[Any]":
    """Tqdm's bar; told nothing where it is to be shown, since $TQDM_DISABLE may hide it."""
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

    `model` is what the run's method builds, or any `System` of yours: plain for `vib`,
    gated by `hyperize` for `hyper-vib`. Each step takes `batch_size` examples, split into
    as many shares as there are values of β in it. At the end the model is in `eval` mode.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        Diverged: a loss is not finite.
    """
    import torch._dynamo  # here: the first optimiser would import it while timed

    data = data.checked  # here too: once for these data, and not while timed
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
    """Fit systems one after another; the stack takes over those of method `vib`, one for each β."""
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
    """Wall-clock seconds; for a single CPU thread its own, without those it waits for others."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def draw_noise(
    shares: int, count: int, features: int, generator: torch.Generator
) -> Float[Tensor, "2 M N n"]:
    """Standard normals for one forward pass: the encoder's, then the channel's."""
    size = (2, shares, count, features)
    return torch.randn(size, generator=generator, device=generator.device)


@torch.no_grad()
@_denormals_flushed()
def evaluate(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float],
    *,
    draws: int = 8,
    seed: int = 0,
    chunk: int = 500,
) -> list[dict[str, Any]]:
    """One row for each β: the metric and the terms of (8), averaged over channel draws.

    All β see the same noise, so that rows differ by β alone. Products are in float32.

    Args:
        draws: independent draws of encoder and channel noise.
        seed: seed of the noise.
        chunk: examples in one forward pass of each β.

    Returns:
        Rows of `beta`; `metric`, accuracy in [0, 1] for classes or the mean of the squared error,
        summed over the k numbers of a target, for reals; `distortion`; `rate_nats`;
        `objective`; `tx_power`, E‖z‖²/n; for
        classes also `by_class`, the accuracy of each.
    """
    sums = torch.zeros(4, len(betas), dtype=torch.float64)
    right, members = torch.zeros(2, dtype=torch.float64)  # of each class, once there are some
    for output, y in _passes(model, split, betas, draws, seed, chunk):
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
@_denormals_flushed()
def predict(
    model: System | Stacked, split: Split, betas: Sequence[float], *, seed: int = 0
) -> Float[Tensor, "M N k"]:
    """ŷ of each example at each β, over one channel draw: logits, or real targets."""
    passes = _passes(model, split, betas, draws=1, seed=seed, chunk=500)
    return torch.cat([output.prediction.cpu() for output, _ in passes], 1)


@torch.no_grad()
@_denormals_flushed()
def share_right(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float],
    *,
    draws: int = 8,
    seed: int = 0,
) -> Float[Tensor, "M N"]:
    """The share of channel draws in which each example's class is inferred, at each β."""
    passes = _passes(model, split, betas, draws, seed, chunk=500)
    return torch.cat(
        [
            (output.prediction.argmax(-1) == y).float().unflatten(1, (draws, -1)).mean(1).cpu()
            for output, y in passes
        ],
        1,
    )


@torch.no_grad()
@_denormals_flushed()
def feature_rates(
    model: System | Stacked, split: Split, betas: Sequence[float]
) -> Float[Tensor, "M n"]:
    """The rate of each feature at each β in nats, a mean over examples; their sum is R (9)."""
    sums = torch.zeros(len(betas), _system(model).features, dtype=torch.float64)
    for output, _ in _passes(model, split, betas, draws=1, seed=0, chunk=500):
        kl = objective.feature_kl(output.mean, output.received_variance)
        sums += kl.sum(1).double().cpu()
    return sums / len(split)


def _passes(
    model: System | Stacked,
    split: Split,
    betas: Sequence[float],
    draws: int,
    seed: int,
    chunk: int,
) -> Iterator[tuple[Output, Shaped[Tensor, "M N *k"]]]:
    """All draws of a split, chunk by chunk, with the targets of each β.

    Raises:
        ValueError: there is nothing to evaluate, or the model is a stack of other than these β.
    """
    split.require_pairs()
    for name, value in (("draws", draws), ("chunk", chunk), ("number of betas", len(betas))):
        require(value >= 1, name, value, "give at least 1")
    if isinstance(model, Stacked):
        held = len(model.stack[0])
        require(len(betas) == held, "betas", list(betas), f"give the {held} that it was trained at")
    where = next(model.parameters()).device
    features = _system(model).features
    mode = model.training
    count = len(betas)
    at_betas = torch.tensor(betas, device=where)
    generator = torch.Generator(where).manual_seed(seed)
    repeat = 1 if isinstance(model, Stacked) else count  # a stack shares its input
    for begin in range(0, len(split), chunk):
        part = Split(split.x[begin : begin + chunk], split.y[begin : begin + chunk]).to(where)
        x = reals(part.x).expand(repeat, *part.x.shape)
        noise = torch.cat([draw_noise(1, len(part), features, generator) for _ in range(draws)], 2)
        model.eval()
        with at(at_betas):
            output = model(x, noise.expand(-1, repeat, -1, -1))
        model.train(mode)  # between the steps of a training that goes on
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
