"""One process for each run: locks that also work where the file system has none."""

import errno
import functools
import math
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, SoftFileLock, Timeout
from tqdm import tqdm

from hvib.ledger.filing import HOST, root, runs_here

PATIENCE = 5.0
"""Seconds of waiting after which it is said what is waited for."""

_NO_LOCKS = {
    *(errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP),
    *(errno.EINVAL, errno.EIO, errno.EPERM),
}
"""What file systems without locks answer."""


@contextmanager
def held(path: Path, wait: float = -1) -> Iterator[None]:
    """Hold a lock; where the file system has none, by a file that is there while it is held.

    Such a file stays where its process is killed. A process of this machine that is gone holds it
    no longer. Of one of another machine nobody here can tell, so that one line says what to do.

    Args:
        wait: seconds to wait for another process that holds it; −1 for no limit.

    Raises:
        filelock.Timeout: another process holds it longer than that.
        OSError: the folder cannot be written or locked; the message names it and the mend.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        us = _host_of_soft_locks(path.parent)
        lock = SoftFileLock(path) if us else FileLock(path)
        _acquire(lock, path, wait, us)
    except Timeout:
        raise
    except OSError as error:
        raise OSError(
            f"HVIB_RESULTS = {str(root())!r}: no run can be filed in {str(path.parent)!r} "
            f"({error.strerror or error}); point HVIB_RESULTS at a local folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()


@functools.cache
def _host_of_soft_locks(folder: Path) -> str:
    """What a lock that is a file calls this machine; empty where the folder has locks proper."""
    probe = folder / f"probe.{os.getpid()}@{HOST}.lock"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock warns where it falls back by itself
            with FileLock(probe, timeout=PATIENCE) as lock:
                soft = isinstance(lock, SoftFileLock)
    except OSError as error:
        # Nobody else asks for this lock: a time-out is a file system's refusal too.
        if not isinstance(error, Timeout) and error.errno not in _NO_LOCKS:
            raise
        soft = True
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    if not soft:
        return ""
    with SoftFileLock(probe):
        return probe.read_text(encoding="utf-8").split()[1]


class _Marker(NamedTuple):
    """What a lock that is a file says of who holds it, and since when."""

    words: list[str]
    since: float

    @classmethod
    def of(cls, path: Path) -> "_Marker | None":
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            return cls(text.split(), path.stat().st_mtime)
        except OSError:
            return None

    def left_behind(self, us: str, unchanged: bool) -> bool:
        """Whether nobody holds it: its process was of this machine and is gone, or it is empty.

        A lock proper leaves its file behind, empty, which is one of a time when there were locks.
        """
        if len(self.words) < 2:
            return unchanged
        pid, host, *_ = self.words
        ours = host in (us, socket.gethostname()) and pid.isdecimal()
        return ours and not runs_here(int(pid))


def _acquire(lock: FileLock | SoftFileLock, path: Path, wait: float, us: str) -> None:
    """Acquire a lock: `us` is this machine's name in one that is a file, else empty."""
    start, told = time.monotonic(), False
    while True:
        left = math.inf if wait < 0 else max(wait - (time.monotonic() - start), 0)
        before = _Marker.of(path)
        try:
            lock.acquire(timeout=min(left, PATIENCE))
            return
        except Timeout:
            marker = _Marker.of(path)
            unchanged = left >= PATIENCE and marker == before
            if us and marker and marker.left_behind(us, unchanged):
                path.unlink(missing_ok=True)
                continue
            if left <= PATIENCE:
                raise
        if not told:
            told = True
            holder = f"process {' on '.join(marker.words[:2])}" if us and marker else "a process"
            since = f" since {_clock(marker.since)}" if us and marker else ""
            line = (
                f"waiting since {_clock(time.time() - PATIENCE)} for the run {path.stem}: {holder} "
                f"holds its lock{since}; if it is gone, delete {str(path)!r} to go on"
            )
            tqdm.write(line, file=sys.stderr)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
