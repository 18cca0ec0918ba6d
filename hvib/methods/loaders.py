"""Mini-batches from elsewhere: data that do not fit into memory, or that a `DataLoader` makes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxtyping import Shaped
from torch import Tensor
from torch.utils.data import Dataset

from hvib.check import require
from hvib.checks.arrays import require_fit, require_pairs
from hvib.data import Split

Batches = Iterable[Any]
"""Mini-batches (x, y) of tensors or arrays, such as a `DataLoader` gives."""


class MiniBatch(NamedTuple):
    """What one step trains on."""

    x: Shaped[Tensor, "B *shape"]
    y: Shaped[Tensor, "B *k"]
    step: int
    """counted from 0"""
    begins: bool
    """whether an epoch begins with it"""
    named: Mapping[str, Split]
    """splits whose targets this step finds out to be the network's, by name"""


def require_batches(name: str, batches: object, instead: str) -> None:
    """Refuse what cannot be passed over.

    Args:
        name: of the argument, in the error.
        instead: what else it may be, in the error.

    Raises:
        ValueError: it cannot.
    """
    known = isinstance(batches, Iterable)
    dataset = isinstance(batches, Dataset) and not known
    mend = (
        "wrap it, as torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True)"
        if dataset
        else f"give {instead}, or any iterable of mini-batches (x, y)"
    )
    require(known, name, type(batches).__name__, mend)


def mini_batches(batches: Batches, name: str, classes: bool) -> Iterator[Split]:
    """One pass over the mini-batches, each checked as `Data` is.

    Args:
        name: what they are called in an error if there are none.
        classes: whether integer targets are classes, of which an example has one.

    Raises:
        ValueError: there are none, or one is no pair (x, y) that is fit for training.
    """
    like: Split | None = None
    for index, batch in enumerate(batches):
        told = f"mini-batch {index}"
        if not isinstance(batch, Split):
            pair = isinstance(batch, tuple | list) and len(batch) == 2
            given = f"{type(batch).__name__} of {len(batch)}" if pair else type(batch).__name__
            mend = "give pairs (x, y); of one x and one y make hvib.Split(x, y)"
            require(pair, told, given, mend)
            batch = Split(*batch)
        like = like or batch.first(1)
        require_fit({"mini-batch 0": (like.x, like.y), told: (batch.x, batch.y)}, classes)
        yield batch
    require(like is not None, name, "no mini-batch", "give at least one, in each pass over them")


def pieces(given: Split | Batches, chunk: int, classes: bool) -> Iterator[Split]:
    """A split or mini-batches, in pieces of at most `chunk` examples.

    Raises:
        ValueError: it is neither, or is empty, or its x and y are no pairs.
    """
    if isinstance(given, Split):
        require_pairs(given.x, given.y, classes=classes)
        whole: Iterable[Split] = [given]
    else:
        require_batches("split", given, "a Split, as data.test")
        whole = mini_batches(given, "split", classes)
    for part in whole:
        for begin in range(0, len(part), chunk):
            yield Split(part.x[begin : begin + chunk], part.y[begin : begin + chunk])
