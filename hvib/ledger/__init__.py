"""The ledger: every number of the book comes from a record here, `results/<task>/<method>/…`."""

from hvib.ledger.execution import TRAIN_EXAMPLES, curve, environment, execute
from hvib.ledger.filing import file, read_json, root, write_json
from hvib.ledger.obtaining import obtain, sweep, trained
from hvib.ledger.record import (
    DamagedRecord,
    Record,
    find,
    on_record,
    path_of,
    read,
    records,
    write,
)
from hvib.ledger.tensors import arrays, weights_of
from hvib.ledger.verification import Check, Digests, check_digests, verify

__all__ = [
    "TRAIN_EXAMPLES",
    "Check",
    "DamagedRecord",
    "Digests",
    "Record",
    "arrays",
    "check_digests",
    "curve",
    "environment",
    "execute",
    "file",
    "find",
    "obtain",
    "on_record",
    "path_of",
    "read",
    "read_json",
    "records",
    "root",
    "sweep",
    "trained",
    "verify",
    "weights_of",
    "write",
    "write_json",
]
