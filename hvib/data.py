"""Data sets as tensors, one for each split, and mini-batches of them."""

import functools
import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from hvib.check import require
from hvib.checks.arrays import examples_of, require_fit, targets_of


@dataclass(frozen=True)
class Split:
    """Examples of one split.

    Args:
        x: (N, …), uint8 pixels, reals, or token numbers: integers of more than 8 bits.
        y: classes, (N,), integers of any width that become int64; or real targets, (N, k).

    Raises:
        ValueError: one is neither a tensor nor an array of numbers.
    """

    x: Shaped[Tensor, "N *shape"]
    y: Shaped[Tensor, "N *k"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", examples_of(self.x))
        object.__setattr__(self, "y", targets_of(self.y))

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> "Split":
        return Split(self.x.to(device), self.y.to(device))

    def first(self, count: int) -> "Split":
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Data:
    """The three splits of a data set: β is selected on `validation`, results are from `test`.

    Where nothing is selected two are enough: without a third the second serves as both.
    """

    train: Split
    validation: Split
    test: Split = None  # type: ignore[assignment]  # a split from here on

    def __post_init__(self) -> None:
        if self.test is None:
            object.__setattr__(self, "test", self.validation)
        for name, split in self.named.items():
            known = isinstance(split, Split)
            require(known, name, type(split).__name__, "give a Split(x, y)")

    @property
    def md5(self) -> str:
        """Digest of all values in their order, by which a record names the data that it used."""
        digest = hashlib.md5(usedforsecurity=False)
        for split in self.splits:
            for part in (split.x, split.y):
                flat = part.detach().cpu().flatten().contiguous()
                digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @functools.cached_property
    def checked(self) -> "Data":
        """These data, once they are known to be fit for training and evaluation.

        Raises:
            ValueError: a split is empty, its x and y differ in length, a class is no single number,
                x or y is complex, a value is not finite, or its examples are of another shape or
                type than the training split's.
        """
        require_fit({name: (split.x, split.y) for name, split in self.named.items()})
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


def reals(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """What a device gets of x.

    uint8 pixels are scaled to [0, 1]. Integers of more than 8 bits are token numbers, as for an
    embedding, and become int64. float64 stays, and anything else becomes float32.
    """
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if x.dtype in (torch.int16, torch.int32, torch.int64):
        return x.long()
    return x if x.dtype == torch.float64 else x.float()


class Batcher:
    """Mini-batches of one split, with images shifted, mirrored and blanked at random.

    The data stay one tensor that is indexed, which is far faster than a `DataLoader` that loads
    and stacks single images.

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
            # A view without a copy: window (i, j) of a padded image is the image moved by
            # (shift − i, shift − j).
            self.windows = padded.unfold(-2, height, 1).unfold(-2, width, 1)

    def __call__(
        self, index: Int[Tensor, " B"], generator: torch.Generator
    ) -> tuple[Shaped[Tensor, "B *shape"], Shaped[Tensor, "B *k"]]:
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
        """Which rows, or columns, of each image the blanked square covers."""
        where = generator.device
        first = torch.randint(size - self.erase + 1, (count, 1), generator=generator, device=where)
        after = torch.arange(size, device=where) - first
        return (after >= 0) & (after < self.erase)
