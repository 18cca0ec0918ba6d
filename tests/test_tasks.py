"""Tasks: the data that they load, and what they say when they cannot."""

import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Register, needs_cifar10

from hvib import ledger
from hvib.data import Data, Split
from hvib.ranging.simulate import (
    WIFI,
    Multipath,
    examples,
    simulate,
)
from hvib.tasks import ACCURACY, SQUARED_ERROR, TASKS, Metric, friedman, load, make_run, ranging
from hvib.tasks.cifar10 import cifar10
from hvib.tasks.images import MissingData
from hvib.tasks.mnist import mnist
from hvib.tasks.ranging import dataset


def test_digits_are_embedded_and_split_without_overlap() -> None:
    d = load("digits")
    assert [len(s) for s in (d.train, d.validation, d.test)] == [1197, 300, 300]
    assert d.train.x.shape[1:] == (1, 8, 8)
    assert float(d.train.x.min()) == 0
    assert float(d.train.x.max()) == 1
    assert set(d.test.y.tolist()) == set(range(10))
    images = {s.x[i].numpy().tobytes() for s in (d.validation, d.test) for i in range(len(s))}
    assert not images & {d.train.x[i].numpy().tobytes() for i in range(len(d.train))}


@pytest.mark.parametrize(
    ("metric", "of", "says"),
    [
        (ACCURACY, lambda y: torch.eye(10)[y], r"float32: task mine's .*give .*y.argmax\(1\)"),
        (SQUARED_ERROR, lambda y: y.to(torch.uint8), "int64: task mine's .*give real targets"),
    ],
)
def test_targets_that_a_task_s_metric_does_not_measure_are_refused(
    metric: Metric, of: Callable[[torch.Tensor], torch.Tensor], says: str, register: Register
) -> None:
    digits = TASKS.find("digits")
    data = Data(*(Split(s.x, of(s.y)) for s in digits.load().splits))
    register(replace(digits, name="mine", metric=metric, load=lambda: data))
    with pytest.raises(ValueError, match=rf"train.y.dtype = torch.{says}"):
        load("mine")
    with pytest.raises(ValueError, match=rf"train.y.dtype = torch.{says}"):
        ledger.execute(make_run("mine", "hyper-vib", "smoke"))


def test_narrow_classes_are_the_same_data(register: Register) -> None:
    digits = TASKS.find("digits")
    narrow = Data(*(Split(s.x, s.y.to(torch.uint8)) for s in digits.load().splits))
    register(replace(digits, name="mine", load=lambda: narrow))
    assert load("mine").md5 == digits.load().md5


@pytest.mark.parametrize(("task", "kind"), [("mnist", "MNIST"), ("cifar10", "CIFAR10")])
def test_missing_images_say_where_and_how(
    task: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVIB_DATA", str(tmp_path))
    says = rf"HVIB_DATA = .*no intact {kind} here.*datasets\.{kind}\(.*download=True.*digits"
    with pytest.raises(MissingData, match=says):
        TASKS.find(task).load()


def test_damaged_cifar10_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{k}" for k in range(1, 6))):
        (folder / name).write_bytes(b"not it")
    monkeypatch.setenv("HVIB_DATA", str(tmp_path))
    with pytest.raises(MissingData, match="no intact CIFAR10 here"):
        cifar10()


@needs_cifar10
def test_cifar10_is_split_as_said() -> None:
    d = load("cifar10")
    assert [len(s) for s in (d.train, d.validation, d.test)] == [45_000, 5_000, 10_000]
    assert d.train.x.shape[1:] == (3, 32, 32)
    assert d.train.x.dtype == torch.uint8
    assert set(d.test.y.tolist()) == set(range(10))


def test_damaged_mnist_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 10)):
        images = np.zeros((count, 28, 28), np.uint8).tobytes()
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images)
        labels = struct.pack(">II", 2049, count) + bytes(count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    monkeypatch.setenv("HVIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="the MNIST files here are damaged"):
        mnist()


def test_a_torchvision_that_cannot_import_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"the pair that requirements.txt pins"):
        mnist()


def test_data_are_loaded_once_and_anew_from_another_loader(register: Register) -> None:
    assert load("digits") is load("digits")
    shifted = Split(load("digits").test.x + 1, load("digits").test.y)
    other = replace(TASKS.find("digits"), load=lambda: Data(shifted, shifted, shifted))
    register(other)
    assert load("digits").test is shifted


def test_the_least_error_of_friedman_s_regression_is_known() -> None:
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(200, noise=0.0, random_state=3)
    torch.testing.assert_close(
        friedman.inference(torch.from_numpy(x)), torch.from_numpy(y)[:, None]
    )
    data = load("friedman")
    errors = [(s.y - friedman.inference(s.x)).square().mean().item() for s in data.splits]
    assert errors == pytest.approx([friedman.NOISE**2] * 3, rel=0.06)
    assert [len(s) for s in data.splits] == list(friedman.SIZES.values())
    assert len(torch.cat([s.y for s in data.splits]).unique()) > 29_000  # three sets of draws


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(ValueError, match="task = 'emnist': unknown; choose one of anchors, "):
        load("emnist")


def test_the_tasks_have_disjoint_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"bluetooth", "wifi"} <= set(TASKS.all())
    monkeypatch.setattr(ranging, "TRAIN", 300)
    monkeypatch.setattr(ranging, "HELD_OUT", 200)
    data = TASKS.find("wifi").load()
    assert [len(s) for s in (data.train, data.validation, data.test)] == [300, 200, 200]
    rows = torch.cat([s.y for s in (data.train, data.validation, data.test)])
    assert len(rows.unique()) == 700
    for split, seed in ((data.train, 0), (data.validation, 1), (data.test, 2)):
        assert torch.equal(split.x, examples(simulate(WIFI, len(split), seed)).x)
    assert data.md5 == TASKS.find("wifi").load().md5
    noisy = dataset(WIFI, snr_db=0.0, multipath=Multipath(obstructed=0.5))()
    assert noisy.md5 != data.md5
