"""Speed as ratios, each measured in turn in one process: `python -m hvib bench`.

Absolute times drift with the machine's load and clock; the ratio of neighbours does not.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hvib import objective
from hvib.config import Run, make_run
from hvib.data import Batcher, Data, Split
from hvib.models import build
from hvib.ranging import LINKS, simulate
from hvib.train import METHODS, draw_noise, product_dtype, steps, torch_device


class Ratio(NamedTuple):
    """One line of the benchmark: median and quartiles of the ratio."""

    what: str
    median: float
    low: float
    high: float


def images(count: int, shape: tuple[int, ...] = (1, 28, 28)) -> Data:
    """Random pixels and labels: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    y = torch.randint(10, (count,), generator=generator)
    return Data(*[Split(x, y)] * 3)


def step(run: Run, data: Data) -> Callable[[], object]:
    """One training step of a run at each call, in the training loop itself."""
    loop = steps(METHODS[run.method].build(run), data, run)
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


def _ratio(what: str, over: Sequence[float], under: Sequence[float], scale: float = 1) -> Ratio:
    values = [scale * a / b for a, b in zip(over, under, strict=True)]
    low, median, high = statistics.quantiles(values, n=4)
    return Ratio(what, median, low, high)


class _Pictures(Dataset[tuple[Tensor, int]]):
    """A split as most code holds it: PIL images, each transformed when it is asked for."""

    def __init__(self, split: Split, shift: int) -> None:
        from torchvision.transforms import v2

        size = split.x.shape[-2:]
        self.images = [v2.functional.to_pil_image(image) for image in split.x]
        self.labels = split.y.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(size, padding=shift),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def usual_step(run: Run, data: Data) -> Callable[[], object]:
    """The same training step written the usual way: DataLoader, PIL transforms, float32."""
    model = build(run).train()
    optimizer = torch.optim.AdamW(model.parameters(), run.learning_rate)
    pictures = _Pictures(data.train, run.shift)
    loader = DataLoader(pictures, run.batch_size, shuffle=True, drop_last=True)
    batches = itertools.cycle(loader)
    generator = torch.Generator().manual_seed(0)
    betas = torch.tensor(run.betas)

    def one() -> None:
        x, y = next(batches)
        noise = draw_noise(1, len(x), run.features, generator)
        loss = objective.terms(model(x[None], noise), y[None]).objective(betas).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return one


def measure(rounds: int = 200, warm: int = 10) -> list[Ratio]:
    """All ratios.

    Args:
        rounds: of the quick steps; the slow ones have fewer.
        warm: rounds before them that are not counted.
    """
    few = max(rounds // 20, 2)
    return [
        *_mnist(rounds, warm),
        *_cifar10(few, min(warm, 2)),
        *_simulation(few),
    ]


def _mnist(rounds: int, warm: int) -> list[Ratio]:
    vib = make_run("mnist", "vib", betas=(1e-3,), epochs=1)
    hyper = make_run("mnist", "hyper-vib", epochs=1)
    batched = make_run("mnist", "vib-batched", epochs=1)
    data = images(vib.batch_size * (rounds + warm))
    dtype = product_dtype(vib, torch_device())
    plain, gated, square = in_turn(
        [step(vib, data), step(hyper, data), product(dtype)], rounds, warm
    )
    alone, stack = in_turn([step(vib, data), step(batched, data)], max(rounds // 10, 2), 2)
    work = products_flops(vib) / (2 * 1024**3)  # of a plain step, in square products
    grid = len(hyper.betas)
    curve = f"MNIST, whole curve of {grid} β at equal epochs: grid one by one"
    return [
        _ratio("MNIST, gated step / plain step", gated, plain),
        _ratio(
            f"MNIST, matrix products' rate: plain step / the machine's own "
            f"({str(dtype)[6:]}, 1024³)",
            square,
            plain,
            work,
        ),
        _ratio(f"{curve} / Hyper-VIB", plain, gated, grid),
        _ratio(f"{curve} / batched grid", alone, stack, grid),
    ]


def _cifar10(rounds: int, warm: int) -> list[Ratio]:
    vib = make_run("cifar10", "vib", betas=(1e-3,), epochs=1)
    hyper, free = (make_run("cifar10", name, epochs=1) for name in ("hyper-vib", "hyper-vib-free"))
    data = images(vib.batch_size * (rounds + warm), (3, 32, 32))
    batches = Batcher(data.train, vib.shift, vib.flip)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(data.train), (vib.batch_size,), generator=generator)
    plain, gated, freely, loading, usual = in_turn(
        [
            step(vib, data),
            step(hyper, data),
            step(free, data),
            lambda: batches(index, generator),
            usual_step(vib, data),
        ],
        rounds,
        warm,
    )
    return [
        _ratio("CIFAR-10, gated step / plain step", gated, plain),
        _ratio("CIFAR-10, freely gated step / plain step", freely, plain),
        _ratio("CIFAR-10, loading and augmentation / plain step", loading, plain),
        _ratio("CIFAR-10, images a second: plain step / the usual way", usual, plain),
    ]


def _simulation(rounds: int) -> list[Ratio]:
    actions = [partial(simulate, link, 20_000, 0) for link in LINKS.values()]
    fifth = [0.2] * rounds  # seconds in which 100,000 a second makes 20,000
    return [
        _ratio(f"{name}, responses simulated a second / 100,000", fifth, seconds)
        for name, seconds in zip(LINKS, in_turn(actions, rounds, 1), strict=True)
    ]
