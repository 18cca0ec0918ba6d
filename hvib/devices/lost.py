"""One of several devices lost at run time."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hvib.channel import Channel, Received
from hvib.check import require


class Silenced(Channel):
    """Another channel, over which nothing of some devices arrives.

    The network gets 0 in place of their features, as behind `hvib.channels.Erasure`.

    Args:
        inner: delivers the others' features.
        blocks: how many features each device sends, `System.blocks`.
        lost: which devices, counted from 0.

    Raises:
        ValueError: there is no such device.
    """

    def __init__(self, inner: Channel, blocks: Sequence[int], lost: Collection[int]) -> None:
        super().__init__(inner.snr_db)
        mend = f"give numbers of devices from 0 to {len(blocks) - 1}"
        require(set(lost) <= set(range(len(blocks))), "lost", sorted(lost), mend)
        self.inner, self.lost = inner, frozenset(lost)
        self.chances = inner.chances
        kept = [torch.full((size,), float(j not in self.lost)) for j, size in enumerate(blocks)]
        self.register_buffer("kept", torch.cat(kept), persistent=False)

    def state(
        self, snr_db: Float[Tensor, "M #N 1"], chances: Float[Tensor, "M N c"]
    ) -> Float[Tensor, "M #N 1"]:
        return self.inner.state(snr_db, chances)

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        received: Received = self.inner(z, noise, snr_db)
        return received.without(self.get_buffer("kept"))

    def rates(
        self,
        mean: Float[Tensor, "M N n"],
        variance: Float[Tensor, "M N n"],
        received: Received,
    ) -> Float[Tensor, "M N n"]:
        return self.inner.rates(mean, variance, received) * self.get_buffer("kept")

    def extra_repr(self) -> str:
        return f"lost={sorted(self.lost)}"
