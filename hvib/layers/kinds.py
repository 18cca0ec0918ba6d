"""Kinds of layers: those that take a gate, and those that pass a scale on."""

from types import UnionType

from torch import nn

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm),
)

# These pass a channel's scale on: a norm behind them still divides it out.
PASSED = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.Upsample, nn.Flatten, nn.Identity),
)

# Functions and methods that do so, by name. The list may err, because a gate behind a norm is as
# right as one before it, and only has another effect.
PASSED_FUNCTIONS = {
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "clone", "contiguous", "to", "float"),
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"),
    *(f"max_pool{d}d" for d in (1, 2, 3)),
    *(f"avg_pool{d}d" for d in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{d}d" for kind in ("max", "avg") for d in (1, 2, 3)),
    *("pad", "interpolate", "upsample", "mean", "amax"),
    *("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"),
    *("transpose", "permute", "movedim"),
}


def is_norm(layer: nn.Module) -> bool:
    """Whether the layer is a norm over the batch, the positions or groups of channels."""
    return _scales(layer, NORMS)


def _scales(layer: nn.Module, kinds: type | UnionType | tuple[type, ...]) -> bool:
    """Whether scaling the layer's weight scales its output, as it does in these kinds of layers.

    It does not where a subclass makes another use of the weight in its forward pass, nor where
    weight or bias is computed from other parameters (weight norm, spectral norm, pruning).
    """
    if not isinstance(layer, kinds) or not {"weight", "bias"} <= layer._parameters.keys():
        return False
    # A subclass whose forward pass is PyTorch's own uses the weight as PyTorch does.
    kept = ("forward", "_conv_forward")
    own = next(c for c in type(layer).__mro__ if c.__module__.startswith("torch.nn"))
    return all(
        name not in vars(layer) and getattr(type(layer), name, 0) is getattr(own, name, 0)
        for name in kept
    )


def outputs(layer: nn.Module) -> tuple[int, int] | None:
    """(size, axis) of a layer that can take a gate, else None."""
    if _scales(layer, nn.Linear):
        return layer.out_features, -1  # type: ignore[return-value]  # an int
    if _scales(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.out_channels, 1  # type: ignore[return-value]  # an int
    if not is_norm(layer):
        return None
    channels = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    return channels, 1  # type: ignore[return-value]  # an int
