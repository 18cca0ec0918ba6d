"""What a task's page runs: its plan, the comparison of methods, and its studies beside it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hvib.check import require_known
from hvib.run import Run, beta_grid
from hvib.tasks import TASKS, Planned, make_run

SEEDS = {"smoke": (0,), "quick": (0,), "full": (0, 1, 2, 3, 4)}
"""The seeds of each profile."""


def plan(
    task: str,
    profile: str = "full",
    *,
    seeds: Iterable[int] | None = None,
    betas: Iterable[float] | None = None,
    **settings: Any,
) -> list[Run]:
    """The runs that a task's page compares.

    For each seed: VIB at each β, and each of the task's `methods` over the same range, at one and
    at two times the epochs of a VIB run. Where the task has it, for the first seed also the
    batched grid.

    Args:
        seeds: the profile's own if not given.
        betas: the grid; its ends are the range Hyper-VIB trains on.

    Raises:
        ValueError, TypeError: as `make_run`.
    """
    require_known("profile", profile, SEEDS)
    grid = tuple(beta_grid() if betas is None else betas)
    seeds = list(SEEDS[profile] if seeds is None else seeds)
    its = TASKS.find(task)

    def one(method: str, seed: int, betas: tuple[float, ...]) -> Run:
        return make_run(task, method, profile, seed=seed, betas=betas, **settings)

    runs = []
    for seed in seeds:
        runs += [one("vib", seed, (beta,)) for beta in grid]
        for method in its.methods:
            once = one(method, seed, grid)
            runs += [once, replace(once, epochs=2 * once.epochs)]
    batched = seeds[:1] if its.batched_grid else []
    return runs + [one("vib-batched", seed, grid) for seed in batched]


def studies(task: str, profile: str = "full", **settings: Any) -> dict[str, list[Run]]:
    """The runs of a task's page beside its plan, by what they study.

    Args:
        settings: as of `plan`.

    Raises:
        ValueError, TypeError: as `plan`.
    """
    return TASKS.find(task).studies(Planned(plan(task, profile, **settings)))


def page(task: str, profile: str = "full", **settings: Any) -> list[Run]:
    """All runs of a task's page, its `plan` and its `studies`, each once.

    Args:
        settings: as of `plan`.

    Raises:
        ValueError, TypeError: as `plan`.
    """
    parts = plan(task, profile, **settings), *studies(task, profile, **settings).values()
    return list(dict.fromkeys(run for runs in parts for run in runs))
