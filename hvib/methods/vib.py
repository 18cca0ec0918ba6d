"""VIB as the paper's baseline, one training run for each β, and two cheaper ways to the grid."""

import math
from collections.abc import Iterator
from dataclasses import replace

from hvib.check import require
from hvib.methods.method import Method, Style
from hvib.run import Run
from hvib.system import Stacked, System
from hvib.tasks.registry import build


def _one_beta(run: Run) -> None:
    require(len(run.betas) == 1, "betas", run.betas, "method vib trains for one β; give one")


def _grid(run: Run) -> Stacked:
    return Stacked([build(run) for _ in run.betas])


def _warm(run: Run) -> Iterator[tuple[System, Run]]:
    """One system that goes from β to β; each β but the first has a quarter of the epochs."""
    system = build(run)
    for beta in run.betas:
        epochs = run.epochs if beta == run.betas[0] else math.ceil(run.epochs / 4)
        yield system, replace(run, method="vib", betas=(beta,), epochs=epochs)


DEFINED = (
    Method(
        name="vib",
        label="VIB",
        build=build,
        shares=lambda run: 1,
        fixed=True,
        check=_one_beta,
        style=Style("#0072B2", "o"),
    ),
    # The systems of all β of a grid at once, as one stack.
    Method(
        name="vib-batched",
        label="VIB, batched grid",
        build=_grid,
        shares=lambda run: 1,
        fixed=True,
        one_system_each=True,
        systems=lambda run: len(run.betas),
        style=Style("#56B4E9", "^"),
    ),
    # One system after another from the smallest β up, each from where the one before it ended.
    Method(
        name="vib-warm",
        label="VIB, warm-started grid",
        build=_grid,
        shares=lambda run: 1,
        fixed=True,
        parts=_warm,
        one_system_each=True,
    ),
)
