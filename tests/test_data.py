"""Loaders: what they give and what they say when they cannot."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs_cifar10

from hvib import data
from hvib.data import Data, Split, load, reals


def test_digits_are_embedded_and_split_without_overlap() -> None:
    d = load("digits")
    assert [len(s) for s in (d.train, d.validation, d.test)] == [1197, 300, 300]
    assert d.train.x.shape[1:] == (1, 8, 8)
    assert float(d.train.x.min()) == 0
    assert float(d.train.x.max()) == 1
    assert set(d.test.y.tolist()) == set(range(10))
    images = {s.x[i].numpy().tobytes() for s in (d.validation, d.test) for i in range(len(s))}
    assert not images & {d.train.x[i].numpy().tobytes() for i in range(len(d.train))}


def test_digest_follows_the_values() -> None:
    d = load("digits")
    other = data.Data(d.train, d.test, d.validation)
    assert d.md5 == data.digits().md5
    assert d.md5 != other.md5
    tensors = [Split(s.x.clone(), s.y) for s in d.splits]
    own = Data(*tensors)
    before = own.md5
    own.train.x.add_(1)
    assert own.md5 != before == d.md5


def test_digest_is_that_of_the_values_in_any_layout() -> None:
    x, y = torch.randn(5, 1), torch.zeros(1).expand(5)[:, None]
    loose, tight = (Data(*[Split(x, targets)] * 3) for targets in (y, y.clone()))
    assert loose.md5 == tight.md5
    assert Data(*[Split(x.bfloat16().requires_grad_(), y)] * 3).md5 != tight.md5


def test_limit_takes_the_first_examples_of_each_split() -> None:
    d = load("digits")
    assert d.limited(0) is d
    for few, whole in zip(d.limited(10).splits, d.splits, strict=True):
        assert torch.equal(few.x, whole.x[:10])
        assert torch.equal(few.y, whole.y[:10])


def test_pixels_are_scaled_to_unit_range() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(reals(x), torch.tensor([0.0, 0.2, 1.0]))
    assert reals(torch.tensor([3.0])).item() == 3.0
    assert len(Split(x, x)) == 3


@pytest.mark.parametrize(("task", "kind"), [("mnist", "MNIST"), ("cifar10", "CIFAR10")])
def test_missing_images_say_where_and_how(
    task: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVIB_DATA", str(tmp_path))
    says = rf"HVIB_DATA = .*no intact {kind} here.*datasets\.{kind}\(.*download=True.*digits"
    with pytest.raises(data.MissingData, match=says):
        data.LOADERS[task]()


def test_damaged_cifar10_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{k}" for k in range(1, 6))):
        (folder / name).write_bytes(b"not it")
    monkeypatch.setenv("HVIB_DATA", str(tmp_path))
    with pytest.raises(data.MissingData, match="no intact CIFAR10 here"):
        data.cifar10()


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
        data.mnist()


def test_a_torchvision_that_cannot_import_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"the pair that requirements.txt pins"):
        data.mnist()


def test_data_are_loaded_once_and_anew_from_another_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("digits") is load("digits")
    shifted = Split(load("digits").test.x + 1, load("digits").test.y)
    monkeypatch.setitem(data.LOADERS, "digits", lambda: data.Data(shifted, shifted, shifted))
    assert load("digits").test is shifted


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(ValueError, match="task = 'emnist': unknown; choose one of bluetooth, "):
        load("emnist")


def test_data_lie_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVIB_DATA", "somewhere")
    assert data.data_root() == Path("somewhere")
    monkeypatch.delenv("HVIB_DATA")
    assert data.data_root() == data.PROJECT / "data"
