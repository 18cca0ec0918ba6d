"""Speed as ratios, each measured in turn in one process: `python -m hvib bench`.

Absolute times drift with the machine's load and clock; the ratio of neighbours does not.
Peak memory is that of a process of its own for each.
"""

import itertools
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hvib import ledger, objective
from hvib.check import require
from hvib.data import Batcher, Data, Split
from hvib.hyper import at, fold
from hvib.methods import METHODS
from hvib.methods.hyper_vib import STEPS
from hvib.ranging.simulate import LINKS, simulate
from hvib.run import Run
from hvib.system import draw_noise, one_of
from hvib.tasks import make_run
from hvib.tasks.registry import build
from hvib.train import product_dtype, steps, torch_device


class Ratio(NamedTuple):
    """One line of the benchmark: median and quartiles of the ratio, and what it aims at."""

    what: str
    median: float
    low: float
    high: float
    aim: str = ""

    @property
    def missed(self) -> bool:
        """Whether the median is beyond the aim: `≤ x`, `≥ x`, or `1` within 2%."""
        kind, _, bound = self.aim.rpartition(" ")
        if not bound:
            return False
        off = self.median - float(bound)
        return {"≤": off > 0, "≥": off < 0, "": abs(off) > 0.02}[kind]


def images(count: int, shape: tuple[int, ...] = (1, 28, 28)) -> Data:
    """Random pixels and labels: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    y = torch.randint(10, (count,), generator=generator)
    return Data(*[Split(x, y)] * 3)


def responses(count: int) -> Data:
    """Random responses of the Bluetooth link's size, and times near the mean."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 160, generator=generator)
    return Data(*[Split(x, 50 + 25 * torch.randn(count, 1, generator=generator))] * 3)


def step(run: Run, data: Data) -> Callable[[], object]:
    """One training step of a run at each call, in the training loop itself."""
    loop = steps(METHODS.find(run.method).build(run), data, run)
    return lambda: next(loop)


def product(dtype: torch.dtype, size: int = 1024) -> Callable[[], object]:
    """The machine's own product of two square matrices at each call."""
    a, b = (torch.randn(size, size, device=torch_device()).to(dtype) for _ in range(2))
    return lambda: a @ b


def products_flops(run: Run) -> float:
    """Floating-point operations of one plain step's matrix products.

    Forward, gradient of the weights and gradient of the input are one product each; the
    first layer needs no gradient of its input.
    """
    layers = [m for m in build(run).modules() if isinstance(m, nn.Linear)]
    products = sum(3 * m.in_features * m.out_features for m in layers)
    products -= layers[0].in_features * layers[0].out_features
    return 2.0 * run.batch_size * products


def in_turn(actions: Sequence[Callable[[], object]], rounds: int, warm: int) -> list[list[float]]:
    """Seconds of each action in each round, one after the other; the first rounds not counted."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(warm + rounds):
        for action, seconds in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return [seconds[warm:] for seconds in times]


def _ratio(
    what: str, over: Sequence[float], under: Sequence[float], scale: float = 1, aim: str = ""
) -> Ratio:
    values = [scale * a / b for a, b in zip(over, under, strict=True)]
    low, median, high = statistics.quantiles(values, n=4)
    return Ratio(what, median, low, high, aim)


class _Pictures(Dataset[tuple[Tensor, int]]):
    """A split as most code holds it: PIL images, each transformed when it is asked for."""

    def __init__(self, split: Split, run: Run) -> None:
        from torchvision.transforms import v2

        size = split.x.shape[-2:]
        self.images = [v2.functional.to_pil_image(image) for image in split.x]
        self.labels = split.y.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(size, padding=run.shift),
                v2.RandomHorizontalFlip(0.5 * run.flip),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def usual_step(run: Run, data: Data) -> Callable[[], object]:
    """The same training step written the usual way: DataLoader, PIL transforms, float32.

    Of Hyper-VIB, Algorithm 1 as it is printed: each step draws M values of β and passes all of
    its examples once for each.
    """
    method = METHODS.find(run.method)
    model = method.build(run).train()
    optimizer = torch.optim.AdamW(model.parameters(), run.learning_rate)
    pictures = _Pictures(data.train, run)
    loader = DataLoader(pictures, run.batch_size, shuffle=True, drop_last=True)
    batches = itertools.cycle(loader)
    generator = torch.Generator().manual_seed(0)

    def objective_of(beta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        noise = draw_noise(1, len(x), run.features, generator)
        with at(beta):
            found = objective.terms(model(x[None], noise), y[None], one_of(model).distortion)
            return found.objective(beta)

    def one() -> None:
        x, y = next(batches)
        betas = torch.tensor(run.betas)
        if not method.fixed:
            betas = method.draw_betas(run.betas[0], run.betas[-1], run.shares, generator)
        loss = torch.cat([objective_of(beta[None], x, y) for beta in betas]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return one


_MNIST = {
    "plain": make_run("mnist", "vib", betas=(1e-3,), epochs=1),
    "gated": make_run("mnist", "hyper-vib", epochs=1),
    "ordered": make_run("mnist", "hyper-vib-ordered", epochs=1),
    "batched grid": make_run("mnist", "vib-batched", epochs=1),
}
"""The steps that memory and time are measured of."""


def _peak() -> float:
    """The process's peak memory so far in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # not `getrusage`, which on Linux starts from the parent's
        (line,) = (line for line in status.read_text().splitlines() if "VmHWM" in line)
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def _memory(name: str) -> float:
    """What a few training steps add to the peak memory of this process, in MiB."""
    run = _MNIST[name.removeprefix("textbook ")]
    data = images(4 * run.batch_size)
    take = usual_step if name.startswith("textbook") else step
    before = _peak()
    one = take(run, data)
    for _ in range(3):
        one()
    return _peak() - before


def memory() -> list[Ratio]:
    """Peak memory of training on MNIST, over that of a plain step."""
    names = [*_MNIST, "textbook gated"]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=fresh, max_tasks_per_child=1) as pool:
        plain, *others = pool.map(_memory, names)
    return [
        Ratio(f"MNIST, peak memory: {name} / plain", value / plain, value / plain, value / plain)
        for name, value in zip(names[1:], others, strict=True)
    ]


def measure(rounds: int = 200, warm: int = 10) -> list[Ratio]:
    """All ratios.

    Args:
        rounds: of the quick steps, at least 3; the slow ones have fewer.
        warm: rounds before them that are not counted.

    Raises:
        ValueError: there are too few rounds for quartiles.
    """
    require(rounds >= 3, "rounds", rounds, "give at least 3: fewer have no quartiles")
    require(warm >= 0, "warm", warm, "give 0 or more")
    few = max(rounds // 20, 3)
    return [
        *_mnist(rounds, warm),
        *_bluetooth(rounds, warm),
        *_cifar10(few, min(warm, 2)),
        *_simulation(few),
        *memory(),
    ]


def _mnist(rounds: int, warm: int) -> list[Ratio]:
    vib, hyper, ordered, batched = _MNIST.values()
    few = max(rounds // 10, 3)
    data = images(vib.batch_size * max(rounds + warm, few + 2))
    dtype = product_dtype(vib, torch_device())
    plain, gated, closing, square = in_turn(
        [step(vib, data), step(hyper, data), step(ordered, data), product(dtype)], rounds, warm
    )
    alone, stack = in_turn([step(vib, data), step(batched, data)], few, 2)
    ours, textbook = in_turn([step(hyper, data), usual_step(hyper, data)], few, 2)
    work = products_flops(vib) / (2 * 1024**3)  # of a plain step, in square products
    grid = len(hyper.betas)
    curve = f"MNIST, whole curve of {grid} β at equal epochs: grid one by one"
    return [
        _ratio("MNIST, gated step / plain step", gated, plain, aim="≤ 1.10"),
        _ratio("MNIST, ordered step / plain step", closing, plain),
        _ratio(
            "MNIST, matrix products' rate: plain step / the machine's own (1024³)",
            square,
            plain,
            work,
            aim="≥ 0.70",
        ),
        _ratio(f"{curve} / Hyper-VIB", plain, gated, grid, aim="≥ 10"),
        _ratio(f"{curve} / batched grid", alone, stack, grid),
        _ratio(
            f"MNIST, Algorithm 1 as printed ({hyper.shares} passes, DataLoader, float32) / ours",
            textbook,
            ours,
            aim="≥ 10",
        ),
        _inference(rounds),
    ]


def _inference(rounds: int) -> Ratio:
    """A forward pass of the ordered system folded for one β over one of the plain system."""
    plain = build(_MNIST["plain"]).eval()
    run = _MNIST["ordered"]
    folded = fold(METHODS.find(run.method).build(run), 1e-3).eval()
    x = torch.rand(1, 500, 1, 28, 28)
    noise = draw_noise(1, 500, run.features, torch.Generator().manual_seed(0))

    @torch.no_grad()
    def infer(system: nn.Module) -> None:
        system(x, noise)

    over, under = in_turn([partial(infer, folded), partial(infer, plain)], rounds, 10)
    return _ratio("MNIST, inference: ordered and folded / plain", over, under, aim="1")


def _bluetooth(rounds: int, warm: int) -> list[Ratio]:
    vib = make_run("bluetooth", "vib", betas=(1e-3,), epochs=1)
    names = {"gated": "hyper-vib", "freely gated": "hyper-vib-free", "ordered": STEPS[-1]}
    data = responses(vib.batch_size * (rounds + warm))
    runs = [make_run("bluetooth", method, epochs=1) for method in names.values()]
    plain, *others = in_turn([step(run, data) for run in (vib, *runs)], rounds, warm)
    return [
        _ratio(f"Bluetooth, {name} step / plain step", seconds, plain)
        for name, seconds in zip(names, others, strict=True)
    ]


def _cifar10(rounds: int, warm: int) -> list[Ratio]:
    vib = make_run("cifar10", "vib", betas=(1e-3,), epochs=1)
    hyper, ordered = (make_run("cifar10", name, epochs=1) for name in (STEPS[0], STEPS[-1]))
    data = images(vib.batch_size * (rounds + warm), (3, 32, 32))
    batches = Batcher(data.train, vib.shift, vib.flip, vib.erase)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(data.train), (vib.batch_size,), generator=generator)
    plain, gated, closing, loading, usual = in_turn(
        [
            step(vib, data),
            step(hyper, data),
            step(ordered, data),
            lambda: batches(index, generator),
            usual_step(vib, data),
        ],
        rounds,
        warm,
    )
    return [
        _ratio("CIFAR-10, gated step / plain step", gated, plain, aim="≤ 1.10"),
        _ratio("CIFAR-10, ordered step / plain step", closing, plain),
        _ratio("CIFAR-10, loading and augmentation / plain step", loading, plain, aim="≤ 0.05"),
        _ratio("CIFAR-10, images a second: plain step / the usual way", usual, plain),
    ]


def _simulation(rounds: int) -> list[Ratio]:
    actions = [partial(simulate, link, 20_000, 0) for link in LINKS.values()]
    fifth = [0.2] * rounds  # seconds in which 100,000 a second makes 20,000
    return [
        _ratio(f"{name}, responses simulated a second / 100,000", fifth, seconds, aim="≥ 1")
        for name, seconds in zip(LINKS, in_turn(actions, rounds, 1), strict=True)
    ]


def file_ratios(ratios: Sequence[Ratio]) -> None:
    """File the ratios with the machine and the versions that they are of.

    One file for each number format of products: ratios depend on it most.
    """
    where = ledger.environment(_MNIST["plain"], torch_device())
    values = {"environment": where, "ratios": [ratio._asdict() for ratio in ratios]}
    ledger.write_json(ledger.root() / f"bench-{where['products']}.json", values)


def ratio_rows(benches: Sequence[tuple[dict[str, Any], list[Ratio]]]) -> list[dict[str, str]]:
    """The ratios of all files as rows of a table, a column for each number format.

    A median that misses its aim is in bold.

    Args:
        benches: of `recorded`.
    """

    def cell(ratio: Ratio) -> str:
        median = f"**{ratio.median:.2f}**" if ratio.missed else f"{ratio.median:.2f}"
        return f"{median} ({ratio.low:.2f} to {ratio.high:.2f})"

    named = {f"{where['products']} products": ratios for where, ratios in benches}
    return [
        {"ratio": first.what}
        | {
            column: next((cell(one) for one in ratios if one.what == first.what), "")
            for column, ratios in named.items()
        }
        | {"aim": first.aim}
        for first in benches[0][1]
    ]


def recorded() -> list[tuple[dict[str, Any], list[Ratio]]]:
    """The machine and the ratios of each file, those of bfloat16 before those of float32.

    Raises:
        FileNotFoundError: there is no record yet.
        ValueError: a file is damaged.
    """
    paths = sorted(ledger.root().glob("bench-*.json"))
    if not paths:
        raise FileNotFoundError(f"{ledger.root()}: run `python -m hvib bench --record` first")
    files = [ledger.read_json(path) for path in paths]
    return [(f["environment"], [Ratio(**ratio) for ratio in f["ratios"]]) for f in files]
