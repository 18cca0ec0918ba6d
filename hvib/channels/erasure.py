"""Features that are lost on the way, which the receiver notices."""

import statistics

import torch
from jaxtyping import Float
from torch import Tensor

from hvib.channel import Channel, Received
from hvib.check import require
from hvib.checks.numbers import count, finite


class Erasure(Channel):
    """Another channel, behind which features are lost, each with the same probability.

    The receiver gets 0 in place of a lost feature, and knows that it is lost. A lost feature has
    no rate: its gain and variance are 0 and 1, those of a received prior.

    Args:
        inner: delivers the features that are not lost.
        probability: of losing a feature.
        features: n.
        together: how many features, one after the other, are lost as one: those of a device.

    Raises:
        ValueError: the probability is not in (0, 1), or n is no multiple of `together`.
    """

    def __init__(
        self, inner: Channel, probability: float, features: int, together: int = 1
    ) -> None:
        super().__init__(inner.snr_db)
        self.probability = finite("probability", probability, "losses a feature")
        mend = "give one in (0, 1), or take the inner channel alone"
        require(0 < self.probability < 1, "probability", probability, mend)
        self.inner, self.together = inner, count("together", together)
        self.losses, left = divmod(count("features", features), self.together)
        mend = f"give a number that divides the {features} features"
        require(left == 0, "together", together, mend)
        self.chances = inner.chances + self.losses
        # A standard normal lies below it with this probability.
        self._threshold = statistics.NormalDist().inv_cdf(self.probability)

    def state(
        self, snr_db: Float[Tensor, "M #N 1"], chances: Float[Tensor, "M N c"]
    ) -> Float[Tensor, "M #N 1"]:
        return self.inner.state(snr_db, chances[..., : self.inner.chances])

    def forward(
        self,
        z: Float[Tensor, "M N n"],
        noise: Float[Tensor, "M N n+c"],
        snr_db: Float[Tensor, "M #N 1"] | None = None,
    ) -> Received:
        received: Received = self.inner(z, noise[..., : -self.losses], snr_db)
        kept = (noise[..., -self.losses :] >= self._threshold).repeat_interleave(self.together, -1)
        return received.without(kept.to(z))

    def rates(
        self,
        mean: Float[Tensor, "M N n"],
        variance: Float[Tensor, "M N n"],
        received: Received,
    ) -> Float[Tensor, "M N n"]:
        kept = torch.as_tensor(received.gain != 0)
        return torch.where(kept, self.inner.rates(mean, variance, received), 0)

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}, together={self.together}"
