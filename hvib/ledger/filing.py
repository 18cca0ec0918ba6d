"""Files of the ledger: where they lie, how they are put there whole, and what they say."""

import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hvib.house.project import folder_of

HOST = re.sub(r"[^\w-]", "-", socket.gethostname())
"""This machine's name, as a file's name can hold it."""

WITHOUT = (
    "it has no digest, by which a change of it would be seen; "
    "`python -m hvib verify --digests --add` adds one; it is not used"
)
"""What an error says of a file without a digest."""


def root() -> Path:
    """The ledger's folder: `$HVIB_RESULTS`, else `results/`.

    A relative one is relative to `hvib.house.project.PROJECT`.
    """
    return folder_of("HVIB_RESULTS", "results")


def file(path: Path, put: Callable[[Path], object]) -> None:
    """Let `put` write a file of the ledger, whole or not at all.

    Raises:
        OSError: it cannot be written; the message names the file and the mend.
    """
    # Written under a name of this process, then renamed, which a file system does at once.
    partial = path.with_suffix(f".{os.getpid()}@{HOST}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(partial)
        partial.replace(path)
    # A full disk is an error of its own kind where safetensors writes.
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{str(path)!r}: not filed ({getattr(error, 'strerror', None) or error}); what was "
            "filed before stays: make room, or point HVIB_RESULTS at another folder, and the same "
            "command goes on"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def runs_here(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    if sys.platform == "win32":
        return True  # there the question below would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another account's
    return True


def clear_partials() -> None:
    """Remove what killed processes left half written.

    A file goes where its process, whose number its name has, ran on this machine and is gone; or
    where nobody has written to it for a day.
    """
    for path in root().rglob("*.partial"):
        name = re.search(r"\.(\d+)(?:@([\w-]+))?\.partial$", path.name)
        with suppress(OSError):
            here = name is not None and name[2] in (None, HOST)
            gone = here and name is not None and not runs_here(int(name[1]))
            if gone or time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def digest_of(values: Mapping[str, Any]) -> str:
    """Digest of what a file says: of its canonical JSON, without the field `digest`.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    said = {name: value for name, value in values.items() if name != "digest"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """File values with their digest."""
    told = {"digest": digest_of(values), **values}
    text = json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def parsed(path: Path) -> dict[str, Any]:
    """The values of a file, whatever its digest.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("no object of JSON")
    # Too deep a nesting is a RecursionError.
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise ValueError(f"record = {str(path)!r}: damaged ({error}); {mend(path)}") from error
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The values that `write_json` filed, `digest` among them.

    Raises:
        ValueError: the file cannot be read, has no digest, or says something else than its
            digest is of.
    """
    values = parsed(path)
    if "digest" not in values:
        raise ValueError(f"record = {str(path)!r}: {WITHOUT}")
    try:
        same = values["digest"] == digest_of(values)
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f"record = {str(path)!r}: damaged (it does not say what its digest is of); {mend(path)}"
        )
    return values


def mend(path: Path) -> str:
    """What to do about a damaged file."""
    return f"delete it, or restore it with `git checkout -- {path}`; it is not used"


def stamp(path: Path) -> None:
    """Add the digest that a file lacks, in a line of its own, and change nothing else."""
    digest = digest_of(parsed(path))
    text = path.read_text(encoding="utf-8").replace("{", f'{{\n "digest": "{digest}",', 1)
    file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
