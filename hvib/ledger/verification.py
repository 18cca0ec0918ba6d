"""Records checked: retrained here, and compared; or each file against its digest."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvib.check import require
from hvib.ledger.execution import execute, parameters_of
from hvib.ledger.filing import file, parsed, read_json, root, stamp
from hvib.ledger.record import Record, read, record_of
from hvib.ledger.tensors import load_tensors, record_digest, save_tensors, stored
from hvib.methods.registry import METHODS
from hvib.tasks.registry import TASKS, load
from hvib.train import bar


def _check_made_from(record: Record) -> None:
    """Refuse a record of other data or another model than its task has now."""
    run = record.config
    now = {
        "data_md5": load(run.task).md5,
        "parameters": parameters_of(METHODS.find(run.method).build(run)),
    }
    for name, value in now.items():
        then = getattr(record, name)
        mend = f"the record {run.slug} has {then!r}; delete it to have the run trained anew"
        require(value == then, name, value, mend)


@dataclass(frozen=True)
class Check:
    """How a retrained run compares with its record, over all β and splits."""

    record: Record
    metric_gap: float
    """largest difference in the metric: of accuracies, or of errors relative to the record's"""
    objective_gap: float
    """largest relative difference in the objective"""
    products: str
    """the number format of products that it was retrained in"""


def verify(chosen: Sequence[Record], *, device: str = "auto", progress: bool = True) -> list[Check]:
    """Retrain records and compare; nothing is filed.

    On the machine and with the versions that made a record, the gaps are rounding. Elsewhere the
    order of sums differs, and training amplifies the difference until the gaps are those of
    another seed.

    Raises:
        ValueError: before any training, where a record is of other data or another model than
            its task has now.
    """
    for record in chosen:
        _check_made_from(record)
    checks = []
    for record in bar(progress, chosen, desc="verify"):
        again = execute(record.config, device=device)
        pairs = list(zip(record.curve, again.curve, strict=True))
        relative = TASKS.find(record.config.task).metric.relative
        checks.append(
            Check(
                record,
                max(
                    abs(a["metric"] - b["metric"]) / (a["metric"] if relative else 1)
                    for a, b in pairs
                ),
                max(abs(a["objective"] - b["objective"]) / a["objective"] for a, b in pairs),
                again.environment["products"],
            )
        )
    return checks


@dataclass(frozen=True)
class Digests:
    """How the files of the ledger compare with their digests."""

    agree: int
    """how many do"""
    added: list[Path]
    """those that had none and were given one"""
    bad: list[str]
    """a line for each of the others: which, why and what to do"""


def check_digests(*, add: bool = False) -> Digests:
    """Compare every record, benchmark and file of tensors with its digest.

    Args:
        add: give those that have none one of what they say now; nothing else in them changes.
            Tensors get one where there is a record that they can belong to.
    """
    agree, added, bad = 0, [], []
    for path in _files():
        try:
            if add and _add_digest(path):
                added.append(path)
            _check_digest(path)
            agree += 1
        except ValueError as error:
            bad.append(str(error))
    return Digests(agree, added, bad)


def _files() -> Iterator[Path]:
    """Every record and other result, then the tensors, whose digest is that of their record."""
    depths = ("*/*/*.json", "*/*.json", "*.json")
    yield from sorted(path for depth in depths for path in root().glob(depth))
    for path in sorted(root().glob("*/*/*.safetensors")):
        if not path.name.endswith(".diverged.safetensors"):
            yield path


def _is_record(path: Path) -> bool:
    return len(path.relative_to(root()).parts) == 3


def _record_beside(path: Path) -> Path:
    """The record's file of tensors, whose name begins with the run's."""
    return path.with_name(re.sub(r"(-[0-9a-f]{8})\..*", r"\1.json", path.name))


def _check_digest(path: Path) -> None:
    if path.suffix == ".safetensors":
        load_tensors(path, _record_beside(path))
    elif _is_record(path):
        read(path)
    else:
        read_json(path)


def _add_digest(path: Path) -> bool:
    """Give a file that has no digest one; whether it was so.

    Raises:
        ValueError: what it says is no record.
    """
    if path.suffix == ".safetensors":
        tensors, carried = stored(path)
        record = record_digest(_record_beside(path))
        if carried or not record:
            return False
        file(path, lambda partial: save_tensors(tensors, partial, record))
        return True
    values = parsed(path)
    if "digest" in values:
        return False
    if _is_record(path):
        record_of(path, values)
    stamp(path)
    return True
