"""Records and curves whose outcome is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hvib.book.curves import (
    PAPER,
    VIB,
    Curve,
    collect,
)
from hvib.ledger import Record
from hvib.run import beta_grid
from hvib.tasks import make_run

BETAS = beta_grid()


def fake(
    method: str,
    seed: int,
    metric: Callable[[float], float],
    *,
    objective: Callable[[float], float] = lambda beta: 0.1 + beta,
    seconds: float = 10.0,
    parameters: int = 1000,
    betas: tuple[float, ...] = BETAS,
    twice: bool = False,
    task: str = "mnist",
) -> Record:
    run = make_run(task, method, seed=seed, betas=betas)
    run = replace(run, epochs=run.epochs * (1 + twice))
    curve = [
        {
            "split": split,
            "beta": beta,
            "metric": metric(beta),
            "distortion": 0.1,
            "rate_nats": 2.0,
            "objective": objective(beta),
            "tx_power": 1.0,
        }
        for split in ("train", "validation", "test")
        for beta in betas
    ]
    return Record(run, curve, seconds, 100, run.epochs, parameters, {}, "0" * 32, None)


def rewritten(
    record: Record, split: str | None = None, **columns: Callable[[float], object]
) -> Record:
    """The record with some columns as functions of β, on all splits or on one."""
    for row in record.curve:
        if split in (None, row["split"]):
            row.update({name: of(row["beta"]) for name, of in columns.items()})
    return record


def vib(beta: float) -> float:
    return 0.98 - 0.02 * np.log10(beta / 1e-6) / 6 if beta < 0.5 else 0.1


def error(beta: float) -> float:
    return 0.2 if beta < 1e-2 else 0.2 + 5 * beta


def against_grid(
    objective: Callable[[float], float], seconds: float = 15.0
) -> tuple[list[Curve], list[Curve]]:
    records = [fake("vib", seed, vib, betas=(b,)) for seed in range(2) for b in BETAS]
    records += [
        fake("hyper-vib", seed, vib, objective=objective, seconds=seconds) for seed in range(2)
    ]
    curves = collect(records)
    return curves[PAPER], curves[VIB]
