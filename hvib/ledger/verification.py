"""Records checked: retrained here, and compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from hvib.check import require
from hvib.ledger.execution import execute, parameters_of
from hvib.ledger.record import Record
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
