"""Device encoder, channel, network decoder: equation (1) and the chain (2)."""

import itertools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.config import Run, require, require_known

batch_rows: ContextVar[int] = ContextVar("batch_rows", default=1)
"""The length of the batch that a system's device or network is working on, which gates check."""


def _run(module: nn.Module, batch: Tensor) -> Tensor:
    token = batch_rows.set(len(batch))
    try:
        return module(batch)
    finally:
        batch_rows.reset(token)


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
        channel: `hvib.channel.AWGN`, or a module that is called with z and as many standard
            normals, its only source of chance, and has the `variance` of what it adds. The rate
            (9) takes ẑ for z plus that noise: a gain must be divided out, or be the device's.
        features: n, the dimension of z.
    """

    def __init__(self, device: nn.Module, network: nn.Module, channel: AWGN, features: int) -> None:
        super().__init__()
        told = hasattr(channel, "variance")
        require(told, "channel", type(channel).__name__, "give it a `variance`, as AWGN has")
        self.device = device
        self.channel = channel
        self.network = network
        self.features = features

    def forward(self, x: Shaped[Tensor, "M N *shape"], noise: Float[Tensor, "2 M DN n"]) -> Output:
        """Pass N examples for each of M values of β.

        `noise` holds standard normals: those of the encoder's reparameterisation, then
        those of the channel. With D draws of all N, one after the other, the outputs are D·N
        and the device runs once for all draws.
        """
        axes = x.shape[:2]
        moments = _run(self.device, x.flatten(0, 1)).float().unflatten(0, axes)  # (M, N, 2n)
        require(
            moments.shape[-1] == 2 * self.features,
            "device output",
            tuple(moments.shape),
            f"end the device in 2 * features = {2 * self.features} numbers, (μ, log θ²)",
        )
        moments = moments.repeat(1, noise.shape[2] // moments.shape[1], 1)  # (M, D·N, 2n)
        mean, log_variance = moments.chunk(2, dim=-1)
        # Not θ² first and then its root, whose gradient is NaN once θ² underflows to 0.
        deviation = (log_variance / 2).exp()
        variance = deviation.square()
        z = mean + deviation * noise[0]
        received = self.channel(z, noise[1])
        prediction = _run(self.network, received.flatten(0, 1)).float()
        prediction = prediction.unflatten(0, (axes[0], -1))
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
        kinds = {repr(system) for system in systems}
        mend = "stack systems of one architecture and one channel, at least one"
        require(len(kinds) == 1, "systems", f"{len(kinds)} kinds", mend)
        stacked, buffers = torch.func.stack_module_state(list(systems))
        require(not buffers, "systems", sorted(buffers), "stack systems without buffers")
        self.names = list(stacked)
        self.stack = nn.ParameterList(
            [nn.Parameter(p.detach(), p.requires_grad) for p in stacked.values()]
        )
        # A plain attribute, not a submodule: its own parameters are only a template.
        self.__dict__["template"] = systems[0]

    def forward(self, x: Shaped[Tensor, "1 N *shape"], noise: Float[Tensor, "2 1 DN n"]) -> Output:
        """Pass the same N examples and the same noise through all K systems."""

        def one(parameters: dict[str, Tensor]) -> Output:
            return torch.func.functional_call(self.template, parameters, (x, noise))

        mapped = torch.func.vmap(one)(dict(zip(self.names, self.stack, strict=True)))
        return Output(*(part.squeeze(1) for part in mapped))  # (K, 1, N, ·) → (K, N, ·)

    @torch.no_grad()
    def load(self, systems: Sequence[dict[str, Tensor]]) -> None:
        """Take over the parameters of K systems, by name."""
        for name, stacked in zip(self.names, self.stack, strict=True):
            stacked.copy_(torch.stack([system[name] for system in systems]))

    def unstack(self) -> list[dict[str, Tensor]]:
        """The K systems' state dictionaries."""
        count = len(self.stack[0])
        return [
            {name: p[k].detach() for name, p in zip(self.names, self.stack, strict=True)}
            for k in range(count)
        ]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers (11) of the given sizes with ReLU between them.

    Not in place: a gate's output is a view, and autograd copies what is written into a view.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (m_in, m_out) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(m_in, m_out)] + [nn.ReLU()] * (i < len(sizes) - 2)
    return nn.Sequential(*layers)


class PowerLimited(nn.Module):
    """Scales μ and θ down together where E‖z‖² = ‖μ‖² + Σθ² of an example would exceed n."""

    def forward(self, moments: Float[Tensor, "B 2n"]) -> Float[Tensor, "B 2n"]:
        mean, log_variance = moments.chunk(2, -1)
        power = (mean.square() + log_variance.exp()).mean(-1, keepdim=True)
        excess = power.clamp(min=1).log()
        return torch.cat([mean * (-excess / 2).exp(), log_variance - excess], -1)


def _power_limited(build: Callable[[Run], System]) -> Callable[[Run], System]:
    def limited(run: Run) -> System:
        system = build(run)
        device = nn.Sequential(system.device, PowerLimited())
        return System(device, system.network, system.channel, system.features)

    return limited


def _mlp_system(x: int, hidden: Sequence[int], classes: int) -> Callable[[Run], System]:
    def build(run: Run) -> System:
        device = mlp([x, *hidden, 2 * run.features])
        network = mlp([run.features, *reversed(hidden), classes])
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


class Affine(nn.Module):
    """centre + scale · h, not trained: a real target in its own unit from a number near 1."""

    def __init__(self, centre: float, scale: float) -> None:
        super().__init__()
        self.centre, self.scale = centre, scale  # plain numbers: stacked systems have no buffers

    def forward(self, h: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return self.centre + self.scale * h


# Mean and standard deviation of the line of sight's propagation time in ns, 1 to 30 m.
_TIME = (51.7, 27.9)


def _ranging_mlp(inputs: int) -> Callable[[Run], System]:
    def build(run: Run) -> System:
        device = mlp([inputs, 256, 256, 2 * run.features])
        network = nn.Sequential(mlp([run.features, 256, 256, 1]), Affine(*_TIME))
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


def _ranging_convolutions(
    convolution: type[nn.Conv1d] | type[nn.Conv2d], kernel: tuple[int, ...], last: int
) -> Callable[[Run], System]:
    """Filters along the tones (and across the antennas), halving the tones three times."""

    def build(run: Run) -> System:
        stride = (1,) * (len(kernel) - 1) + (2,)
        padding = tuple(k // 2 for k in kernel)
        layers: list[nn.Module] = []
        for c_in, c_out in ((2, 32), (32, 64), (64, 64)):
            layers += [
                convolution(c_in, c_out, kernel, stride, padding),  # type: ignore[arg-type]
                nn.ReLU(),
            ]
        device = nn.Sequential(*layers, mlp([last, 256, 2 * run.features]))
        network = nn.Sequential(mlp([run.features, 256, 256, 1]), Affine(*_TIME))
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


class Decorrelated(nn.Module):
    """2 × 2 patches of a colour image in coordinates without correlation, not trained.

    The coordinates are those of the Haar transform of brightness, red − blue and green −
    magenta, each in units of its standard deviation on CIFAR-10, and their negatives, rectified:
    3 channels become 24. A first layer learns little else, and learns it slowly.
    """

    spread = ((0.80, 0.16, 0.14, 0.058), (0.23, 0.032, 0.030, 0.010), (0.11, 0.017, 0.016, 0.006))
    """standard deviation of each colour's mean, vertical, horizontal and diagonal difference"""

    def __init__(self) -> None:
        super().__init__()
        two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        haar = torch.kron(two, two).view(4, 2, 2) / 2
        colour = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))
        # Fine differences hold more noise than picture: they are amplified no more than 45 times.
        gain = (torch.tensor(self.spread).square() + 5e-4).rsqrt()
        filters = torch.einsum("ah,ac,hij->ahcij", gain, colour, haar).flatten(0, 1)
        self.register_buffer("filters", torch.cat([filters, -filters]), persistent=False)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 24 H-1 W-1"]:
        return F.conv2d(x - 0.47, self.filters).relu_()  # type: ignore[arg-type]  # a tensor


def _convolution(
    c_in: int, c_out: int, norm: Callable[[int], nn.Module], pool: bool = False
) -> list[nn.Module]:
    """3 × 3 convolution that starts as the identity on the channels it is given, norm, GELU."""
    layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:c_in])
    return [layer, *[nn.MaxPool2d(2)] * pool, norm(c_out), nn.GELU("tanh")]


def _convolutional_system(
    stem: Callable[[], nn.Module],
    channels: int,
    widths: Sequence[int],
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> Callable[[Run], System]:
    """Two convolutions a stage, the first halving the picture; the largest answer at the end.

    Args:
        stem: makes what comes before the first stage, of so many `channels`.
        widths: channels of each stage.
    """

    def build(run: Run) -> System:
        layers = [stem()]
        for c_in, c_out in itertools.pairwise((channels, *widths)):
            layers += [
                *_convolution(c_in, c_out, norm, pool=True),
                *_convolution(c_out, c_out, norm),
            ]
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2 * run.features)]
        device = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        return System(device, mlp([run.features, 128, 10]), AWGN(run.snr_db), run.features)

    return build


def _group_norm(channels: int) -> nn.Module:
    """Eight channels a group: statistics of each example alone, not of a batch."""
    return nn.GroupNorm(channels // 8, channels)


_CIFAR10 = (Decorrelated, 24, (32, 128, 128))

BUILDERS: dict[str, Callable[[Run], System]] = {
    # 784–1024–256–2·64 | 64–256–1024–10: the sizes of the VL-VFE family.
    "mnist": _mlp_system(784, (1024, 256), 10),
    "digits": _mlp_system(64, (256, 128), 10),
    "cifar10": _convolutional_system(*_CIFAR10),
    "cifar10-wide": _convolutional_system(Decorrelated, 24, (128, 384, 384)),
    "cifar10-group-norm": _convolutional_system(*_CIFAR10, _group_norm),
    "cifar10-no-norm": _convolutional_system(*_CIFAR10, lambda _: nn.Identity()),
    "digits-convolutions": _convolutional_system(nn.Identity, 1, (16, 32, 64)),
    **dict.fromkeys(("bluetooth", "bluetooth-any-snr"), _ranging_mlp(2 * 80)),
    "bluetooth-convolutions": _ranging_convolutions(nn.Conv1d, (5,), 64 * 10),
    **dict.fromkeys(("wifi", "wifi-any-snr"), _ranging_mlp(2 * 3 * 30)),
    "wifi-convolutions": _ranging_convolutions(nn.Conv2d, (3, 3), 64 * 3 * 4),
}
"""The architectures, a task's own under its name. All methods use it; yours joins by name."""

BUILDERS |= {
    f"{task}-power-limited": _power_limited(BUILDERS[task])
    for task in ("digits", "bluetooth", "wifi")
}


def build(run: Run) -> System:
    """The plain system of a run, initialised from its seed.

    Raises:
        ValueError: no builder has the name of the run's network or task.
    """
    field = "network" if run.network else "task"
    name = run.network or run.task
    require_known(field, name, BUILDERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return BUILDERS[name](run)
