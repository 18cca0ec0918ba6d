"""The tasks by name, and what a run asks of its own: data, and a plain system."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from hvib.channels import CHANNELS
from hvib.check import require_known
from hvib.data import Data
from hvib.house.registry import Registry
from hvib.run import Run, beta_grid
from hvib.system import System
from hvib.tasks.task import Task

TASKS: Registry[Task] = Registry("task", "hvib.tasks")


def load(task: str) -> Data:
    """The data of a task.

    Raises:
        ValueError: no task has the name, or the targets are not what its metric measures.
        MissingData: its files are not on disk.
    """
    found = TASKS.find(task)
    return found.checked(_loaded(found.load))


@functools.lru_cache(maxsize=2)
def _loaded(loader: Callable[[], Data]) -> Data:
    """By the loader, not by its task's name: another loader under that name loads anew."""
    return loader()


def build(run: Run) -> System:
    """The plain system of a run, initialised from its seed.

    Raises:
        ValueError: no task has the name of the run's, its task has no network of that name, no
            channel has its name, or the network's distortion is not what the task's metric
            measures.
    """
    task = TASKS.find(run.task)
    require_known("network", run.network, task.networks)
    require_known("channel", run.channel, ("", *CHANNELS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        system = task.agreed(task.networks[run.network](run))
    if run.channel:
        system.channel = CHANNELS[run.channel](run.snr_db, run.features)
    return system


def make_run(
    task: str,
    method: str,
    profile: str = "full",
    *,
    seed: int = 0,
    betas: Iterable[float] | None = None,
    **settings: Any,
) -> Run:
    """The run of a profile, with any field of `Run` overridden by keyword.

    Args:
        betas: the β it answers for; the whole default grid if not given.

    Raises:
        ValueError: the task or profile is unknown, or a setting is out of range.
        TypeError: a setting is no field of `Run`.
    """
    profiles = TASKS.find(task).profiles
    require_known("profile", profile, profiles)
    base = Run(
        task=task,
        method=method,
        profile=profile,
        seed=seed,
        betas=beta_grid() if betas is None else betas,  # type: ignore[arg-type]  # Run converts
        **profiles[profile],
    )
    return replace(base, **settings)
