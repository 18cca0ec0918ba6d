"""Tensors of a run beside its record, as safetensors that know which record they belong to.

They carry the digest of their record, and one of themselves. Where either disagrees, as after a
kill between the filing of weights and that of their record, they are not used.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hvib.ledger.filing import WITHOUT, file, mend, read_json
from hvib.ledger.record import DamagedRecord, path_of
from hvib.run import Run


def weights_of(run: Run) -> Path:
    """Where the run's trained weights lie, for the few runs that a page needs them of."""
    return path_of(run).with_suffix(".safetensors")


def record_digest(record: Path) -> str | None:
    """The digest of a record on file; None where there is no sound one."""
    try:
        digest: str = read_json(record)["digest"]
    except ValueError:
        return None
    return digest


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest of tensors, of their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, record: str | None = None) -> None:
    """Write tensors as safetensors.

    The format takes no tensor in another memory layout, nor one memory under two names, so each
    is copied.

    Args:
        record: digest of the record that they belong to, where there is one.
    """
    form = torch.contiguous_format
    copies = {name: value.clone(memory_format=form) for name, value in tensors.items()}
    digests = {"record": record, "tensors": tensors_digest(copies)}
    save_file(copies, path, {name: value for name, value in digests.items() if value})


def stored(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and the digests that it carries.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            names, carried = opened.keys(), opened.metadata() or {}
            return {name: opened.get_tensor(name) for name in names}, carried
    except (OSError, SafetensorError) as error:
        raise ValueError(f"tensors = {str(path)!r}: damaged ({error}); {mend(path)}") from error


def load_tensors(path: Path, record: Path) -> dict[str, Tensor]:
    """The tensors of a file, which belong to the record of another.

    Raises:
        ValueError: they are damaged, or belong to another record.
    """
    tensors, carried = stored(path)
    if not carried:
        raise ValueError(f"tensors = {str(path)!r}: {WITHOUT}")
    digests = {"record": record_digest(record), "tensors": tensors_digest(tensors)}
    told = {name: value for name, value in digests.items() if value}
    if carried != told:
        why = f"they carry the digests {carried}, and here are {told}"
        raise ValueError(f"tensors = {str(path)!r}: not those of the record ({why}); {mend(path)}")
    return tensors


def found(path: Path, record: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, or None; what does not belong to the record is reported."""
    if not path.exists():
        return None
    try:
        return load_tensors(path, record)
    except ValueError as error:
        warnings.warn(DamagedRecord(str(error)), stacklevel=2)
        return None


def weights(run: Run) -> dict[str, Tensor] | None:
    """The trained weights of the record that is on file; None where there are none of it."""
    return found(weights_of(run), path_of(run))


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
    known = None if fresh else found(path, path_of(run))
    if known is not None:
        return known
    made = make()
    record = record_digest(path_of(run))
    file(path, lambda partial: save_tensors(made, partial, record))
    return stored(path)[0]
