"""Past the paper: gates without bounds, and openings that close the features one by one."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.checks.forward import moments_of
from hvib.checks.numbers import ends_of
from hvib.hyper import Gate, Gated
from hvib.system import System


def standardised(log_beta: Float[Tensor, " M"], betas: tuple[float, float]) -> Float[Tensor, "M 1"]:
    """t: log β mapped linearly so that the range of β runs from −1 to 1.

    A range of less than about a decade is not stretched to that length, which would make the
    gates steep in β.
    """
    low, high = (math.log(beta) for beta in betas)
    return ((log_beta - (low + high) / 2) / max((high - low) / 2, 1.0))[:, None]


class FreeGate(Gate):
    """FiLM conditioning on log β, as "You Only Train Once" has it: scale 1 + a(β), shift b(β).

    The paper's sigmoid scales by less than 1, is monotone in log β and never reaches 0. This gate
    has no such bounds: (a, b) = A tanh(u t + v) + c, where t is log β `standardised` over its
    range, with `hidden` units and 2·(hidden + 1)·m + 2·hidden parameters. A and c start at 0, so
    the gated model starts as the plain one.

    Args:
        size: m, the number of output units or filters of the gated layer.
        betas: the ends of the range of β.
        hidden: units of the small network.
    """

    needs_range = True

    def __init__(self, size: int, betas: tuple[float, float], hidden: int = 16) -> None:
        nn.Module.__init__(self)
        self.betas = ends_of(betas)
        self.u = nn.Parameter(torch.randn(hidden) * 2)
        self.v = nn.Parameter(torch.randn(hidden))
        self.out = nn.Linear(hidden, 2 * size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return self.modulation(log_beta)[0]

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        return self.of(standardised(log_beta.to(self.u), self.betas) * self.u)

    def of(self, driven: Float[Tensor, "M hidden"]) -> tuple[Tensor, Tensor]:
        """Scale and shift from what is added to v."""
        # Divided by √hidden, so that a step of A moves the scale by the same amount for any width.
        features = torch.tanh(driven + self.v) / math.sqrt(len(self.u))  # (M, hidden)
        scale, shift = self.out(features).chunk(2, -1)  # (M, m) each
        return 1 + scale, shift


class Opening(Gate):
    """How far each feature is open: a_j(β) = S(e^{k_j} (c_j − t)), with t the `standardised` log β.

    Features close one by one as β grows, each at a β of its own. The linear case shows why: there
    a feature of power P is worth its rate only below β = 2P. A closed feature has the mean and the
    log-variance of the prior, which cost no rate. The c_j start evenly spread from `first` down to
    `last`, a little beyond the range, so that the first feature stays open for all β.

    Args:
        size: n, the number of features.
        betas: the ends of the range of β.
        copies: how many numbers of a feature the opening scales: 2 for (μ, log θ²).
        first, last: c of the first feature and of the last.
        steepness: e^k at the start; 8 closes a feature over about half a decade of six.
    """

    needs_range = True

    def __init__(
        self,
        size: int,
        betas: tuple[float, float],
        copies: int = 1,
        *,
        first: float = 1.2,
        last: float = -1.0,
        steepness: float = 8.0,
    ) -> None:
        nn.Module.__init__(self)
        self.betas = ends_of(betas)
        self.copies = copies
        self.c = nn.Parameter(torch.linspace(first, last, size))
        self.k = nn.Parameter(torch.full((size,), math.log(steepness)))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return self.at(standardised(log_beta.to(self.c), self.betas))

    def at(self, t: Float[Tensor, "M 1"], later: Tensor | float = 0.0) -> Float[Tensor, "M m"]:
        """How far the features are open at t, if they close `later` than at c."""
        return torch.sigmoid(self.k.exp() * (self.c + later - t)).repeat(1, self.copies)


class Opened(nn.Sequential):
    """A device and the opening behind it, which scales (μ, log θ²) as one tensor."""

    def __init__(self, device: nn.Module, opening: nn.Module, features: int) -> None:
        super().__init__(device, opening)
        self.features = features

    def forward(self, x: Tensor) -> Float[Tensor, "B 2n"]:
        device, opening = self
        return opening(moments_of(device(x), len(x), self.features))


def opened(
    system: System, betas: tuple[float, float], make: Callable[..., Opening] = Opening
) -> System:
    """The same system with an `Opening` of each feature at both ends of the link.

    The device's opening scales (μ, log θ²), so that a closed feature costs no rate. The network's
    opening scales the received ẑ, so that a closed feature lets no noise in. Each end has
    parameters of its own.

    Args:
        system: gated or plain; its modules are used, not copied.
        betas: the ends of the range of β.
        make: makes an opening from n, the range, and the number of copies.
    """
    require(isinstance(system, System), "system", type(system).__name__, "give a System")
    like = next(system.parameters(), torch.empty(0))  # double precision stays double
    device, network = (
        Gated(nn.Identity(), make(system.features, betas, copies).to(like.device), -1)
        for copies in (2, 1)
    )
    if like.dtype == torch.float64:
        device, network = device.double(), network.double()
    return System(
        Opened(system.device, device, system.features),
        nn.Sequential(network, system.network),
        system.channel,
        system.features,
        system.distortion,
    )
