"""Speed as ratios, each measured in turn in one process: `python -m hvib bench`.

Absolute times drift with the machine's load and clock; the ratio of neighbours does not.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from hvib.config import Run, make_run
from hvib.data import Data, Split
from hvib.models import build
from hvib.train import METHODS, product_dtype, steps, torch_device


class Ratio(NamedTuple):
    """One line of the benchmark: median and quartiles of the ratio."""

    what: str
    median: float
    low: float
    high: float


def images(count: int) -> Data:
    """Random pixels and labels in MNIST's shape: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
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


def measure(rounds: int = 200, warm: int = 10) -> list[Ratio]:
    """All ratios, on the MNIST network.

    Args:
        rounds: of a plain step, a gated step and a product; a tenth as many of the batched grid.
        warm: rounds before them that are not counted.
    """
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
    curve = f"whole curve of {grid} β at equal epochs: grid one by one"
    return [
        _ratio("gated step / plain step", gated, plain),
        _ratio(
            f"matrix products' rate: plain step / the machine's own ({str(dtype)[6:]}, 1024³)",
            square,
            plain,
            work,
        ),
        _ratio(f"{curve} / Hyper-VIB", plain, gated, grid),
        _ratio(f"{curve} / batched grid", alone, stack, grid),
    ]
