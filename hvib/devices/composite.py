"""Several devices as the one that a `System` has."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.checks.forward import moments_of
from hvib.checks.numbers import count
from hvib.devices.views import View


class Devices(nn.Module):
    """J devices side by side: each encodes its own view of x into its own block of features.

    Args:
        devices: J modules, each from a batch of its view to (μ_j, log θ_j²).
        view: cuts a batch of x into the J views.
        blocks: how many features each device sends.

    Raises:
        ValueError: the numbers of devices and of blocks differ.
    """

    def __init__(self, devices: Sequence[nn.Module], view: View, blocks: Sequence[int]) -> None:
        super().__init__()
        mend = f"give one number of features for each of {len(devices)} devices"
        require(len(devices) == len(blocks) > 0, "blocks", tuple(blocks), mend)
        self.each = nn.ModuleList(devices)
        self.view = view
        self.blocks = tuple(count("blocks", block) for block in blocks)

    def forward(self, x: Tensor) -> Float[Tensor, "B 2n"]:
        """(μ, log θ²) of all devices' features, block after block.

        Raises:
            ValueError: the view is not of as many devices, or one of them does not end in 2·n_j
                numbers.
        """
        views = self.view(x)
        mend = f"cut x into {len(self.each)} views, one for each device"
        require(len(views) == len(self.each), "number of views", len(views), mend)
        parts = [
            moments_of(device(part), len(x), block).chunk(2, -1)
            for device, part, block in zip(self.each, views, self.blocks, strict=True)
        ]
        means, log_variances = zip(*parts, strict=True)
        return torch.cat([*means, *log_variances], -1)
