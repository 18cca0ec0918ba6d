"""Device encoder, channel, network decoder: equation (1) and the chain (2)."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.config import Run, require, require_known


class Output(NamedTuple):
    """What one forward pass gives, for M values of β and N examples of each."""

    prediction: Float[Tensor, "M N k"]
    """ŷ: logits, or a real target"""
    mean: Float[Tensor, "M N n"]
    """μ(x; φ)"""
    variance: Float[Tensor, "M N n"]
    """θ², the diagonal of Θ(x; φ): the variance of the transmitted z"""
    received_variance: Float[Tensor, "M N n"]
    """θ² + σ²: the variance of the received ẑ"""


class System(nn.Module):
    """x → z ~ N(μ, Θ) → ẑ = channel(z) → ŷ.

    Args:
        device: any module from a batch of x to `2 * features` numbers, (μ, log θ²).
        network: any module from a batch of ẑ to predictions.
        channel: a layer as `hvib.channel.AWGN`.
        features: n, the dimension of z.
    """

    def __init__(self, device: nn.Module, network: nn.Module, channel: AWGN, features: int) -> None:
        super().__init__()
        self.device = device
        self.channel = channel
        self.network = network
        self.features = features

    def forward(self, x: Shaped[Tensor, "M N *shape"], noise: Float[Tensor, "2 M N n"]) -> Output:
        """Pass N examples for each of M values of β.

        `noise` holds standard normals: those of the encoder's reparameterisation, then
        those of the channel.
        """
        axes = x.shape[:2]
        moments = self.device(x.flatten(0, 1)).float().unflatten(0, axes)  # (M, N, 2n)
        require(
            moments.shape[-1] == 2 * self.features,
            "device output",
            tuple(moments.shape),
            f"end the device in 2 * features = {2 * self.features} numbers, (μ, log θ²)",
        )
        mean, log_variance = moments.chunk(2, dim=-1)
        variance = log_variance.exp()
        z = mean + variance.sqrt() * noise[0]
        received = self.channel(z, noise[1])
        prediction = self.network(received.flatten(0, 1)).float().unflatten(0, axes)
        return Output(prediction, mean, variance, variance + self.channel.variance)


class Stacked(nn.Module):
    """K systems of one architecture, trained and run as one: the batched grid.

    Parameters are stacked along a leading axis and the forward pass is mapped over it
    (`torch.func`), so K products become one batched product. Nothing is shared: the loss
    is a sum of K losses and the optimiser works element by element, so each system takes
    the steps that it would take alone.

    Args:
        systems: K systems, one for each β in ascending order.
    """

    template: System

    def __init__(self, systems: Sequence[System]) -> None:
        super().__init__()
        stacked, buffers = torch.func.stack_module_state(list(systems))
        require(not buffers, "systems", sorted(buffers), "stack systems without buffers")
        self.names = list(stacked)
        self.stack = nn.ParameterList([nn.Parameter(p.detach()) for p in stacked.values()])
        # A plain attribute, not a submodule: its own parameters are only a template.
        self.__dict__["template"] = systems[0]

    def forward(self, x: Shaped[Tensor, "1 N *shape"], noise: Float[Tensor, "2 1 N n"]) -> Output:
        """Pass the same N examples and the same noise through all K systems."""

        def one(parameters: dict[str, Tensor]) -> Output:
            return torch.func.functional_call(self.template, parameters, (x, noise))

        mapped = torch.func.vmap(one)(dict(zip(self.names, self.stack, strict=True)))
        return Output(*(part.squeeze(1) for part in mapped))  # (K, 1, N, ·) → (K, N, ·)

    def unstack(self) -> list[dict[str, Tensor]]:
        """The K systems' state dictionaries."""
        count = len(self.stack[0])
        return [
            {name: p[k].detach() for name, p in zip(self.names, self.stack, strict=True)}
            for k in range(count)
        ]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers (11) of the given sizes with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (m_in, m_out) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(m_in, m_out)] + [nn.ReLU(inplace=True)] * (i < len(sizes) - 2)
    return nn.Sequential(*layers)


def _mlp_system(x: int, hidden: Sequence[int], classes: int) -> Callable[[Run], System]:
    def build(run: Run) -> System:
        return System(
            mlp([x, *hidden, 2 * run.features]),
            mlp([run.features, *reversed(hidden), classes]),
            AWGN(run.snr_db),
            run.features,
        )

    return build


BUILDERS: dict[str, Callable[[Run], System]] = {
    # 784–1024–256–2·64 | 64–256–1024–10: the sizes of the VL-VFE family.
    "mnist": _mlp_system(784, (1024, 256), 10),
    "digits": _mlp_system(64, (256, 128), 10),
}
"""The architecture of each task. Both methods use it; a task of yours joins by name."""


def build(run: Run) -> System:
    """The plain system of a run's task, initialised from its seed.

    Raises:
        ValueError: no builder has the task's name.
    """
    require_known("task", run.task, BUILDERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return BUILDERS[run.task](run)
