"""The ledger: whole or nothing, resumable, safe to share, honest about damage."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import Timeout
from safetensors.torch import load_file

from hvib import ledger
from hvib.book.plan import page
from hvib.evaluation import evaluate
from hvib.ledger import DamagedRecord, Record, obtaining, verification
from hvib.ledger.record import save_tensors
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
    changed = ledger.path_of(RUN)
    changed.write_text(ledger.path_of(other).read_text().replace('"seed": 0', '"seed": 3'))
    with pytest.warns(DamagedRecord, match="its config belongs to"):
        assert ledger.records() == []


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


def test_arrays_of_a_page_are_made_once(results: Path) -> None:
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(torch.rand(3, 2).T)
        return {"shares": made[-1]}

    for fresh, count in ((False, 1), (False, 1), (True, 2)):
        found = ledger.arrays(RUN, "shares", make, fresh=fresh)
        assert len(made) == count
        assert torch.equal(found["shares"], made[-1])
    assert not list(results.rglob("*.partial"))


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
