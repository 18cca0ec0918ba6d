"""Classifiers of images behind a source coder, or in the device itself, and how they are trained.

They are no systems of the method: nothing is sent between their layers, and no rate is paid.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.data import Batcher, Split, reals
from hvib.system import mlp
from hvib.train import denormals_flushed, has_bfloat16, torch_device

Build = Callable[[tuple[int, ...], int], nn.Module]
"""from the shape of an image, (C, H, W), and the number of classes to a classifier"""


def task_mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The widths of the device of MNIST's systems, 784–1024–256, and the classes behind them."""
    inputs = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), mlp([inputs, 1024, 256, classes]))


def _convolutions(widths: tuple[int, int, int]) -> Build:
    """Three convolutions with batch norms and a hidden layer, for images of about 30 pixels."""

    def block(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        return [convolution, nn.BatchNorm2d(c_out), nn.ReLU()]

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        one, two, three = widths
        height, width = ((n + 1) // 2 // 4 for n in shape[1:])
        layers = block(shape[0], one, 5, 2)  # (N, one, H/2, W/2)
        layers += [*block(one, two, 3), nn.MaxPool2d(2)]  # (N, two, H/4, W/4)
        layers += [*block(two, three, 3), nn.MaxPool2d(2), nn.Flatten()]
        layers += [nn.Linear(three * height * width, 128), nn.ReLU(), nn.Dropout(0.3)]
        layers += [nn.Linear(128, classes)]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)

    return build


convolutional = _convolutions((32, 64, 64))
"""the strongest classifier here, in the device or behind lossless images"""

small_convolutional = _convolutions((16, 32, 64))
"""the one behind a lossy coder, of which there are many to train"""


def _forward(model: nn.Module, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
    x = x.contiguous(memory_format=torch.channels_last)
    # bfloat16 makes a convolution on a CPU several times faster, where the CPU has it.
    with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bfloat16(x.device)):
        found: Tensor = model(x)
    return found.float()


def fit_classifier(
    model: nn.Module,
    epochs: Sequence[Split],
    *,
    rate: float,
    seed: int,
    shift: int = 0,
    flip: bool = False,
    batch: int = 250,
) -> nn.Module:
    """Train a classifier in place by Adam, its rate rising for a tenth of the steps and falling.

    Args:
        model: images (B, C, H, W) to logits (B, classes).
        epochs: the training images of each epoch, all of one length; the same ones may recur.
        rate: the largest learning rate.
        seed: of the order of images and their shifts.
        shift, flip: as `hvib.data.Batcher` has them.
        batch: images a step.

    Returns:
        the model, for evaluation.

    Raises:
        ValueError: there is no epoch, or an epoch has no full batch.
    """
    require(len(epochs) > 0, "epochs", epochs, "give the images of at least one epoch")
    per_epoch = len(epochs[0]) // batch
    mend = f"give at most the {len(epochs[0])} training images"
    require(per_epoch > 0, "batch", batch, mend)
    where = torch_device()
    generator = torch.Generator(where).manual_seed(seed)
    model.to(where).train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01, fused=True)
    total = per_epoch * len(epochs)
    course = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total, pct_start=0.1)
    with denormals_flushed(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for split in epochs:
            batches = Batcher(split.to(where), shift, flip)
            order = torch.randperm(len(split), generator=generator, device=where)
            for index in order[: per_epoch * batch].split(batch):
                x, y = batches(index, generator)
                loss = F.cross_entropy(_forward(model, x), y, label_smoothing=0.02)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                course.step()
    return model.eval()


def adapted(
    model: nn.Module, split: Split, *, rate: float, seed: int, shift: int, flip: bool
) -> nn.Module:
    """A copy of a classifier that has had one more epoch, on images of one kind."""
    own = copy.deepcopy(model)
    return fit_classifier(own, [split], rate=rate, seed=seed, shift=shift, flip=flip)


def built(build: Build, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """A classifier whose first weights a seed determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(shape, classes)


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor, batch: int = 1000) -> Float[Tensor, "N classes"]:
    """The logits of all images, on the CPU.

    Args:
        x: (N, C, H, W), uint8.
    """
    where = next(model.parameters()).device
    return torch.cat([_forward(model, reals(part.to(where))).cpu() for part in x.split(batch)])
