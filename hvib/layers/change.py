"""Changed models: copies, layers put in others' places, and layers scaled unit by unit."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hvib.check import require
from hvib.layers.kinds import is_norm

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model, shared: bool = False) -> Model:
    """A copy of a model, even of one with tensors that were computed from its parameters.

    Pruned layers and those of the older `weight_norm` and `spectral_norm` hold such tensors, which
    they compute anew in each pass. PyTorch copies none, so the copy gets their present values.

    Args:
        shared: whether the copy is to hold the model's own parameters.

    Raises:
        ValueError: it is no module, or its lazy layers have no weights yet.
    """
    require(isinstance(model, nn.Module), "model", type(model).__name__, "give an nn.Module")
    lazy = any(nn.parameter.is_lazy(value) for value in (*model.parameters(), *model.buffers()))
    mend = "call it on a batch first, which gives its lazy layers their weights"
    require(not lazy, "model", type(model).__name__, mend)
    memo: dict[int, Any] = {id(p): p for p in model.parameters()} if shared else {}
    for module in model.modules():
        for leaf in tree_leaves(dict(vars(module))):
            if isinstance(leaf, Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach().clone()
    return copy.deepcopy(model, memo)


def without_fast_paths(model: Model) -> Model:
    """The model, whose transformers of PyTorch's now call their layers in every mode.

    On their fast path they read the layers' weights without calling the layers.
    """
    for m in model.modules():
        if isinstance(m, nn.TransformerEncoderLayer):
            m.activation_relu_or_gelu = 0
        elif isinstance(m, nn.TransformerEncoder):
            m.use_nested_tensor = False  # to which a padding mask would lead
    return model


def replaced(model: Model, new: Mapping[int, nn.Module]) -> Model:
    """Put `new[id(m)]` in the place of each module m of the model, wherever it is used."""
    if id(model) in new:
        return new[id(model)]  # type: ignore[return-value]
    for parent in list(model.modules()):
        # Not named_children(), which names a module that is used twice only once.
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
                if name == "_orig_mod":
                    parent._initialize()  # type: ignore[operator]  # compiled: it held a method
    return model


class Wrapped(nn.Module):
    """A layer in another module; what a model asks of the layer, such as its size, is answered."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        # A copy that is being made has no layer yet.
        return modules[name] if name in modules else getattr(modules.get("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


def move_hooks(source: nn.Module, target: nn.Module) -> None:
    """Have what was to happen behind the one module happen behind the other."""
    for name in ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"):
        getattr(target, name).update(getattr(source, name))
        getattr(source, name).clear()


class Scaled(nn.Module):
    """h ⊙ s + b for fixed s and b: what a gate on no layer of its own, as an opening, folds to."""

    def __init__(
        self, s: Float[Tensor, " m"], trains: bool = True, shift: Float[Tensor, " m"] | None = None
    ) -> None:
        super().__init__()
        self.s = nn.Parameter(s, trains)
        self.shift = None if shift is None else nn.Parameter(shift, trains)

    def forward(self, h: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch m"]:
        return h * self.s if self.shift is None else torch.addcmul(self.shift, h, self.s)


def scaled(
    layer: nn.Module, s: Float[Tensor, "1 m"], shift: Float[Tensor, "1 m"] | None, trains: bool
) -> nn.Module:
    """The layer with output unit i scaled by s_i, and moved by the shift if there is one.

    Parameters made anew are frozen where those in their place were.

    Args:
        layer: one that takes a gate, changed in place, or `nn.Identity`.
        trains: whether parameters train that the layer did not have.
    """
    s = s[0]
    if isinstance(layer, nn.Identity):
        return Scaled(s, trains, None if shift is None else shift[0])
    # A norm without weights takes the scale as its weight.
    if is_norm(layer) and not layer.affine:
        layer.affine = True  # type: ignore[assignment]  # a bool
        layer.weight = nn.Parameter(torch.ones_like(s), trains)
        layer.bias = nn.Parameter(torch.zeros_like(s), trains)
    # New parameters, not these in place: another layer may share them.
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    scale = s.to(weight.dtype)
    product = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    layer.weight = nn.Parameter(product, weight.requires_grad)
    moved = None if bias is None else bias * scale
    if shift is not None:
        moved = shift[0] if moved is None else moved + shift[0]
    if moved is not None:
        like = weight if bias is None else bias
        layer.bias = nn.Parameter(moved.to(weight.dtype), like.requires_grad)
    return layer
