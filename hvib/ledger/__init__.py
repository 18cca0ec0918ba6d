"""The ledger: every number of the book comes from a record here, `results/<task>/<method>/…`."""

from hvib.ledger.execution import TRAIN_EXAMPLES, curve, environment, execute
from hvib.ledger.obtaining import obtain, sweep, trained
from hvib.ledger.record import (
    DamagedRecord,
    Record,
    arrays,
    file,
    find,
    on_record,
    path_of,
    read,
    records,
    root,
    weights_of,
    write,
)
from hvib.ledger.verification import Check, verify

__all__ = [
    "TRAIN_EXAMPLES",
    "Check",
    "DamagedRecord",
    "Record",
    "arrays",
    "curve",
    "environment",
    "execute",
    "file",
    "find",
    "obtain",
    "on_record",
    "path_of",
    "read",
    "records",
    "root",
    "sweep",
    "trained",
    "verify",
    "weights_of",
    "write",
]
