"""Examples and targets as other libraries give them, made tensors of the few formats in use."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from hvib.check import require

_WIDE = (torch.uint16, torch.uint32, torch.uint64)
"""Formats that PyTorch stores and hardly computes with."""


def _tensor_of(name: str, value: object) -> Shaped[Tensor, "N *shape"]:
    """A tensor as it is; an array, a table's column or a list of numbers as a tensor.

    An array in the machine's own format shares its memory with the tensor.
    """
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        # A masked array's values under the mask are no measurements.
        require(not np.ma.is_masked(value), name, kind, "leave out what is masked")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths
            raise ValueError(f"{name} = {kind!r}: give a tensor or an array ({error})") from error
        # Numbers of more than 64 bits are none of PyTorch's.
        bits = 64 * (1 + np.iscomplexobj(array))
        numbers = array.dtype.kind in "biufc" and 8 * array.dtype.itemsize <= bits
        mend = "give numbers; np.unique(names, return_inverse=True)[1] numbers classes by name"
        require(numbers, name, f"{kind} of {array.dtype}", mend)
        # PyTorch takes no other byte order, no negative strides and no array that is read-only.
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        value = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    assert isinstance(value, Tensor)  # for mypy
    dense = value.layout == torch.strided and not (value.is_quantized or value.is_nested)
    told = f"{value.dtype}, {value.layout}, on {value.device}"
    mend = "give a tensor that holds each number, as of x.to_dense() or x.dequantize()"
    require(dense and not value.is_meta, name, told, mend)
    require(value.dim() > 0, name, tuple(value.shape), "give one entry for each example, (N, …)")
    return value.long() if value.dtype in _WIDE else value


def examples_of(x: object) -> Shaped[Tensor, "N *shape"]:
    """A tensor of examples x.

    Raises:
        ValueError: it is no array of numbers.
    """
    return _tensor_of("x", x)


def targets_of(y: object) -> Shaped[Tensor, "N *k"]:
    """A tensor of targets y: integers of any width and truth values as classes, int64.

    Raises:
        ValueError: it is no array of numbers.
    """
    y = _tensor_of("y", y)
    return y if y.is_floating_point() or y.is_complex() else y.long()


def require_pairs(x: Tensor, y: Tensor, of: str = "", classes: bool = True) -> None:
    """Refuse examples and targets that are none, differ in number, or are no such numbers.

    Args:
        of: the split's name in the error, as `train.`.
        classes: whether integers are classes.

    Raises:
        ValueError: x and y are no pairs of examples and targets, or a number is complex or not
            finite.
    """
    lengths = len(x), len(y)
    mend = "give as many targets as examples, at least one"
    require(lengths[0] == lengths[1] > 0, f"lengths of {of}x and {of}y", lengths, mend)
    one = y.shape[1:].numel() == 1
    mend = "give y.flatten()" if one else "of one-hot rows give y.argmax(1), of real targets floats"
    mend = f"a class is one whole number an example, (N,): {mend}"
    right = y.is_floating_point() or y.dim() == 1 or not classes or y.is_complex()
    require(right, f"{of}y", tuple(y.shape), mend)
    for part, values in (("x", x), ("y", y)):
        mend = "give real and imaginary parts as two numbers"
        require(not values.is_complex(), f"{of}{part}.dtype", values.dtype, mend)
        finite = not values.is_floating_point() or bool(torch.isfinite(values).all())
        require(finite, f"{of}{part}", "NaN or infinite", "give finite values")


def require_fit(splits: Mapping[str, tuple[Tensor, Tensor]], classes: bool = True) -> None:
    """Refuse x and y of splits that are not fit for training and evaluation.

    Args:
        classes: whether integers are classes, of which an example has one.

    Raises:
        ValueError: a split is no pairs, a number is complex or not finite, or the examples of one
            split are of another shape or type than those of the first.
    """
    like_name, first = next(iter(splits.items()))
    for name, split in splits.items():
        require_pairs(*split, f"{name}.", classes)
        for part, values, like in zip("xy", split, first, strict=True):
            mend = f"give {tuple(like.shape[1:])} of {like.dtype}, as in {like_name}.{part}"
            same = values.shape[1:] == like.shape[1:] and values.dtype == like.dtype
            told = tuple(values.shape[1:]), values.dtype
            require(same, f"an example of {name}.{part}", told, mend)


Betas = float | tuple[float, ...]
"""a β, or one for each of several devices"""


def betas_of(betas: Iterable[Any]) -> tuple[Betas, ...]:
    """Several β as numbers of Python's, whatever holds them; rows of a matrix as tuples.

    Raises:
        ValueError: they are not several numbers.
    """

    def one(beta: Any) -> Betas:
        several = not isinstance(beta, str) and getattr(beta, "ndim", hasattr(beta, "__len__"))
        return tuple(map(float, beta)) if several else float(beta)

    try:
        # Text is several digits too.
        return tuple(map(one, None if isinstance(betas, str) else betas))  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"betas = {betas!r}: give several numbers, as [1e-3, 1.0]") from error
