"""What a reader can vary in a notebook, read and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from hvib.book.curves import Key
from hvib.book.plan import plan, studies
from hvib.check import require, require_known
from hvib.run import Device, Run, beta_grid


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a reader can vary in a notebook: its papermill parameters."""

    dataset: str
    """a task, or on a page of several tasks their names with a comma between"""
    profile: str
    seeds: tuple[int, ...]
    """empty: the profile's own"""
    snr_db: float
    beta_min: float
    beta_max: float
    device: str
    fresh: bool
    """train even where there is a record"""

    @property
    def each(self) -> "dict[str, Parameters]":
        """These parameters for each of the tasks that `dataset` names, by the task's name."""
        names = [name.strip() for name in self.dataset.split(",")]
        return {name: replace(self, dataset=name) for name in names}

    @property
    def runs(self) -> list[Run]:
        """The runs of the page, as `plan` gives them."""
        return plan(self.dataset, self.profile, **self._settings)

    @property
    def studies(self) -> dict[str, list[Run]]:
        """The page's runs beside them, as `studies` gives them."""
        return studies(self.dataset, self.profile, **self._settings)

    @property
    def live(self) -> str:
        """The profile of what the page trains live: `quick`, unless its own is `smoke`."""
        return "smoke" if self.profile == "smoke" else "quick"

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds or None,
            "betas": beta_grid(self.beta_min, self.beta_max),
            "snr_db": self.snr_db,
        }


def read_parameters(
    namespace: Mapping[str, Any], tasks: Iterable[str] = (), *, several: bool = False
) -> Parameters:
    """Read a notebook's parameters from `globals()`, right after the parameters cell.

    papermill only warns of a name that the notebook does not have; here it is an error,
    as any other plain value in the namespace is. `seeds` may be a list, or text as `0,1,2`.

    Args:
        tasks: what `dataset` may be on this page; any task if none is named.
        several: whether `dataset` may name several tasks, as `bluetooth,wifi`. The page then
            reads the runs of each from `Parameters.each`.

    Raises:
        ValueError: a name is unknown or missing, or a value is out of range.
    """
    known = [f.name for f in fields(Parameters)]
    plain: dict[str, Any] = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, str | int | float | bool | list | tuple | None)
        and not name.startswith("_")
        and name not in ("In", "Out")
        and not isinstance(value, Key)
    }
    for name, value in plain.items():
        require(name in known, name, value, f"unknown parameter; choose among {', '.join(known)}")
    for name in known:
        require(name in plain, name, None, "missing; set it in the parameters cell")
    seeds = plain["seeds"]
    if isinstance(seeds, str):
        seeds = seeds.strip("[]").replace(",", " ").split()
    try:
        seeds = tuple(int(seed) for seed in ([seeds] if isinstance(seeds, int) else seeds))
    except (TypeError, ValueError):
        raise ValueError(f"seeds = {seeds!r}: give whole numbers, as 0,1,2") from None
    require(len(set(seeds)) == len(seeds), "seeds", list(seeds), "name each once")
    require(min(seeds, default=0) >= 0, "seeds", list(seeds), "give 0 or more")
    named = [name.strip() for name in str(plain["dataset"]).split(",")]
    require(several or len(named) == 1, "dataset", plain["dataset"], "name one task")
    require(len(set(named)) == len(named), "dataset", plain["dataset"], "name each task once")
    for name in named if tasks else ():
        require_known("dataset", name, tasks)
    for name in ("snr_db", "beta_min", "beta_max"):
        value = plain[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        require(number, name, value, "give a number (in a YAML file write 1.0e-4, not 1e-4)")
    require(isinstance(plain["fresh"], bool), "fresh", plain["fresh"], "give True or False")
    require_known("device", plain["device"], get_args(Device))
    found = Parameters(**{**plain, "seeds": seeds})
    for one in found.each.values():
        _ = one.runs  # checks the ranges before anything is trained
    return found
