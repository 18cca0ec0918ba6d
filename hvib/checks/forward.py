"""What other people's devices and networks take and return: put into form, or named."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TypeGuard

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.check import require

_AXES = {
    (nn.Conv1d, nn.ConvTranspose1d): ("length",),
    (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d): ("height", "width"),
    (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d): ("depth", "height", "width"),
}
"""Layers of channels, and the axes behind the channels of what they take."""


def told(output: object) -> object:
    """A module's output in an error: a tensor's shape, the names in a dictionary, else the kind."""
    if isinstance(output, Tensor):
        kept = output.is_floating_point()
        return tuple(output.shape) if kept else f"{output.dtype} {tuple(output.shape)}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"{kind} of {', '.join(map(str, output))}"
    if isinstance(output, (tuple, list)):
        return f"{kind} of {', '.join(str(told(part)) for part in output)}"
    return kind


def _is_batch(output: object, rows: int) -> TypeGuard[Tensor]:
    """Whether an output is real numbers, with a row for each row that went in."""
    return isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (rows,)


def moments_of(output: object, rows: int, features: int) -> Float[Tensor, "B 2n"]:
    """A device's output, (μ, log θ²): one tensor of 2·n numbers an example, or two of n numbers.

    Args:
        rows: B, the length of the batch.
        features: n.

    Raises:
        ValueError: the output is anything else.
    """
    given = output if isinstance(output, (tuple, list)) and len(output) == 2 else (output,)
    shape = (rows, 2 * features // len(given))
    parts = [part for part in given if _is_batch(part, rows) and part.shape == shape]
    if len(parts) < len(given):
        mend = (
            f"end the device in 2 * features = {2 * features} numbers for each of {rows} examples, "
            "(μ, log θ²)"
        )
        require(False, "device output", told(output), mend)
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def prediction_of(output: object, rows: int) -> Float[Tensor, "B *k"]:
    """A network's output, one tensor with a row for each of `rows` received features.

    Raises:
        ValueError: the output is anything else.
    """
    if _is_batch(output, rows):
        return output
    mend = f"return one tensor of real numbers, ({rows}, k): logits or real targets"
    require(False, "network output", told(output), mend)
    raise AssertionError  # for mypy


def at_least_float32(numbers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Half formats as float32, in which the objective is computed; double precision stays."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def like_weights(module: nn.Module, batch: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Real numbers in the format of the module's weights; anything else as it is."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), batch)
    return batch.to(weight.dtype) if batch.is_floating_point() else batch


def require_full_precision(model: nn.Module) -> None:
    """Refuse weights in a short format, in which the steps of training are lost.

    Raises:
        ValueError: a parameter or buffer is neither float32 nor float64.
    """
    for kind, named in (("weights", model.named_parameters()), ("buffers", model.named_buffers())):
        for name, value in named:
            right = not value.is_floating_point() or value.dtype in (torch.float32, torch.float64)
            mend = f"{kind} are to be float32 or float64: call model.float() first"
            require(right, f"{name}.dtype", value.dtype, mend)


def explained(error: Exception, part: str, module: nn.Module, batch: Tensor) -> ValueError | None:
    """An error that names the layer of a device or network, what reached it, and the mend.

    Args:
        error: what the module raised.
        part: `device` or `network`.
        batch: what the module was given.

    Returns:
        None unless the error comes from a layer that was given what it cannot take.
    """
    layer, h = _failed(error.__traceback__)
    mend = None if layer is None or h is None else _mend(layer, h)
    if mend is None or h is None:
        return None
    names = (f"{part}.{name}".rstrip(".") for name, m in module.named_modules() if m is layer)
    where = next(names, part)
    given = part == "device" and h.shape == batch.shape and h.dtype == batch.dtype
    name = "x" if given else f"input of {where}"
    value = f"{tuple(h.shape)} of {str(h.dtype).removeprefix('torch.')}"
    return ValueError(f"{name} = {value}: {where} is {layer}; {mend}")


def _failed(trace: TracebackType | None) -> tuple[nn.Module | None, Tensor | None]:
    """The layer of PyTorch's in whose forward pass the error arose, and its input."""
    found: tuple[nn.Module | None, Tensor | None] = None, None
    for values in _locals(trace):
        layer, h = values.get("self"), values.get("input")
        if isinstance(layer, nn.Module) and isinstance(h, Tensor):
            found = layer, h
    return found


def _locals(trace: TracebackType | None) -> Iterator[dict[str, object]]:
    while trace is not None:
        yield trace.tb_frame.f_locals
        trace = trace.tb_next


def _mend(layer: nn.Module, h: Tensor) -> str | None:
    """What to change so that the layer can take h; None where this is not known."""
    real = h.is_floating_point()
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        if real:
            return "give token numbers as int64, since uint8 is taken for pixels"
        low, high, count = int(h.min()), int(h.max()), layer.num_embeddings
        wrong = low < 0 or high >= count
        return (
            f"the token numbers go from {low} to {high}: give 0 to {count - 1}" if wrong else None
        )
    weight = getattr(layer, "weight", None)
    own = type(layer).__module__.startswith("torch.nn")
    if not real and own and isinstance(weight, Tensor) and weight.is_floating_point():
        return (
            "integers of more than 8 bits reach a device as they are, as token numbers: "
            "give reals, x.float(), or pixels as uint8"
        )
    if isinstance(layer, nn.Linear) and h.shape[-1] != (wanted := layer.in_features):
        flat = h.dim() > 2 and h.shape[1:].numel() == wanted
        return "put nn.Flatten() before it" if flat else f"give it {wanted} numbers an example"
    for kinds, axes in _AXES.items():
        if isinstance(layer, kinds):
            channels = getattr(layer, "in_channels", getattr(layer, "num_features", 0))
            return _mend_channels(channels, axes, h)
    return None


def _mend_channels(channels: int, axes: tuple[str, ...], h: Tensor) -> str | None:
    """How h becomes (N, C, …) of so many channels and of these axes behind them."""
    wanted = f"it takes ({', '.join(('N', str(channels), *axes))})"
    if h.dim() == len(axes) + 1:
        return f"{wanted}: add the channel axis, which x.unsqueeze(1) does for one channel"
    if h.dim() == len(axes) + 2 and h.shape[1] == channels:
        return None
    if h.dim() == len(axes) + 2 and h.shape[-1] == channels:
        return f"{wanted}: put the channels second, x.movedim(-1, 1)"
    return f"{wanted}: give x of that shape"
