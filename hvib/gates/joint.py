"""Gates that read the β of several devices: those of the network behind all of them.

Log β is then (M, J), a β for each device; where all have the same it may be (M,).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.checks.numbers import count, ends_of
from hvib.gates.closing import FreeGate, Opening, standardised
from hvib.hyper import Gate


def each(log_beta: Float[Tensor, "M *J"], devices: int) -> Float[Tensor, "M J"]:
    """Log β of each device.

    Raises:
        ValueError: it has a β for more or fewer devices.
    """
    if log_beta.dim() == 1:
        return log_beta[:, None].expand(-1, devices)
    mend = f"give a β for each of the {devices} devices, or one for all"
    require(log_beta.shape[1] == devices, "number of β at once", log_beta.shape[1], mend)
    return log_beta


class JointGate(Gate):
    """s(β_1 … β_J) = S(Σ_j u_j log β_j + v): the paper's gate (12), and (J − 1)·m parameters more.

    Args:
        size: m.
        devices: J.
    """

    joint = True

    def __init__(self, size: int, devices: int) -> None:
        super().__init__(size)
        self.devices = count("devices", devices)
        # Each as large as the one u of the paper's gate, over J.
        self.u = nn.Parameter(torch.empty(devices, size).uniform_(-0.1, 0.1) / devices)

    def forward(self, log_beta: Float[Tensor, "M *J"]) -> Float[Tensor, "M m"]:
        return torch.sigmoid(torch.addmm(self.v, each(log_beta.to(self.u), self.devices), self.u))


class JointFreeGate(FreeGate):
    """`FreeGate` of all: (a, b) = A tanh(Σ_j u_j t_j + v) + c, with t_j the standardised log β_j.

    Args:
        size: m.
        betas: the ends of the range of each β.
        devices: J.
        hidden: units of the small network.
    """

    joint = True

    def __init__(
        self, size: int, betas: tuple[float, float], devices: int, hidden: int = 16
    ) -> None:
        super().__init__(size, betas, hidden)
        self.devices = count("devices", devices)
        self.u = nn.Parameter(2 * torch.randn(devices, hidden) / devices**0.5)

    def modulation(self, log_beta: Float[Tensor, "M *J"]) -> tuple[Tensor, Tensor]:
        several = each(log_beta.to(self.u), self.devices)
        t = standardised(several.flatten(), self.betas).view(several.shape)
        return self.of(t @ self.u)


class JointOpening(Opening):
    """The openings of several devices' features behind the channel, each by its own device's β.

    Args:
        blocks: how many features each device sends.
        betas: the ends of the range of each β.
    """

    joint = True

    def __init__(self, blocks: tuple[int, ...], betas: tuple[float, float]) -> None:
        nn.Module.__init__(self)
        self.betas = ends_of(betas)
        self.each = nn.ModuleList([Opening(size, betas) for size in blocks])

    def forward(self, log_beta: Float[Tensor, "M *J"]) -> Float[Tensor, "M m"]:
        several = each(log_beta, len(self.each)).unbind(1)
        return torch.cat([one(own) for one, own in zip(self.each, several, strict=True)], 1)
