"""The ledger: whole or nothing, resumable, safe to share, honest about damage."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hvib import config, ledger
from hvib.ablation import settings, variants
from hvib.config import Run, make_run, page, plan
from hvib.estimators import known_shape_bound
from hvib.ledger import DamagedRecord, Record
from hvib.ranging import LINKS, SEEDS, simulate
from hvib.search import RECORDED, course, possible
from hvib.train import Diverged, evaluate

RUN = make_run("digits", "vib", "smoke", betas=(1e-3,))


@pytest.fixture
def record(results: Path) -> Record:
    return ledger.obtain(RUN)


def test_obtain_trains_once_and_then_reads(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Record:
        raise AssertionError("trained again")

    monkeypatch.setattr(ledger, "execute", refuse)
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

    monkeypatch.setattr(ledger, "execute", refuse)
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

    monkeypatch.setattr(ledger, "execute", killed_in_the_second)
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
    found = evaluate(model, ledger.load("digits").test, run.betas, draws=run.draws)
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
            raise ledger.Timeout("busy")
        return real(run, wait=wait, **kwargs)

    monkeypatch.setattr(ledger, "obtain", busy_at_first)
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

    monkeypatch.setattr(ledger, "execute", diverge_first)
    with pytest.raises(ExceptionGroup, match="runs that diverged"):
        ledger.sweep(runs, progress=False, report=said.append)
    assert ledger.find(runs[1]) is not None
    kept = ledger.path_of(runs[0]).with_suffix(".diverged.safetensors")
    assert torch.equal(load_file(kept)["weight"], torch.ones(2))
    assert "beta = 0.001" in said[0]
    assert kept.name in said[0]


def test_weights_under_two_names_are_kept(tmp_path: Path) -> None:
    weight = torch.ones(2, 2)
    ledger._save({"one": weight, "other": weight.t()}, tmp_path / "tied.safetensors")
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
    monkeypatch.setattr(ledger, "execute", None)  # nothing is trained before all are checked
    other = replace(record, **{name: value})
    with pytest.raises(ValueError, match=f"{name} = .*: the record {RUN.slug} has {value!r}"):
        ledger.verify([record, other], progress=False)


def test_committed_records_cover_the_pages() -> None:
    """The book builds without data: every recorded page has its whole plan on file."""
    for task in ("mnist", "cifar10", "bluetooth", "wifi"):
        missing = [run.slug for run in page(task) if ledger.find(run) is None]
        assert not missing, task


@pytest.mark.parametrize("task", RECORDED)
def test_committed_records_cover_the_searches(task: str) -> None:
    def on_record(run: Run) -> Record:
        record = ledger.find(run)
        assert record, run.slug
        return record

    for seed in (0, 1, 2):
        run = make_run(task, "vib", seed=seed, epochs=RECORDED[task])
        for name in possible(run):
            course(name, run, on_record)


@pytest.mark.parametrize("task", ["digits", "mnist", "bluetooth"])
def test_committed_records_cover_the_ablations(task: str) -> None:
    for seed in config.SEEDS["full"]:
        paper = make_run(task, "hyper-vib", seed=seed)
        runs = [run for group in variants(paper).values() for run in group.values()]
        runs += [run for run in plan(task, seeds=(seed,)) if run.method == "vib"]
        runs += [replace(paper, precision="float32")] * (task == "bluetooth")
        assert not [run.slug for run in runs if ledger.find(run) is None]


@pytest.mark.parametrize("task", ["mnist", "bluetooth", "wifi"])
def test_committed_records_cover_the_tuned_systems(task: str) -> None:
    runs = [make_run(task, "hyper-vib-tuned", seed=seed) for seed in config.SEEDS["full"]]
    runs += [replace(run, method="hyper-vib-ordered", precision="float32") for run in runs]
    assert len(ledger.on_record(runs)) == 2 * len(config.SEEDS["full"])


def test_committed_records_cover_the_settings() -> None:
    runs = [run for found in settings().values() for run in found]
    assert not [run.slug for run in runs if ledger.find(run) is None]


def test_no_network_on_record_beats_its_bound() -> None:
    """The bound for one who is told all but the delay: a leak of the target would be below it."""
    for link in LINKS.values():
        scene = simulate(link, 2000, SEEDS["test"])
        assert scene.paths
        floor = float(np.mean(known_shape_bound(scene.paths, link, 20) ** 2))
        found = [r for r in ledger.records() if r.config.task == link.name]
        assert found
        for record in found:
            assert min(row["metric"] for row in record.rows("test")) > floor, record.config.slug


def test_committed_records_are_sound() -> None:
    found = ledger.records()  # warnings are errors here
    assert found
    for task in {record.config.task for record in found}:
        assert len({record.data_md5 for record in found if record.config.task == task}) == 1
    assert {record.config.profile for record in found} == {"full"}
