"""The digits of scikit-learn: a small task that needs no files.

The digits replace MNIST in the book where MNIST's files are missing.
"""

import torch
from torch import nn

from hvib.data import Data, Split
from hvib.devices.views import halves
from hvib.tasks.images import steps_and_ranges
from hvib.tasks.networks import convolutional_system, mlp_system, power_limited, several_mlps
from hvib.tasks.task import ACCURACY, Task


def digits() -> Data:
    """Load the 1,797 handwritten digits embedded in scikit-learn: 1 × 8 × 8 pixels, 10 classes.

    The images are float32 in [0, 1]. A fixed permutation splits them into 1,197 for training, 300
    for validation and 300 for test.
    """
    # Imported here, because nothing else needs scikit-learn.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # A fixed seed, so that runs of different seeds have the same splits.
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(bunch.images).float().unsqueeze(1)[order] / 16  # pixels are 0 to 16
    y = torch.from_numpy(bunch.target).long()[order]
    cuts = (slice(0, 1197), slice(1197, 1497), slice(1497, 1797))
    return Data(*(Split(x[cut], y[cut]) for cut in cuts))


_PROFILES = {
    "smoke": {"epochs": 2, "batch_size": 128, "draws": 1},
    "quick": {"epochs": 100, "batch_size": 128, "draws": 4},
    "full": {"epochs": 200, "batch_size": 128},
}

_MLP = mlp_system(64, (256, 128), 10)

DEFINED = (
    Task(
        name="digits",
        label="digits",
        metric=ACCURACY,
        load=digits,
        networks={
            "": _MLP,
            "digits-convolutions": convolutional_system(nn.Identity, 1, (16, 32, 64)),
            "digits-power-limited": power_limited(_MLP),
        },
        profiles=_PROFILES,
        classes=tuple("0123456789"),
        batched_grid=True,
        studies=steps_and_ranges,
    ),
    Task(
        name="digits-halves",
        label="digits, two halves",
        metric=ACCURACY,
        load=digits,
        networks={"": several_mlps((32, 32), (256, 128), 10, halves)},
        profiles=_PROFILES,
        classes=tuple("0123456789"),
    ),
)
