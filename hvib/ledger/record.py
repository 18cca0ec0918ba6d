"""Records as files: one small JSON file for each finished run, whole or not at all.

A record that cannot be read, or whose config disagrees with its name, is reported as a
`DamagedRecord` warning and never used.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hvib.project import PROJECT
from hvib.run import Run


class DamagedRecord(UserWarning):
    """A record that is not used; the message says which, why and what to do."""


@dataclass(frozen=True)
class Record:
    """What one run gave."""

    config: Run
    curve: list[dict[str, Any]]
    """one row per β and split, as `hvib.evaluation.evaluate` gives it, with `split`"""
    seconds: float
    """of training alone, without loading and evaluation; the processor's time for one thread"""
    steps: int
    epochs: int
    parameters: int
    environment: dict[str, Any]
    data_md5: str
    commit: str | None

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The curve on one split, in ascending β."""
        return [row for row in self.curve if row["split"] == split]


def root() -> Path:
    """The ledger's folder: `$HVIB_RESULTS`, else `results/` of the project."""
    return Path(os.environ.get("HVIB_RESULTS") or PROJECT / "results").expanduser()


def path_of(run: Run) -> Path:
    """Where the run's record lies, or will lie."""
    return root() / run.task / run.method / f"{run.slug}.json"


def write(record: Record) -> Path:
    """File a record, whole or not at all. It replaces an older record of the same run."""
    path = path_of(record.config)
    values = {**vars(record), "config": record.config.to_json()}
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    file(path, lambda partial: partial.write_text(text))
    return path


def file(path: Path, put: Callable[[Path], object]) -> None:
    """Let `put` write a file of the ledger, whole or not at all."""
    # Written under a name of this process, then renamed, which a file system does at once.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    put(partial)
    partial.replace(path)


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        ValueError: the file is damaged, or is not the record that its name says.
    """
    mend = f"delete it, or restore it with `git checkout -- {path}`; it is not used"
    try:
        values = json.loads(path.read_text())
        record = Record(**{**values, "config": Run.from_json(values["config"])})
        complete = {(b, s) for b in record.config.betas for s in ("validation", "test")} <= {
            (row["beta"], row["split"]) for row in record.curve
        }
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"record = {str(path)!r}: damaged ({error}); {mend}") from error
    run = record.config
    where = Path(run.task, run.method, f"{run.slug}.json")
    if Path(*path.parts[-3:]) != where:
        raise ValueError(f"record = {str(path)!r}: its config belongs to {str(where)!r}; {mend}")
    if not complete:
        raise ValueError(f"record = {str(path)!r}: its curve lacks a β or a split; {mend}")
    return record


def find(run: Run) -> Record | None:
    """The record of a run, or None; a damaged one is reported and counts as none."""
    path = path_of(run)
    if not path.exists():
        return None
    try:
        return read(path)
    except ValueError as error:
        warnings.warn(DamagedRecord(str(error)), stacklevel=2)
        return None


def records() -> list[Record]:
    """All records of the ledger that can be used; the others are reported."""
    found = []
    for path in sorted(root().glob("*/*/*.json")):
        try:
            found.append(read(path))
        except ValueError as error:
            warnings.warn(DamagedRecord(str(error)), stacklevel=2)
    return found


def on_record(runs: Iterable[Run]) -> list[Record]:
    """Those records of these runs that are on file; nothing is trained."""
    return [record for run in runs if (record := find(run))]


def weights_of(run: Run) -> Path:
    """Where the run's trained weights lie, for the few runs that a page needs them of."""
    return path_of(run).with_suffix(".safetensors")


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors.

    The format takes no tensor in another memory layout, nor one memory under two names, so each
    is copied.
    """
    form = torch.contiguous_format
    save_file({name: value.clone(memory_format=form) for name, value in tensors.items()}, path)


def arrays(
    run: Run, name: str, make: Callable[[], dict[str, Tensor]], *, fresh: bool = False
) -> dict[str, Tensor]:
    """Arrays that a page needs of a run beside its record: those on file, else made and filed.

    An example are pictures and what became of them, for which the page would need the data set.

    Args:
        name: what the arrays are, a part of their file's name.
        make: makes them.
        fresh: make them even where they are on file.
    """
    path = path_of(run).with_suffix(f".{name}.safetensors")
    if fresh or not path.exists():
        made = make()
        file(path, lambda partial: save_tensors(made, partial))
    return load_file(path)
