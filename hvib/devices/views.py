"""What each device sees of x."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.check import require

View = Callable[[Tensor], tuple[Tensor, ...]]
"""cuts a batch of x into one batch for each device"""


def halves(x: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor]:
    """The upper and the lower half of each image.

    Raises:
        ValueError: x is no images of an even number of rows.
    """
    mend = "give images (B, C, H, W) of an even number of rows"
    require(x.dim() == 4 and x.shape[2] % 2 == 0, "shape of x", tuple(x.shape), mend)
    upper, lower = x.chunk(2, 2)
    return upper, lower


def each_of(x: Shaped[Tensor, "B J *shape"]) -> tuple[Any, ...]:
    """What stands in each place of the second axis."""
    return x.unbind(1)


def channels_of(devices: int) -> View:
    """Equal parts of an image's channels, one after the other: several views as one image.

    Args:
        devices: J.
    """

    def view(x: Float[Tensor, "B JC H W"]) -> tuple[Tensor, ...]:
        mend = f"give a multiple of {devices} channels"
        require(x.shape[1] % devices == 0, "channels of x", x.shape[1], mend)
        return x.chunk(devices, 1)

    return view
