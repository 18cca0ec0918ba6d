"""Records as files: one small JSON file for each finished run, whole or not at all.

A record carries the digest of what it says. One that cannot be read, that has another digest or
none, or whose config disagrees with its name, is reported as a `DamagedRecord` warning and never
used.
"""

import itertools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvib.ledger.filing import digest_of, mend, read_json, root, write_json
from hvib.run import Run


class DamagedRecord(UserWarning):
    """A record that is not used; the message says which, why and what to do."""


@dataclass(frozen=True)
class Record:
    """What one run gave."""

    config: Run
    curve: list[dict[str, Any]]
    """one row per β and split, as `hvib.evaluation.evaluate` gives it, with `split`; where the run
    names several SNR, one for each of them, with `snr_db`"""
    seconds: float
    """of training alone, without loading and evaluation; the processor's time for one thread"""
    steps: int
    epochs: int
    parameters: int
    environment: dict[str, Any]
    data_md5: str
    commit: str | None

    def to_json(self) -> dict[str, Any]:
        """All fields, in JSON's types."""
        return {**vars(self), "config": self.config.to_json()}

    @property
    def digest(self) -> str:
        """The digest under which it would be filed now."""
        return digest_of(self.to_json())

    def rows(self, split: str, snr_db: float | None = None) -> list[dict[str, Any]]:
        """The curve on one split, in ascending β.

        Args:
            snr_db: which one, where the run names several.
        """
        rows = [row for row in self.curve if row["split"] == split]
        return rows if snr_db is None else [row for row in rows if row.get("snr_db") == snr_db]


def path_of(run: Run) -> Path:
    """Where the run's record lies, or will lie."""
    return root() / run.task / run.method / f"{run.slug}.json"


def write(record: Record) -> Path:
    """File a record, whole or not at all. It replaces an older record of the same run."""
    path = path_of(record.config)
    write_json(path, record.to_json())
    return path


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        ValueError: the file is damaged, or is not the record that its name says.
    """
    return record_of(path, read_json(path))


def record_of(path: Path, values: Mapping[str, Any]) -> Record:
    """The record that the values of a file are; its digest is not looked at.

    Raises:
        ValueError: they are no record, or not the one that the file's name says.
    """
    said = {name: value for name, value in values.items() if name != "digest"}
    try:
        record = Record(**{**said, "config": Run.from_json(said["config"])})
        wanted = itertools.product(
            record.config.betas, ("validation", "test"), record.config.snrs or (None,)
        )
        found = {(row["beta"], row["split"], row.get("snr_db")) for row in record.curve}
        complete = set(wanted) <= found
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"record = {str(path)!r}: damaged ({error}); {mend(path)}") from error
    run = record.config
    where = Path(run.task, run.method, f"{run.slug}.json")
    if Path(*path.parts[-3:]) != where:
        raise ValueError(
            f"record = {str(path)!r}: its config belongs to {str(where)!r}; {mend(path)}"
        )
    if not complete:
        raise ValueError(
            f"record = {str(path)!r}: its curve lacks a β, a split or an SNR; {mend(path)}"
        )
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
