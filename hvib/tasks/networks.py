"""The architectures of the tasks.

Each function here returns a builder: a function from a run to a plain system, whose `features`,
`snr_db` and seed the run sets.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.check import require
from hvib.devices.composite import Devices
from hvib.devices.views import View
from hvib.run import Run
from hvib.system import System, mlp


class PowerLimited(nn.Module):
    """A last layer of a device that limits the power of each example's feature to n.

    Where E‖z‖² = ‖μ‖² + Σθ² would exceed n, it scales μ and θ down by one factor.
    """

    def forward(self, moments: Float[Tensor, "B 2n"]) -> Float[Tensor, "B 2n"]:
        mean, log_variance = moments.chunk(2, -1)  # (B, n) each
        power = (mean.square() + log_variance.exp()).mean(-1, keepdim=True)
        # A logarithm, because the device states the logarithm of the variance. At or below unit
        # power the excess is 0 and nothing changes.
        excess = power.clamp(min=1).log()
        return torch.cat([mean * (-excess / 2).exp(), log_variance - excess], -1)


def power_limited(build: Callable[[Run], System]) -> Callable[[Run], System]:
    """Wrap a builder so that its device sends no more than unit power for any example."""

    def limited(run: Run) -> System:
        system = build(run)
        device = nn.Sequential(system.device, PowerLimited())
        return System(device, system.network, system.channel, system.features, system.distortion)

    return limited


def mlp_system(x: int, hidden: Sequence[int], classes: int) -> Callable[[Run], System]:
    """Build fully connected systems for classification.

    Args:
        x: number of entries of one example.
        hidden: widths of the device's hidden layers; the network has them in reverse.
        classes: number of classes.
    """

    def build(run: Run) -> System:
        device = mlp([x, *hidden, 2 * run.features])
        network = mlp([run.features, *reversed(hidden), classes])
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


def several_mlps(
    inputs: Sequence[int],
    hidden: Sequence[int],
    ends: int,
    view: View,
    last: Callable[[], nn.Module] = nn.Identity,
) -> Callable[[Run], System]:
    """Build systems of several fully connected devices, which share the features evenly.

    Args:
        inputs: number of real numbers that each device sees.
        hidden: widths of each device's hidden layers; the network has them in reverse.
        ends: in how many numbers the network ends.
        view: cuts x into what each device sees.
        last: makes a layer behind the network.
    """

    def build(run: Run) -> System:
        own, left = divmod(run.features, len(inputs))
        mend = f"give a multiple of the {len(inputs)} devices"
        require(left == 0, "features", run.features, mend)
        devices = [mlp([x, *hidden, 2 * own]) for x in inputs]
        device = Devices(devices, view, [own] * len(inputs))
        network = nn.Sequential(mlp([run.features, *reversed(hidden), ends]), last())
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


class Affine(nn.Module):
    """A fixed last layer, centre + scale · h.

    It converts numbers near 1, which a network learns easily, to a real target in its own unit.
    """

    def __init__(self, centre: float, scale: float) -> None:
        super().__init__()
        # Plain numbers and not buffers, which a batched grid (`Stacked`) does not support.
        self.centre, self.scale = centre, scale

    def forward(self, h: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return self.centre + self.scale * h


# Mean and standard deviation of the propagation time in ns for distances uniform from 1 to 30 m.
_TIME = (51.7, 27.9)


def ranging_mlp(inputs: int, moments: tuple[float, float] = _TIME) -> Callable[[Run], System]:
    """Build fully connected systems for ranging, which answer in ns.

    Args:
        inputs: number of real numbers in one measurement.
        moments: mean and standard deviation of the target, if it is another.
    """

    def build(run: Run) -> System:
        device = mlp([inputs, 256, 256, 2 * run.features])
        network = nn.Sequential(mlp([run.features, 256, 256, 1]), Affine(*moments))
        return System(device, network, AWGN(run.snr_db), run.features)

    return build


def ranging_convolutions(
    convolution: type[nn.Conv1d] | type[nn.Conv2d], kernel: tuple[int, ...], last: int
) -> Callable[[Run], System]:
    """Build convolutional systems for ranging, which answer in ns.

    Three layers of filters run along the tones, and across the antennas if there are several. Each
    halves the number of tones.

    Args:
        convolution: `nn.Conv1d` for one antenna, `nn.Conv2d` for several.
        kernel: size of a filter, (tones,) or (antennas, tones), all odd.
        last: number of values that the last layer of filters leaves.
    """

    def build(run: Run) -> System:
        # Only the tones are halved; three antennas are too few to halve.
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
    """A fixed first layer that puts 2 × 2 patches of colour images into uncorrelated coordinates.

    The coordinates are the Haar transforms of brightness, red − blue and green − magenta, each
    divided by about its standard deviation on CIFAR-10. Each coordinate and its negative are
    rectified, so 3 channels become 24. A trained first layer learns little else than such
    coordinates, and learns them slowly.
    """

    spread = ((0.80, 0.16, 0.14, 0.058), (0.23, 0.032, 0.030, 0.010), (0.11, 0.017, 0.016, 0.006))
    """standard deviations on CIFAR-10: a row for each colour, with those of its mean and of its
    vertical, horizontal and diagonal difference
    """

    def __init__(self) -> None:
        super().__init__()
        # Rows are the sum and the difference of two neighbours.
        two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        haar = torch.kron(two, two).view(4, 2, 2) / 2
        colour = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))
        # Fine differences hold more noise than picture. The 5e-4 limits their gain to 45.
        gain = (torch.tensor(self.spread).square() + 5e-4).rsqrt()
        # Each of 3 colours in each of 4 differences: (12, 3, 2, 2).
        filters = torch.einsum("ah,ac,hij->ahcij", gain, colour, haar).flatten(0, 1)
        self.register_buffer("filters", torch.cat([filters, -filters]), persistent=False)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 24 H-1 W-1"]:
        # 0.47 is the mean pixel of CIFAR-10. relu_ may overwrite the new output of the convolution.
        return F.conv2d(x - 0.47, self.filters).relu_()  # type: ignore[arg-type]  # a tensor


def _convolution(
    c_in: int, c_out: int, norm: Callable[[int], nn.Module], pool: bool = False
) -> list[nn.Module]:
    """Return a 3 × 3 convolution, an optional halving of the picture, a norm and a GELU.

    The convolution starts as the identity on the channels that it is given.
    """
    layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    # So that a signal passes all layers from the first step on; further channels start at random.
    nn.init.dirac_(layer.weight.data[:c_in])
    return [layer, *[nn.MaxPool2d(2)] * pool, norm(c_out), nn.GELU("tanh")]


def convolutional_system(
    stem: Callable[[], nn.Module],
    channels: int,
    widths: Sequence[int],
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> Callable[[Run], System]:
    """Build convolutional systems for images, of two convolutions a stage.

    The first convolution of a stage halves the picture. After the last stage the largest value of
    each channel goes to one linear layer.

    Args:
        stem: makes the layer before the first stage.
        channels: number of channels that the stem returns.
        widths: number of channels of each stage.
        norm: makes the norm behind a convolution from its number of channels.
    """

    def build(run: Run) -> System:
        layers = [stem()]
        for c_in, c_out in itertools.pairwise((channels, *widths)):
            layers += [
                *_convolution(c_in, c_out, norm, pool=True),
                *_convolution(c_out, c_out, norm),
            ]
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2 * run.features)]
        # Convolutions are fastest in this layout of memory.
        device = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        return System(device, mlp([run.features, 128, 10]), AWGN(run.snr_db), run.features)

    return build


def group_norm(channels: int) -> nn.Module:
    """Return a group norm of eight channels a group, for a multiple of eight channels.

    Unlike a batch norm it takes its statistics from each example alone.
    """
    return nn.GroupNorm(channels // 8, channels)
