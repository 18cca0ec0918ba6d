"""Which test examples lost which of two devices, on the channel that loses devices."""

from typing import NamedTuple

import torch
from scipy import special

from hvib.run import Run
from hvib.system import draw_noise
from hvib.tasks import build

LOSS = 0.2
"""How often each device is lost on that channel."""

TEST = {"mnist-halves": 10_000, "anchors": 10_000, "digits-halves": 300}
"""The number of test examples of each task."""


class Losses(NamedTuple):
    """Which share of the test examples lost which device, on the channel that loses devices."""

    of_each: tuple[float, float]
    """the first device, and the second one"""
    of_both: float

    @property
    def kept(self) -> float:
        """The share of the examples of which both devices arrived."""
        return 1 - sum(self.of_each) + self.of_both


def losses_of(run: Run, count: int) -> Losses:
    """Compute the losses of an evaluation, which draws the same noise for every run.

    Args:
        run: on the channel that loses devices.
        count: of test examples.
    """
    chances, generator = build(run).chances, torch.Generator().manual_seed(0)
    parts = [
        draw_noise(1, min(500, count - begin), chances, generator) for begin in range(0, count, 500)
    ]
    # The second half of the noise is the channel's, and its last columns say what is lost.
    lost = torch.cat([part[1].flatten(0, -2)[:, -2:] for part in parts]) < special.ndtri(LOSS)
    first, second = lost.double().mean(0).tolist()
    return Losses((first, second), float(lost.all(1).double().mean()))
