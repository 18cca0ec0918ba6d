"""The ledger: whole or nothing, resumable, safe to share, honest about damage."""

import errno
import fcntl
import json
import os
import random
import re
import resource
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import Timeout
from safetensors.torch import load_file, save_file

from hvib import ledger
from hvib.book.plan import page
from hvib.evaluation import evaluate
from hvib.house.project import PROJECT
from hvib.ledger import DamagedRecord, Record, filing, locks, obtaining, verification
from hvib.ledger.tensors import save_tensors, weights
from hvib.run import Run
from hvib.tasks import load, make_run
from hvib.train import Diverged

RUN = make_run("digits", "vib", "smoke", betas=(1e-3,))


@pytest.fixture
def record(results: Path) -> Record:
    return ledger.obtain(RUN)


def test_obtain_trains_once_and_then_reads(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Record:
        raise AssertionError("trained again")

    monkeypatch.setattr(obtaining, "execute", refuse)
    assert ledger.obtain(RUN) == record
    with pytest.raises(AssertionError, match="trained again"):
        ledger.obtain(RUN, fresh=True)
    assert ledger.find(RUN) == record  # a fresh run that fails leaves the old record


def test_record_holds_what_the_book_needs(record: Record) -> None:
    values = json.loads(ledger.path_of(RUN).read_text())
    assert values["config"]["task"] == "digits"
    assert {row["split"] for row in values["curve"]} == {"train", "validation", "test"}
    row = record.rows("test")[0]
    assert row["objective"] == pytest.approx(row["distortion"] + 1e-3 * row["rate_nats"], rel=1e-5)
    assert 0 <= row["metric"] <= 1
    assert record.steps == 2 * (1197 // 128)
    assert record.environment["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"[0-9a-f]{32}", record.data_md5)
    assert record.commit is None or re.fullmatch(r"[0-9a-f]{12}\+?", record.commit)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"seconds"', '"second"'),
        lambda text: text.replace('"epochs": 2', '"epochs": "two"', 1),
        lambda text: text.replace('"test"', '"tets"'),
        lambda text: re.sub('"digest": .*', "", text),
        lambda text: text.replace('"digest"', '"digesu"'),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_record_is_reported_and_never_used(record: Record, damage: Any) -> None:
    path = ledger.path_of(RUN)
    path.write_text(damage(path.read_text()))
    with pytest.warns(DamagedRecord, match=re.escape(path.name)):
        assert ledger.find(RUN) is None
    with pytest.warns(DamagedRecord):
        assert ledger.records() == []
    with pytest.warns(DamagedRecord):
        assert ledger.obtain(RUN).curve == record.curve  # trained anew and mended
    assert ledger.find(RUN) is not None


def test_a_mislabelled_record_is_reported_and_never_used(record: Record) -> None:
    other = replace(RUN, seed=7)
    ledger.path_of(RUN).rename(ledger.path_of(other))
    with pytest.warns(DamagedRecord, match="its config belongs to"):
        assert ledger.find(other) is None
    with pytest.warns(DamagedRecord, match="its config belongs to"):
        assert ledger.records() == []


def test_no_flipped_bit_makes_another_record(record: Record) -> None:
    path = ledger.path_of(RUN)
    content, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert ledger.read(path) == record  # an e for an E
        except ValueError:
            refused += 1
    assert refused > 290


def test_digests_are_checked_and_added(record: Record) -> None:
    path, weights_path = ledger.path_of(RUN), ledger.weights_of(RUN)
    with_digest = path.read_text()
    path.write_text(without := re.sub(' "digest": .*\n', "", with_digest))
    save_file({"weight": torch.ones(2)}, weights_path)
    (ledger.root() / "bench-float32.json").write_text('{"ratios": []}')
    found = ledger.check_digests()
    assert (found.agree, found.added, len(found.bad)) == (0, [], 3)
    assert all("verify --digests --add" in line for line in found.bad)
    found = ledger.check_digests(add=True)
    assert (found.agree, len(found.added), found.bad) == (3, 3, [])
    assert path.read_text() == with_digest
    assert torch.equal((weights(RUN) or {})["weight"], torch.ones(2))
    assert ledger.check_digests(add=True).added == []
    path.write_text(with_digest.replace('"epochs": 2', '"epochs": 3'))
    found = ledger.check_digests(add=True)
    assert [name in line for name in (path.name, weights_path.name) for line in found.bad] == [
        *(True, False),
        *(False, True),
    ]
    path.write_text(without.replace('"curve"', '"curves"'))
    assert path.name in ledger.check_digests(add=True).bad[0]  # no record at all gets none


def test_the_committed_files_say_what_their_digests_are_of() -> None:
    found = ledger.check_digests()
    assert found.bad == []
    assert found.agree > 1_800


def test_what_is_on_record_is_read_and_nothing_trained(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> Record:
        raise AssertionError("trained")

    monkeypatch.setattr(obtaining, "execute", refuse)
    assert ledger.on_record([replace(RUN, seed=7), RUN]) == [record]


def test_a_write_that_fails_leaves_the_record_as_it_was(record: Record) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ledger.write(replace(record, seconds=float("nan")))
    assert ledger.find(RUN) == record


def test_a_killed_sweep_resumes_with_what_is_left(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("digits", "vib", "smoke", betas=(b,)) for b in (1e-3, 1e-2, 1e-1)]
    real, trained = ledger.execute, []

    def killed_in_the_second(run: Run, **kwargs: Any) -> Record:
        trained.append(run)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(run, **kwargs)

    monkeypatch.setattr(obtaining, "execute", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        ledger.sweep(runs, progress=False)
    assert [r.config for r in ledger.sweep(runs, progress=False)] == runs
    assert trained == [runs[0], runs[1], runs[1], runs[2]]


def test_two_sweeps_at_once_share_the_work(results: Path) -> None:
    command = [sys.executable, "-m", "hvib", "sweep", "--task", "digits", "--profile", "smoke"]
    runs = page("digits", "smoke")
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for process in both:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()
        assert len(out.splitlines()) == len(runs)
    assert {r.config for r in ledger.records()} == set(runs)
    assert not list(results.rglob("*.partial"))


@pytest.mark.parametrize("network", ["", "digits-convolutions"])
def test_weights_are_kept_where_a_page_asks_for_them(network: str, results: Path) -> None:
    run = make_run("digits", "hyper-vib-free", "smoke", betas=(1e-3, 1e-2), network=network)
    ledger.obtain(run)
    assert not ledger.weights_of(run).exists()
    model = ledger.trained(run)  # trains anew: the record alone has no weights
    assert not any(module.training for module in model.modules())
    record = ledger.find(run)
    assert record
    found = evaluate(model, load("digits").test, run.betas, draws=run.draws)
    for row, recorded in zip(found, record.rows("test"), strict=True):
        assert row["objective"] == pytest.approx(recorded["objective"], rel=1e-5)
    before = ledger.weights_of(run).stat().st_mtime_ns
    ledger.trained(run)
    assert ledger.weights_of(run).stat().st_mtime_ns == before
    ledger.obtain(run, fresh=True)
    assert not ledger.weights_of(run).exists()


def other_training(record: Record) -> Record:
    """File a record and weights of another training of its run: zeros, and an objective of 9."""
    other = replace(record, curve=[{**row, "objective": 9.0} for row in record.curve])
    zeros = {name: 0 * value for name, value in ledger.trained(RUN).state_dict().items()}
    save_tensors(zeros, ledger.weights_of(RUN), other.digest)
    ledger.write(other)
    return other


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_a_kill_between_weights_and_record_leaves_none_of_another_training(
    count: int, after: bool, keep: bool, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_training(record)
    real, calls = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) < count or after:
            real(self, target)
        if len(calls) == count:
            raise KeyboardInterrupt
        return target

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        ledger.obtain(RUN, fresh=True, keep=keep)
    left = ledger.find(RUN)
    assert left
    told = left.rows("test")[0]["objective"]
    found = read_weights()
    if found is not None:
        assert (not any(value.any() for value in found.values())) == (told == 9)


def read_weights() -> dict[str, torch.Tensor] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRecord)
        return weights(RUN)


def test_weights_of_another_training_are_reported_and_made_anew(record: Record) -> None:
    other_training(record)
    ledger.write(record)
    with pytest.warns(DamagedRecord, match="not those of the record"):
        model = ledger.trained(RUN)
    assert any(value.any() for value in model.state_dict().values())
    ledger.weights_of(RUN).write_bytes(b"torn")
    with pytest.warns(DamagedRecord, match="damaged"):
        ledger.trained(RUN)


def test_arrays_of_a_page_are_made_once(record: Record) -> None:
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(torch.rand(3, 2).T)
        return {"shares": made[-1]}

    for fresh, count in ((False, 1), (False, 1), (True, 2)):
        found = ledger.arrays(RUN, "shares", make, fresh=fresh)
        assert len(made) == count
        assert torch.equal(found["shares"], made[-1])
    assert not list(ledger.root().rglob("*.partial"))
    ledger.write(replace(record, seconds=record.seconds + 1))  # trained anew
    with pytest.warns(DamagedRecord, match="not those of the record"):
        ledger.arrays(RUN, "shares", make)
    assert len(made) == 3


def test_a_sweep_removes_what_killed_processes_left(results: Path) -> None:
    folder = results / "digits" / "vib"
    folder.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, host = os.getpid(), filing.HOST
    names = [f"{dead.pid}", f"{dead.pid}@{host}", f"{mine}@{host}", f"{dead.pid}@another", "1@old"]
    paths = [folder / f"full-beta1.0e-06..1.0e+00-seed0.{name}.partial" for name in names]
    for path in paths:
        path.touch()
    os.utime(paths[-1], (0, 0))
    ledger.sweep([], progress=False)
    assert sorted(folder.iterdir()) == sorted(paths[2:4])


def no_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EAGAIN])
def test_without_locks_a_file_is_the_lock(
    number: int, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch, number)
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    path = results / "some" / "run.lock"
    with locks.held(path):
        assert path.read_text().split()[0] == str(os.getpid())
        with pytest.raises(Timeout), locks.held(path, 0):
            pass
    assert list(path.parent.iterdir()) == []
    path.touch()  # of a time when there were locks
    with locks.held(path):
        assert path.stat().st_size
    ledger.obtain(RUN)


@pytest.mark.parametrize("told", [socket.gethostname(), "own"])
def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over(
    told: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch)
    path = results / "some" / "run.lock"
    with locks.held(path):
        told = path.read_text().split()[1] if told == "own" else told
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.write_text(f"{dead.pid}\n{told}\n")
    with locks.held(path, 0):
        assert path.read_text().split()[0] == str(os.getpid())


def test_who_waits_for_a_dead_machine_s_lock_is_told(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_locks(monkeypatch)
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    path = results / "some" / "run.lock"
    path.parent.mkdir(parents=True)
    path.write_text("12345\nnode-b\n")
    os.utime(path, (0, time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))))
    with pytest.raises(Timeout), locks.held(path, 0.5):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "for the run run: process 12345 on node-b holds its lock since 2026-01-02 03:04:05" in line
    )
    assert f"delete {str(path)!r} to go on" in line


def test_who_waits_for_a_lock_of_a_file_system_is_told(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    path = results / "some" / "run.lock"
    with locks.held(path), pytest.raises(Timeout), locks.held(path, 0.5):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert f"a process holds its lock; if it is gone, delete {str(path)!r}" in line


def fail(number: int) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


def test_a_full_disk_keeps_what_is_filed_and_names_the_file(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("digits", "vib", "smoke", betas=(b,)) for b in (1e-3, 1e-2)]
    ledger.obtain(runs[0])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail(errno.ENOSPC))
        with pytest.raises(OSError, match=r"epochs2-seed0.*json': not filed \(No space left") as no:
            ledger.sweep(runs, progress=False)
    assert ledger.path_of(runs[1]).name in str(no.value)
    assert ledger.find(runs[0])
    assert not list(results.rglob("*.partial"))


def test_a_file_that_cannot_be_written_is_named_where_it_holds_weights(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"some.safetensors': not filed \(.*File too large"):
            filing.file(path, lambda partial: save_tensors({"a": torch.ones(9999)}, partial))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HVIB_RESULTS", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"HVIB_RESULTS = '.*/file': no run can be filed in"):
        ledger.obtain(RUN)


def test_a_relative_folder_is_relative_to_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVIB_RESULTS", "mine")
    monkeypatch.chdir(tmp_path)
    assert ledger.root() == PROJECT / "mine"
    monkeypatch.setenv("HVIB_RESULTS", "~/mine")
    assert ledger.root() == Path.home() / "mine"


def test_a_run_in_another_s_hands_is_waited_for_after_all_others(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("digits", "vib", "smoke", betas=(b,)) for b in (1e-3, 1e-2)]
    real, order = ledger.obtain, []

    def busy_at_first(run: Run, *, wait: float, **kwargs: Any) -> Record:
        order.append((runs.index(run), wait))
        if len(order) == 1:
            raise Timeout("busy")
        return real(run, wait=wait, **kwargs)

    monkeypatch.setattr(obtaining, "obtain", busy_at_first)
    assert len(ledger.sweep(runs, progress=False)) == 2
    assert order == [(0, 0.0), (1, 0.0), (0, -1.0)]


def test_a_diverged_run_keeps_its_weights_and_the_others_go_on(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("digits", "vib", "smoke", betas=(b,)) for b in (1e-3, 1e-2)]
    real = ledger.execute
    said: list[str] = []

    def diverge_first(run: Run, **kwargs: Any) -> Record:
        if run == runs[0]:
            raise Diverged(run.betas[0], 5, {"weight": torch.ones(2)}, run)
        return real(run, **kwargs)

    monkeypatch.setattr(obtaining, "execute", diverge_first)
    with pytest.raises(ExceptionGroup, match="runs that diverged"):
        ledger.sweep(runs, progress=False, report=said.append)
    assert ledger.find(runs[1]) is not None
    kept = ledger.path_of(runs[0]).with_suffix(".diverged.safetensors")
    assert torch.equal(load_file(kept)["weight"], torch.ones(2))
    assert "beta = 0.001" in said[0]
    assert kept.name in said[0]


def test_weights_under_two_names_are_kept(tmp_path: Path) -> None:
    weight = torch.ones(2, 2)
    save_tensors({"one": weight, "other": weight.t()}, tmp_path / "tied.safetensors")
    assert load_file(tmp_path / "tied.safetensors").keys() == {"one", "other"}


def test_verify_retrains_and_finds_a_record_true_or_false(record: Record) -> None:
    (check,) = ledger.verify([record], progress=False)
    assert check.metric_gap == pytest.approx(0, abs=1e-3)
    assert check.objective_gap == pytest.approx(0, abs=1e-3)
    curve = [{**row, "metric": row["metric"] + 0.1} for row in record.curve]
    (check,) = ledger.verify([replace(record, curve=curve)], progress=False)
    assert check.metric_gap == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("name", "value"), [("data_md5", "0" * 32), ("parameters", 7)])
def test_verify_refuses_a_record_of_something_else(
    record: Record, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is trained before all are checked.
    monkeypatch.setattr(verification, "execute", None)
    other = replace(record, **{name: value})
    with pytest.raises(ValueError, match=f"{name} = .*: the record {RUN.slug} has {value!r}"):
        ledger.verify([record, other], progress=False)
