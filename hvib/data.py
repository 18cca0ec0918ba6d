"""Data sets, each held as one tensor per split: MNIST, CIFAR-10, and scikit-learn's digits."""

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from hvib.config import require, require_known


class MissingData(FileNotFoundError):
    """A data set is not on disk; the message says how to get it."""


@dataclass(frozen=True)
class Split:
    """Examples of one split.

    x: of any shape, uint8 pixels or reals. y: classes as int64, (N,), or reals, (N, k).
    """

    x: Shaped[Tensor, "N *shape"]
    y: Shaped[Tensor, "N *k"]

    def __len__(self) -> int:
        return len(self.x)

    def require_pairs(self, of: str = "") -> None:
        """Refuse a split that is empty, or whose x and y differ in length.

        Args:
            of: what the error puts before x and y.
        """
        lengths = len(self.x), len(self.y)
        mend = "give as many targets as examples, at least one"
        require(lengths[0] == lengths[1] > 0, f"lengths of {of}x and {of}y", lengths, mend)

    def to(self, device: torch.device) -> "Split":
        return Split(self.x.to(device), self.y.to(device))

    def first(self, count: int) -> "Split":
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Data:
    """The three splits: β is selected on `validation`, results are reported on `test`."""

    train: Split
    validation: Split
    test: Split

    @property
    def md5(self) -> str:
        """Digest of all values in order, so that a record names the data it used."""
        digest = hashlib.md5(usedforsecurity=False)
        for split in self.splits:
            for part in (split.x, split.y):
                flat = part.detach().cpu().flatten().contiguous()
                digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @functools.cached_property
    def checked(self) -> "Data":
        """These data, if they will not fail in training or after it.

        Raises:
            ValueError: a split is empty, its x and y differ in length, its y is neither int64 nor
                real, its x is complex, a value is not finite, or its examples are of another shape
                or type than the training split's.
        """
        like = self.train
        for name, split in self.named.items():
            split.require_pairs(f"{name}.")
            known = split.y.dtype == torch.int64 or split.y.is_floating_point()
            mend = "give classes as torch.int64, real targets as float"
            require(known, f"{name}.y.dtype", split.y.dtype, mend)
            mend = "give real and imaginary parts as two channels"
            require(not split.x.is_complex(), f"{name}.x.dtype", split.x.dtype, mend)
            for part, values, first in (("x", split.x, like.x), ("y", split.y, like.y)):
                mend = f"give {tuple(first.shape[1:])} of {first.dtype}, as in train.{part}"
                same = values.shape[1:] == first.shape[1:] and values.dtype == first.dtype
                told = tuple(values.shape[1:]), values.dtype
                require(same, f"an example of {name}.{part}", told, mend)
                finite = not values.is_floating_point() or bool(torch.isfinite(values).all())
                require(finite, f"{name}.{part}", "NaN or infinite", "give finite values")
        return self

    def limited(self, count: int) -> "Data":
        """The first `count` examples of each split; all for 0."""
        return self if not count else Data(*(s.first(count) for s in self.splits))

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation, test."""
        return self.train, self.validation, self.test

    @property
    def named(self) -> dict[str, Split]:
        """The splits by name."""
        return dict(zip(("train", "validation", "test"), self.splits, strict=True))


def reals(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """uint8 pixels scaled to [0, 1]; anything else as float32."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


class Batcher:
    """Mini-batches of one split by index, images shifted, mirrored and blanked at random.

    Args:
        shift: pixels; each image is moved by up to so many, zeros shown at the border.
        flip: mirror every other image, on average, left to right.
        erase: pixels; a square with sides of so many, whole inside the image, is set to zero.

    Raises:
        ValueError: the examples are no images, (N, C, H, W), or the square does not fit into one.
    """

    def __init__(self, split: Split, shift: int = 0, flip: bool = False, erase: int = 0) -> None:
        self.y, self.shift, self.flip, self.erase = split.y, shift, flip, erase
        for name, value in (("shift", shift), ("flip", flip), ("erase", erase)):
            mend = f"it is for images (N, C, H, W) and x is {tuple(split.x.shape)}; leave it out"
            require(not value or split.x.dim() == 4, name, value, mend)
        side = min(split.x.shape[-2:]) if erase else 0
        require(erase <= side, "erase", erase, f"give at most the images' {side} pixels")
        self.windows = split.x
        if shift:
            height, width = split.x.shape[-2:]
            padded = F.pad(split.x, [shift] * 4)
            # A view: window (i, j) of an image is the image moved by (shift − i, shift − j).
            self.windows = padded.unfold(-2, height, 1).unfold(-2, width, 1)

    def __call__(
        self, index: Int[Tensor, " B"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B *shape"], Shaped[Tensor, "B *k"]]:
        if self.shift:
            size = (2, len(index))
            by = torch.randint(2 * self.shift + 1, size, generator=generator, device=index.device)
            x = self.windows[index, :, by[0], by[1]]
        else:
            x = self.windows[index]
        if self.flip:
            mirrored = torch.rand(len(index), generator=generator, device=index.device) < 0.5
            x = torch.where(mirrored.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)
        if self.erase:
            rows, columns = (self._band(len(x), size, generator) for size in x.shape[-2:])
            x = x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
        return reals(x), self.y[index]

    def _band(self, count: int, size: int, generator: torch.Generator) -> Bool[Tensor, "B size"]:
        """Which of an image's rows, or columns, the square covers."""
        where = generator.device
        first = torch.randint(size - self.erase + 1, (count, 1), generator=generator, device=where)
        after = torch.arange(size, device=where) - first
        return (after >= 0) & (after < self.erase)


PROJECT = Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """The folder of the data sets, in torchvision's layout: `$HVIB_DATA`, else `data/`."""
    return Path(os.environ.get("HVIB_DATA") or PROJECT / "data").expanduser()


def _torchvision_datasets() -> Any:
    try:
        from torchvision import datasets
    except Exception as error:  # a mismatched pair fails with RuntimeError, not ImportError
        raise ImportError(
            f"torchvision cannot be imported beside torch {torch.__version__} ({error}): "
            "install the pair that requirements.txt pins, or use the data set digits"
        ) from error
    return datasets


def _images(kind: str, folder: str, held_out: int, md5: str, view: Callable[[Any], Tensor]) -> Data:
    """A torchvision data set of images, its last `held_out` training images for validation."""
    root = data_root()
    try:
        of_kind = getattr(_torchvision_datasets(), kind)
        train, test = (of_kind(root, train=t) for t in (True, False))
    except RuntimeError as error:
        raise MissingData(
            f"HVIB_DATA = {str(root)!r}: no intact {kind} here ({folder} …); "
            "set HVIB_DATA to a folder that has it, get it with "
            f"""`python -c "import torchvision as t; t.datasets.{kind}({str(root)!r}, """
            """download=True)"`, or use the data set digits, which needs no file"""
        ) from error
    x, y = view(train.data), torch.as_tensor(train.targets)
    cut = len(x) - held_out
    data = Data(
        Split(x[:cut], y[:cut]),
        Split(x[cut:], y[cut:]),
        Split(view(test.data), torch.as_tensor(test.targets)),
    )
    if data.md5 != md5:
        raise ValueError(
            f"HVIB_DATA = {str(root)!r}: the {kind} files here are damaged (MD5 of the pixels "
            f"and labels {data.md5}, expected {md5}); get them anew"
        )
    return data


def mnist() -> Data:
    """MNIST: 55,000 / 5,000 / 10,000 images of 1 × 28 × 28 pixels, 10 classes.

    The validation split is the last 5,000 of the training images. Nothing is downloaded.

    Raises:
        MissingData: the files are not under `data_root()`.
        ImportError: torchvision does not import.
        ValueError: the files are not MNIST's.
    """
    return _images(
        "MNIST",
        "MNIST/raw/train-images-idx3-ubyte",
        5_000,
        "aceb4fe98e60fd846d3e8dddd4d7d337",
        lambda pixels: pixels.unsqueeze(1),
    )


def cifar10() -> Data:
    """CIFAR-10: 45,000 / 5,000 / 10,000 images of 3 × 32 × 32 pixels, 10 classes.

    The validation split is the last 5,000 of the training images. Nothing is downloaded.

    Raises:
        MissingData, ImportError, ValueError: as `mnist`.
    """
    return _images(
        "CIFAR10",
        "cifar-10-batches-py/data_batch_1",
        5_000,
        "c92f709b220249864687d273bbb8c93c",
        lambda pixels: torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
    )


def digits() -> Data:
    """The 1,797 handwritten digits embedded in scikit-learn: 1 × 8 × 8 pixels, 10 classes.

    Split 1,197 / 300 / 300 by a fixed permutation.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(bunch.images).float().unsqueeze(1)[order] / 16
    y = torch.from_numpy(bunch.target).long()[order]
    cuts = (slice(0, 1197), slice(1197, 1497), slice(1497, 1797))
    return Data(*(Split(x[cut], y[cut]) for cut in cuts))


CLASSES = {
    **dict.fromkeys(
        ("cifar10", "cifar10-wide"),
        (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
    ),
    **dict.fromkeys(("mnist", "digits"), tuple("0123456789")),
}
"""Names of the classes of each task that has them."""

LOADERS: dict[str, Callable[[], Data]] = {
    "mnist": mnist,
    **dict.fromkeys(("cifar10", "cifar10-wide"), cifar10),
    "digits": digits,
}
"""The data of each task; a task of yours joins by name."""


def load(task: str) -> Data:
    """The data of a task.

    Raises:
        ValueError: no loader has the task's name.
        MissingData: its files are not on disk.
    """
    require_known("task", task, LOADERS)
    return _loaded(LOADERS[task])


@functools.lru_cache(maxsize=2)
def _loaded(loader: Callable[[], Data]) -> Data:
    """By the loader, not by its task's name: a new loader of that name loads anew."""
    return loader()
