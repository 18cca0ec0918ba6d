"""A run trained and evaluated: what its record says, but for filing it."""

import functools
import itertools
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hvib.data import Data, Split
from hvib.devices.lost import Silenced
from hvib.evaluation import evaluate
from hvib.house.project import PROJECT
from hvib.ledger.filing import file
from hvib.ledger.record import Record
from hvib.ledger.tensors import save_tensors
from hvib.methods.registry import method_of
from hvib.run import Run
from hvib.system import Stacked, System, one_of
from hvib.tasks.registry import load
from hvib.train import fit, product_dtype, torch_device


def environment(run: Run, device: torch.device) -> dict[str, Any]:
    """The machine and the versions that a run's numbers and seconds belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "products": str(product_dtype(run, device)).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    return torch.cpu.get_capabilities().get("cpu_name") or platform.machine()


@functools.cache  # asked at a process's first run: later edits are not what it runs
def _commit() -> str | None:
    """The commit that ran, marked `+` where `hvib` differs from it; None where there is none."""
    # An installed package may lie in another project's repository, whose commits say nothing of it.
    if not Path(__file__).resolve().is_relative_to(PROJECT / "hvib"):
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--", "hvib")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


TRAIN_EXAMPLES = 10_000
"""How many training examples the curve's split `train` is evaluated on at most, unshifted."""


def execute(
    run: Run, *, device: str = "auto", progress: bool = False, weights: Path | None = None
) -> Record:
    """Train and evaluate a run; no record is filed.

    Args:
        weights: file to save the trained weights in, with the record's digest.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        MissingData: the data set is not on disk.
        Diverged: a loss is not finite.
    """
    where = torch_device(device)
    method = method_of(run)
    data = load(run.task)
    # Taken before training, so that data that cannot be digested cost no run.
    digest = data.md5
    model = method.build(run)
    course = fit(model, data, run, device=device, progress=progress)
    record = Record(
        config=run,
        curve=curve(model, data.limited(run.limit), run),
        seconds=round(course.seconds, 3),
        steps=course.steps,
        epochs=len(course.epoch_objectives),
        parameters=parameters_of(model),
        environment=environment(run, where),
        data_md5=digest,
        commit=_commit(),
    )
    if weights:
        file(weights, lambda partial: save_tensors(model.state_dict(), partial, record.digest))
    return record


def parameters_of(model: System | Stacked) -> int:
    return sum(p.numel() for p in model.parameters())


def curve(model: System | Stacked, data: Data, run: Run) -> list[dict[str, Any]]:
    """The rows of a record: each β on each split, at each SNR that the run names.

    Of several devices also each β on the test split without one of them, `test without 0` for one.
    """
    train = data.train.first(TRAIN_EXAMPLES)
    splits = {"train": train, "validation": data.validation, "test": data.test}
    rows = [
        {"split": name, **row}
        for name, split in splits.items()
        for row in _over_snr(model, split, run)
    ]
    blocks = one_of(model).blocks
    for lost in range(len(blocks)) if len(blocks) > 1 else ():
        assert isinstance(model, System)  # a stack's systems have one device each
        channel, model.channel = model.channel, Silenced(model.channel, blocks, {lost})
        found = _over_snr(model, data.test, run)
        model.channel = channel
        rows += [{"split": f"test without {lost}", **row} for row in found]
    exact = ("split", "beta", "betas", "snr_db")
    return [{k: v if k in exact else _rounded(v) for k, v in row.items()} for row in rows]


def _over_snr(model: System | Stacked, split: Split, run: Run) -> list[dict[str, Any]]:
    return [row for snr in run.snrs or (None,) for row in _at_snr(model, split, run, snr)]


def _at_snr(
    model: System | Stacked, split: Split, run: Run, snr_db: float | None
) -> list[dict[str, Any]]:
    told = {} if snr_db is None else {"snr_db": snr_db}
    betas: Sequence[Any] = run.betas
    if method_of(run).joint:
        betas = list(itertools.product(run.betas, repeat=len(one_of(model).blocks)))
    elif run.prices:
        betas = [tuple(price * beta for price in run.prices) for beta in run.betas]
    found = evaluate(model, split, betas, draws=run.draws, snr_db=snr_db)
    if run.prices:  # its β is what the prices multiply
        found = [{**row, "beta": beta} for row, beta in zip(found, run.betas, strict=True)]
    return [{**told, **row} for row in found]


def _rounded(value: float | list[float]) -> float | list[float]:
    """Rounded to the digits that mean something, so that records stay small."""
    if isinstance(value, list):
        return [float(f"{v:.4g}") for v in value]
    return float(f"{value:.7g}")
