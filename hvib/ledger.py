"""The ledger: one small JSON file for each finished run, `results/<task>/<method>/<slug>.json`.

Every number in the book comes from here. A record that cannot be read, or whose config
disagrees with its name, is reported as a `DamagedRecord` warning and never used.
"""

import functools
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from hvib.config import METRICS, Run, require
from hvib.data import PROJECT, Data, load
from hvib.models import Stacked, System
from hvib.train import (
    METHODS,
    Diverged,
    bar,
    evaluate,
    fit,
    method_of,
    product_dtype,
    torch_device,
)


class DamagedRecord(UserWarning):
    """A record that is not used; the message says which, why and what to do."""


@dataclass(frozen=True)
class Record:
    """What one run gave."""

    config: Run
    curve: list[dict[str, Any]]
    """one row per β and split, as `hvib.train.evaluate` gives it, with `split`"""
    seconds: float
    """training alone: no loading, no evaluation; the processor's time where `threads` is 1"""
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
    """File a record, whole or not at all; an older one of the same run is replaced."""
    path = path_of(record.config)
    values = {**vars(record), "config": record.config.to_json()}
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    file(path, lambda partial: partial.write_text(text))
    return path


def file(path: Path, put: Callable[[Path], object]) -> None:
    """Let `put` write a file of the ledger, whole or not at all."""
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
    """The records that there are of these runs; nothing is trained."""
    return [record for run in runs if (record := find(run))]


def environment(run: Run, device: torch.device) -> dict[str, Any]:
    """The machine and the versions that a run's numbers and seconds belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "products": str(product_dtype(run, device)).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    return torch.cpu.get_capabilities().get("cpu_name") or platform.machine()


@functools.cache  # asked at a process's first run: later edits are not what it runs
def _commit() -> str | None:
    """The commit that ran, marked `+` where `hvib` differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--", "hvib")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


TRAIN_EXAMPLES = 10_000
"""how many training examples, unshifted, the curve's split `train` is evaluated on at most"""


def execute(
    run: Run, *, device: str = "auto", progress: bool = False, weights: Path | None = None
) -> Record:
    """Train and evaluate a run; no record is filed.

    Args:
        weights: file to save the trained weights in.

    Raises:
        ValueError: a setting does not fit the method, the data or the machine.
        MissingData: the data set is not on disk.
        Diverged: a loss is not finite.
    """
    where = torch_device(device)
    method = method_of(run)
    data = load(run.task)
    digest = data.md5  # before training: what it cannot take, or changes, costs no run
    model = method.build(run)
    course = fit(model, data, run, device=device, progress=progress)
    if weights:
        file(weights, lambda partial: _save(model.state_dict(), partial))
    return Record(
        config=run,
        curve=curve(model, data.limited(run.limit), run),
        seconds=round(course.seconds, 3),
        steps=course.steps,
        epochs=len(course.epoch_objectives),
        parameters=_parameters(model),
        environment=environment(run, where),
        data_md5=digest,
        commit=_commit(),
    )


def _parameters(model: System | Stacked) -> int:
    return sum(p.numel() for p in model.parameters())


def curve(model: System | Stacked, data: Data, run: Run) -> list[dict[str, Any]]:
    """The rows of a record: each β on each split."""
    train = data.train.first(TRAIN_EXAMPLES)
    splits = {"train": train, "validation": data.validation, "test": data.test}
    return [
        {
            "split": name,
            **{k: v if k == "beta" else _rounded(v) for k, v in row.items()},
        }
        for name, split in splits.items()
        for row in evaluate(model, split, run.betas, draws=run.draws)
    ]


def _rounded(value: float | list[float]) -> float | list[float]:
    """To the digits that mean something, which keeps records small."""
    if isinstance(value, list):
        return [float(f"{v:.4g}") for v in value]
    return float(f"{value:.7g}")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """A file takes no tensor in another memory format, nor one memory under two names."""
    form = torch.contiguous_format
    save_file({name: value.clone(memory_format=form) for name, value in tensors.items()}, path)


def weights_of(run: Run) -> Path:
    """Where the run's trained weights lie, for the few runs that a page needs them of."""
    return path_of(run).with_suffix(".safetensors")


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
        wait: seconds to wait for another process that trains the same run; −1 for no limit.
        keep: have the trained weights on file too; a record without them is trained anew.

    Raises:
        ValueError, MissingData, Diverged: as `execute`.
        filelock.Timeout: another process has the run in hand longer than that.
    """
    method_of(run)

    def filed() -> Record | None:
        return None if fresh or (keep and not weights_of(run).exists()) else find(run)

    if known := filed():
        return known
    lock = path_of(run).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=wait):
        if known := filed():
            return known
        weights_of(run).unlink(missing_ok=True)  # an older run's would not be this record's
        weights = weights_of(run) if keep else None
        try:
            record = execute(run, device=device, progress=progress, weights=weights)
        except Diverged as error:
            kept = path_of(run).with_suffix(".diverged.safetensors")
            file(kept, lambda partial: _save(error.state, partial))
            error.args = (f"{error}; the last good weights are saved in {str(kept)!r}",)
            raise
        write(record)
    return record


def trained(run: Run, *, fresh: bool = False, device: str = "auto") -> System | Stacked:
    """The run's trained model, in `eval` mode: its weights on file, else train now and file them.

    Raises:
        ValueError, MissingData, Diverged: as `execute`.
    """
    obtain(run, fresh=fresh, device=device, keep=True)
    model = METHODS[run.method].build(run)
    model.load_state_dict(load_file(weights_of(run)))
    return model.eval()


def arrays(
    run: Run, name: str, make: Callable[[], dict[str, Tensor]], *, fresh: bool = False
) -> dict[str, Tensor]:
    """What a page draws of a run beside its record: the arrays on file, else made and filed.

    Pictures and what became of them, for one, which would need the data set again.
    """
    path = path_of(run).with_suffix(f".{name}.safetensors")
    if fresh or not path.exists():
        made = make()
        file(path, lambda partial: _save(made, partial))
    return load_file(path)


def sweep(
    runs: Iterable[Run],
    *,
    fresh: bool = False,
    device: str = "auto",
    progress: bool = True,
    report: Callable[[str], None] = tqdm.write,
) -> list[Record]:
    """Obtain many runs, filing each as it ends: a killed sweep loses the one in flight at most.

    Several processes may sweep the same runs; each takes those that no other has in hand.
    A run that diverges is reported and its last good weights are saved beside where its
    record would be; the others go on.

    Raises:
        ExceptionGroup: after all others are done, the runs that diverged.
    """
    pending = {path_of(run): run for run in runs}
    done: dict[Path, Record] = {}
    failures: list[Exception] = []
    # Where all is on record there is nothing to wait for, and no bar in a notebook's output.
    work = progress and (fresh or not all(path.exists() for path in pending))
    shown = bar(work, total=len(pending), desc="runs")
    # The second round waits for what other processes had in hand in the first.
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
    shown.close()
    if failures:
        raise ExceptionGroup("runs that diverged", failures)
    return list(done.values())


def _check_made_from(record: Record) -> None:
    """Refuse a record of other data or another model than its task has now."""
    run = record.config
    now = {
        "data_md5": load(run.task).md5,
        "parameters": _parameters(METHODS[run.method].build(run)),
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

    On the machine and versions that made a record the gaps are rounding. Elsewhere the
    order of sums differs, training amplifies it, and the gaps are those of another seed.

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
        metric = METRICS.get(record.config.task)
        relative = metric is not None and not metric.higher_is_better
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
