"""Splits of data, and the mini-batches drawn from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvib.checks.arrays import require_pairs
from hvib.data import Batcher, Data, Split, reals
from hvib.house.project import PROJECT
from hvib.tasks import load
from hvib.tasks.digits import digits
from hvib.tasks.images import data_root


def test_digest_follows_the_values() -> None:
    d = load("digits")
    other = Data(d.train, d.test, d.validation)
    assert d.md5 == digits().md5
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


def test_integers_of_more_than_8_bits_are_token_numbers() -> None:
    tokens = [0, 3, 300]
    for kind in (torch.int16, torch.int32, torch.int64):
        assert reals(torch.tensor(tokens, dtype=kind)).dtype == torch.int64
    assert reals(Split(np.uint16(tokens), tokens).x).tolist() == tokens  # type: ignore[arg-type]
    for kind in (torch.int8, torch.bool, torch.float16):
        assert reals(torch.ones(2, dtype=kind)).dtype == torch.float32
    assert reals(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_token_numbers_are_augmented_as_pixels_are() -> None:
    x = torch.arange(36).view(1, 1, 6, 6) * 100
    settings = {"shift": 1, "flip": True, "erase": 2}
    tokens, pixels = (
        Batcher(Split(images, torch.zeros(1)), **settings)(  # type: ignore[arg-type]
            torch.tensor([0]), torch.Generator().manual_seed(3)
        )[0]
        for images in (x, x.float())
    )
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens.float(), pixels)


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("kind", [*INTEGERS, "bool"])
def test_labels_of_any_width_are_classes(kind: str) -> None:
    labels = np.array([1, 0, 1], kind)
    given = [
        labels,
        torch.from_numpy(labels),
        labels.tolist(),
        labels.astype(labels.dtype.newbyteorder()),
    ]
    for y in given:
        split = Split(torch.zeros(3), y)
        assert split.y.dtype == torch.int64
        assert split.y.tolist() == [1, 0, 1]


def test_arrays_of_other_libraries_are_tensors() -> None:
    x = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    like = torch.from_numpy(x)
    split = Split(x, like)  # type: ignore[arg-type]
    assert split.x.data_ptr() == like.data_ptr()
    reverse = np.ascontiguousarray(x[::-1])[::-1]
    fixed = np.broadcast_to(x, x.shape)  # read-only
    given = [x.astype(">f4"), reverse, fixed, np.asfortranarray(x), np.ma.array(x), list(like)]
    for values in given:
        assert Data(*[Split(values, like)] * 3).md5 == Data(*[split] * 3).md5  # type: ignore[arg-type]
    assert Split(x.tolist(), x).x.dtype == torch.float64  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array(["cat", "dog"]), "y = 'ndarray of <U3': give numbers; np.unique"),
        (np.array([1, None]), "y = 'ndarray of object': give numbers"),
        (np.array([1, 2], np.longdouble), "y = 'ndarray of .*128': give numbers"),
        (None, "y = 'NoneType of object': give numbers"),
        ([[1], [1, 2]], "y = 'list': give a tensor or an array"),
        (np.ma.masked_equal([1, 2], 2), "y = 'MaskedArray': leave out what is masked"),
        (3, r"y = \(\): give one entry for each example"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(values: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Split(torch.zeros(2), values)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (torch.zeros(3, 1, dtype=torch.uint8), r"y = \(3, 1\): a class is one .* y.flatten\(\)"),
        (torch.eye(3).long(), r"y = \(3, 3\): a class is one .* one-hot rows give y.argmax\(1\)"),
    ],
)
def test_a_class_is_one_number(y: torch.Tensor, says: str) -> None:
    split = Split(torch.zeros(3), y)
    with pytest.raises(ValueError, match=says):
        require_pairs(split.x, split.y)
    splits = Split(torch.zeros(3), y[:, 0]), *[Split(torch.zeros(3), y)] * 2
    with pytest.raises(ValueError, match="validation." + says):
        assert Data(*splits).checked


def test_data_are_splits() -> None:
    split = Split(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"validation = 'tuple': give a Split\(x, y\)"):
        Data(split, (split.x, split.y), split)  # type: ignore[arg-type]


def test_data_lie_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVIB_DATA", "somewhere")
    assert data_root() == PROJECT / "somewhere"  # the same from each working folder
    monkeypatch.setenv("HVIB_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("HVIB_DATA")
    assert data_root() == PROJECT / "data"


@pytest.mark.parametrize(("shift", "flip", "erase"), [(1, False, 0), (0, True, 0), (0, False, 1)])
def test_augmentations_are_for_images(shift: int, flip: bool, erase: int) -> None:
    table = Split(torch.zeros(10, 44, 3), torch.zeros(10, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"for images \(N, C, H, W\) and x is \(10, 44, 3\)"):
        Batcher(table, shift, flip, erase)


def test_batches_shift_images_by_whole_pixels_with_zeros_behind() -> None:
    x = torch.arange(1, 37, dtype=torch.float32).view(1, 1, 6, 6)
    batches = Batcher(Split(x, torch.zeros(1)), shift=2)
    g = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        image = batches(torch.tensor([0]), g)[0][0, 0]
        moves = [
            (i, j)
            for i in range(-2, 3)
            for j in range(-2, 3)
            if torch.equal(image, _moved(x[0, 0], i, j))
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 25


def test_batches_mirror_half_of_the_images() -> None:
    x = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    batches = Batcher(Split(x, torch.zeros(1)), flip=True)
    images = batches(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))[0]
    mirrored = [torch.equal(image, reals(x[0]).flip(-1)) for image in images]
    assert all(m or torch.equal(i, reals(x[0])) for m, i in zip(mirrored, images, strict=True))
    assert 150 < sum(mirrored) < 250


def test_batches_blank_one_whole_square_anywhere_in_each_image() -> None:
    x = torch.arange(1, 61, dtype=torch.float32).view(1, 2, 5, 6)
    batches = Batcher(Split(x, torch.zeros(1)), erase=3)
    images = batches(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))[0]
    corners = set()
    for image in images:
        blank = image[0] == 0
        i, j = blank.nonzero()[0].tolist()
        wanted = x[0].clone()
        wanted[:, i : i + 3, j : j + 3] = 0
        assert blank.sum() == 9
        assert torch.equal(image, wanted)
        corners.add((i, j))
    assert corners == {(i, j) for i in range(3) for j in range(4)}
    with pytest.raises(ValueError, match="erase = 6: give at most the images' 5 pixels"):
        Batcher(Split(x, torch.zeros(1)), erase=6)


def _moved(image: torch.Tensor, i: int, j: int) -> torch.Tensor:
    moved = torch.roll(image, (i, j), (0, 1))
    rows, columns = torch.arange(6)[:, None] - i, torch.arange(6)[None] - j
    return moved * ((rows >= 0) & (rows < 6) & (columns >= 0) & (columns < 6))


def test_without_a_third_split_the_second_serves_as_both(digits: Data) -> None:
    two = Data(digits.train, digits.test)
    assert two.validation is two.test is digits.test
    assert two.md5 == Data(digits.train, digits.test, digits.test).md5


def test_a_tensor_that_does_not_hold_its_numbers_is_refused() -> None:
    x = torch.eye(3)
    for other in (x.to_sparse(), x.to("meta")):
        with pytest.raises(ValueError, match=r"x = .*: give a tensor that holds each number"):
            Split(other, torch.zeros(3))
