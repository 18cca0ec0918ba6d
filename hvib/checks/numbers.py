"""Numbers that a caller gives: one clear error for what is none, or is out of its range."""

import math
import operator

import torch
from jaxtyping import Float
from torch import Tensor

from hvib.check import require


def finite(name: str, value: object, unit: str) -> float:
    """One finite number.

    Raises:
        ValueError: it is none.
    """
    mend = f"give a finite number of {unit}"
    require(not isinstance(value, str), name, value, mend)
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} = {value!r}: {mend}") from error
    require(math.isfinite(number), name, value, mend)
    return number


def count(name: str, value: object) -> int:
    """A whole number of at least 1.

    Raises:
        ValueError: it is none.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is no number raises
    except TypeError as error:
        raise ValueError(f"{name} = {value!r}: give a whole number") from error
    require(number >= 1, name, value, "give at least 1")
    return number


def _reals(name: str, value: object, mend: str) -> Tensor:
    """What PyTorch's default format makes of some numbers; text, of digits too, is none.

    Raises:
        ValueError: they are no numbers.
    """
    require(not isinstance(value, str), name, value, mend)
    try:
        return torch.as_tensor(value, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} = {value!r}: {mend}") from error


def betas(name: str, value: object) -> Float[Tensor, " M"]:
    """One β, or several, as a vector of PyTorch's default format; a matrix stays one.

    Raises:
        ValueError: one is no number, or is not finite and positive.
    """
    mend = "give finite β > 0"
    tensor = _reals(name, value, mend)
    tensor = tensor if tensor.dim() == 2 else tensor.reshape(-1)
    ok = bool((torch.isfinite(tensor) & (tensor > 0)).all()) and tensor.numel() > 0
    require(ok, name, tensor.tolist(), mend)
    return tensor


def decibels(name: str, value: object) -> Float[Tensor, " K"]:
    """One level in dB, or several, as a vector.

    Raises:
        ValueError: one is no number, or is not finite.
    """
    mend = "give finite numbers of dB"
    tensor = _reals(name, value, mend).reshape(-1)
    ok = len(tensor) > 0 and (torch.compiler.is_compiling() or bool(tensor.isfinite().all()))
    require(ok, name, tensor.tolist(), mend)
    return tensor


def ends_of(betas: tuple[float, float]) -> tuple[float, float]:
    """The two ends of a range of β.

    Raises:
        ValueError: they are not two numbers, one is not finite and positive, or they are reversed.
    """
    mend = "give the ends of the range, 0 < low ≤ high, as (1e-6, 1.0)"
    try:
        low, high = map(float, () if isinstance(betas, str) else betas)
    except (TypeError, ValueError):
        low = high = math.nan
    require(0 < low <= high < math.inf, "betas", betas, mend)
    return low, high
