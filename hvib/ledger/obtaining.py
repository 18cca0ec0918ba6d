"""Runs obtained: read from the ledger where they are on file, else trained and filed."""

from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import Timeout
from tqdm import tqdm

from hvib.ledger.execution import execute
from hvib.ledger.filing import clear_partials, file
from hvib.ledger.locks import held
from hvib.ledger.record import Record, find, path_of, write
from hvib.ledger.tensors import load_tensors, save_tensors, weights, weights_of
from hvib.methods.registry import METHODS, method_of
from hvib.run import Run
from hvib.system import Stacked, System
from hvib.train import Diverged, bar


def obtain(
    run: Run,
    *,
    fresh: bool = False,
    device: str = "auto",
    progress: bool = False,
    wait: float = -1,
    keep: bool = False,
) -> Record:
    """The run's record: the one on file, else train now and file it.

    Args:
        fresh: train even where there is a record, and replace it.
        device: where to train: `auto`, `cpu` or `cuda`.
        progress: whether to show a progress bar.
        wait: seconds to wait for another process that trains the same run; −1 for no limit.
        keep: have the trained weights on file too; a run whose weights are not is trained anew.

    Raises:
        ValueError, MissingData, Diverged: as `execute`.
        filelock.Timeout: another process has the run in hand longer than that.
        OSError: the record cannot be filed, as on a full disk; the message names the file.
    """
    method_of(run)

    def filed() -> Record | None:
        known = None if fresh else find(run)
        return None if keep and known and weights(run) is None else known

    if known := filed():
        return known
    with held(path_of(run).with_suffix(".lock"), wait):
        if known := filed():
            return known
        try:
            record = execute(
                run, device=device, progress=progress, weights=weights_of(run) if keep else None
            )
        except Diverged as error:
            kept = path_of(run).with_suffix(".diverged.safetensors")
            file(kept, lambda partial: save_tensors(error.state, partial))
            error.args = (f"{error}; the last good weights are saved in {str(kept)!r}",)
            raise
        # The weights came first and carry the digest of this record: after a kill between the two
        # they belong to none.
        write(record)
        if not keep:
            weights_of(run).unlink(missing_ok=True)
    return record


def trained(run: Run, *, fresh: bool = False, device: str = "auto") -> System | Stacked:
    """The run's trained model, in `eval` mode: its weights on file, else train now and file them.

    Raises:
        ValueError, MissingData, Diverged: as `execute`.
    """
    obtain(run, fresh=fresh, device=device, keep=True)
    model = METHODS.find(run.method).build(run)
    model.load_state_dict(load_tensors(weights_of(run), path_of(run)))
    return model.eval()


def sweep(
    runs: Iterable[Run],
    *,
    fresh: bool = False,
    device: str = "auto",
    progress: bool = True,
    report: Callable[[str], None] = tqdm.write,
) -> list[Record]:
    """Obtain many runs and file each as it ends, so that a killed sweep loses one run at most.

    Several processes may sweep the same runs: each takes those that no other process is training.
    If a run diverges, the sweep reports it, saves its last good weights beside where its record
    would be, and goes on with the others. What killed processes left half written is removed.

    Raises:
        ExceptionGroup: after all others are done, the runs that diverged.
    """
    clear_partials()
    pending = {path_of(run): run for run in runs}
    done: dict[Path, Record] = {}
    failures: list[Exception] = []
    # Where all runs are on record nothing takes long, and a notebook's output has no bar.
    work = progress and (fresh or not all(path.exists() for path in pending))
    with bar(work, total=len(pending), desc="runs") as shown:
        # The first round passes over what other processes are training; the second waits for it.
        for wait in (0.0, -1.0):
            for path, run in list(pending.items()):
                shown.set_postfix_str(f"{run.task} {run.method} {run.slug}")
                try:
                    done[path] = obtain(run, fresh=fresh, device=device, wait=wait)
                except Timeout:
                    continue
                except Diverged as error:
                    failures.append(error)
                    report(f"{run.method} {run.slug}: {error}")
                del pending[path]
                shown.update()
    if failures:
        raise ExceptionGroup("runs that diverged", failures)
    return list(done.values())
