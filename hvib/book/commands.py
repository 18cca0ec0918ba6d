"""The command line: `run`, `sweep`, `verify` and `bench`, each with `--help`."""

import argparse
import io
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from hvib import ledger
from hvib.book.bench import file_ratios, measure
from hvib.book.plan import page, plan
from hvib.check import require, require_known
from hvib.methods import METHODS
from hvib.run import Device, Run, beta_grid
from hvib.tasks import TASKS, make_run


def _run_command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command `run`, with the chosen task's and profile's settings as its defaults."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, value in (("task", "mnist"), ("method", "hyper-vib"), ("profile", "full")):
        peek.add_argument(f"--{name}", default=value)
    chosen, _ = peek.parse_known_args(arguments)
    defaults = make_run(chosen.task, chosen.method, chosen.profile)

    def run(
        config: tyro.conf.OmitArgPrefixes[Run] = defaults,
        device: Device = "auto",
        fresh: bool = False,
    ) -> None:
        """Train one run, file its record and print its curve.

        Args:
            config: the run; what is not given is the profile's.
            device: where to train.
            fresh: train even where there is a record.
        """
        record = ledger.obtain(config, fresh=fresh, device=device, progress=True)
        print(ledger.path_of(config))
        names = ("beta", "metric", "distortion", "rate_nats", "objective", "tx_power")
        print(f"{'split':>10}", *(f"{name:>10}" for name in names))
        for row in record.curve:
            print(f"{row['split']:>10}", *(f"{row[name]:>10.4g}" for name in names))

    return run


def sweep(
    task: str = "mnist",
    profile: str = "full",
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    beta_min: float = 1e-6,
    beta_max: float = 1.0,
    snr_db: float = 20.0,
    device: Device = "auto",
    fresh: bool = False,
) -> None:
    """Obtain all runs of a task's page; those on record are skipped.

    Args:
        task: the task.
        profile: smoke, quick or full.
        methods: these only; all of the page's if none is named.
        seeds: the profile's own if none is named.
        beta_min: smallest β.
        beta_max: largest β.
        snr_db: signal-to-noise ratio of the feature link in dB.
        device: where to train.
        fresh: train even where there are records.
    """
    for method in methods:
        require_known("methods", method, METHODS.all())
    betas = beta_grid(beta_min, beta_max)
    runs = page(task, profile, seeds=seeds or None, betas=betas, snr_db=snr_db)
    known = dict.fromkeys(run.method for run in runs)
    for method in methods:
        mend = f"it is not on the page of task {task}, which has {', '.join(known)}"
        require(method in known, "methods", method, mend)
    runs = [run for run in runs if not methods or run.method in methods]
    for record in ledger.sweep(runs, fresh=fresh, device=device):
        print(record.config.method, record.config.slug)


def verify(
    task: str = "mnist",
    method: str = "vib",
    count: int = 1,
    metric_tolerance: float | None = None,
    device: Device = "auto",
    digests: bool = False,
    add: bool = False,
) -> None:
    """Retrain records and compare; exit status 1 if a metric differs by more than the tolerance.

    Args:
        task: the task.
        method: the method.
        count: how many records: first those of the page, and of these the ones whose β are about
            the middle of its range.
        metric_tolerance: largest difference of the metric that passes; if none is given 0.01, a
            point of accuracy, or 0.05 of an error, which another processor or number format may
            take.
        device: where to train.
        digests: retrain nothing; compare every file of the ledger with its digest, in seconds, and
            end in exit status 1 if one differs or has none.
        add: with `--digests`: give those that have none one, and name them.
    """
    require(digests or not add, "add", add, "it goes with --digests")
    if digests:
        return _verify_digests(add)
    require(count >= 1, "count", count, "give at least 1")
    if metric_tolerance is None:
        metric_tolerance = 0.05 if TASKS.find(task).metric.relative else 0.01
    tolerable = math.isfinite(metric_tolerance) and metric_tolerance >= 0
    require(tolerable, "metric_tolerance", metric_tolerance, "give a finite number of 0 or more")
    chosen = [r for r in ledger.records() if (r.config.task, r.config.method) == (task, method)]
    if not chosen:
        raise ValueError(f"method = {method!r}: no record of it for task {task!r}; run it first")
    of_page = set(plan(task)) if "full" in TASKS.find(task).profiles else set()

    def place(record: ledger.Record) -> tuple[bool, float]:
        middle = sum(map(math.log10, record.config.betas)) / len(record.config.betas)
        return record.config not in of_page, abs(middle - math.log10(1e-3))

    checks = ledger.verify(sorted(chosen, key=place)[:count], device=device)
    ends = ["agrees" if check.metric_gap <= metric_tolerance else "differs" for check in checks]
    for check, end in zip(checks, ends, strict=True):
        then = check.record.environment.get("products", "unknown")
        print(
            f"{check.record.config.slug}: {end}; largest difference "
            f"in the metric {check.metric_gap:.2e} (tolerance {metric_tolerance:g}), in the "
            f"objective {check.objective_gap:.2%}; products {then}, here {check.products}"
        )
    if "differs" in ends:
        sys.exit(1)


def _verify_digests(add: bool) -> None:
    found = ledger.check_digests(add=add)
    for path in found.added:
        print(f"digest added: {path}")
    for line in found.bad:
        print(line)
    print(f"{found.agree} files agree with their digests, {len(found.bad)} do not")
    if found.bad:
        sys.exit(1)


def bench(rounds: int = 200, record: bool = False) -> None:
    """Measure speed as ratios, with nothing else running.

    Args:
        rounds: how often each is measured, at least 3; the slow ones less often.
        record: file the ratios in the ledger, from which the book's page on speed draws.
    """
    ratios = measure(rounds)
    for ratio in ratios:
        aim = f"  [{ratio.aim}]" if ratio.aim else ""
        print(f"{ratio.median:6.2f}  ({ratio.low:.2f} to {ratio.high:.2f})  {ratio.what}{aim}")
    if record:
        file_ratios(ratios)


_BAD_INPUT = (
    *(ValueError, OSError, ImportError, ArithmeticError, ExceptionGroup),
    RuntimeError,  # of PyTorch, whose messages are one line, as where shapes do not fit
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; bad input ends in one line on standard error and exit status 2."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as `>&-` leaves it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 shows a mark for a β, and the rest.
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # The β of a VIB run is one: `--beta` reads better than the field's `--betas`.
    arguments = [re.sub(r"^--beta(?=$|=)", "--betas", argument) for argument in arguments]
    try:
        commands: dict[str, Callable[..., Any]] = {
            "run": _run_command(arguments if arguments[:1] == ["run"] else ()),
            "sweep": sweep,
            "verify": verify,
            "bench": bench,
        }
        try:
            tyro.extras.subcommand_cli_from_dict(commands, prog="python -m hvib", args=arguments)
        finally:
            sys.stdout.flush()  # here, where what fails is one line
    except BrokenPipeError:
        # Whoever reads has read enough, as `head` does: what is left goes nowhere.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + 13)  # as a shell tells of SIGPIPE
    except _BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: finished runs are on record, the same command goes on", file=sys.stderr)
        sys.exit(130)
