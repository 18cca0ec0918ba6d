"""CIFAR-10, the second of the paper's classification tasks, with a narrow and a wide network."""

from dataclasses import replace

import torch
from torch import nn

from hvib.data import Data
from hvib.run import Run
from hvib.tasks.images import steps_and_twice, torchvision_images
from hvib.tasks.networks import Decorrelated, convolutional_system, group_norm
from hvib.tasks.task import ACCURACY, PaperRow, Planned, Task


def cifar10() -> Data:
    """Load CIFAR-10: 45,000 / 5,000 / 10,000 images of 3 × 32 × 32 pixels, 10 classes.

    The last 5,000 of the training images are the validation split. Nothing is downloaded.

    Raises:
        MissingData: the files are not under `data_root()`.
        ImportError: torchvision does not import.
        ValueError: the files hold other images or labels than CIFAR-10's.
    """
    return torchvision_images(
        "CIFAR10",
        "cifar-10-batches-py/data_batch_1",
        5_000,
        "c92f709b220249864687d273bbb8c93c",
        lambda pixels: torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),  # (N, C, H, W)
    )


def _studies(planned: Planned) -> dict[str, list[Run]]:
    """Plan the studies of CIFAR-10: those of `steps_and_twice`, and `norms`.

    `one run` has the first seed alone.

    `norms` varies the norms and the place of the gates, for the first three seeds. VIB at one β of
    the plateau and the paper's Hyper-VIB each have batch norms, group norms and no norms. Hyper-VIB
    also has its gates before the batch norms.
    """
    # The plateau decides: there VIB's accuracy hardly depends on β, so one β stands for many.
    plateau, paper = planned.plateau, planned.once("hyper-vib")
    plateau, paper = planned.three_seeds(plateau), planned.three_seeds(paper)
    before = [replace(run, method="hyper-vib-before") for run in paper]
    other_norms = [
        replace(run, network=f"cifar10-{norm}")
        for norm in ("group-norm", "no-norm")
        for run in plateau + paper
    ]
    # A run evaluates 13 β on every image, which takes as long as its training: the first seed only.
    first = [run for run in planned.one_run if run.seed == planned.vib[0].seed]
    return steps_and_twice(planned) | {
        "one run": first,
        "norms": plateau + paper + before + other_norms,
    }


# Chosen for VIB in some fifteen trials with one seed, and kept for all methods.
_SETTINGS = {
    "batch_size": 256,
    "learning_rate": 7e-3,
    "adam_memory": 0.95,
    "weight_decay": 0.15,
    "shift": 3,
    "flip": True,
}

# The wide network has nine times the parameters and three times the epochs of the narrow one.
# Without stronger regularisation it learns the training images by heart.
_WIDE = {**_SETTINGS, "batch_size": 512, "weight_decay": 0.3, "erase": 12}

_SMOKE = {"epochs": 1, "limit": 128, "batch_size": 128, "draws": 1}

_NARROW = (Decorrelated, 24, (32, 128, 128))
"""the stem, the number of channels it returns, and the number of channels of each stage"""

_CIFAR10 = Task(
    name="cifar10",
    label="CIFAR-10",
    metric=ACCURACY,
    load=cifar10,
    networks={
        "": convolutional_system(*_NARROW),
        "cifar10-group-norm": convolutional_system(*_NARROW, group_norm),
        "cifar10-no-norm": convolutional_system(*_NARROW, lambda _: nn.Identity()),
    },
    profiles={
        "smoke": _SMOKE,
        "quick": {**_SETTINGS, "epochs": 3, "draws": 1},
        "full": {**_SETTINGS, "epochs": 13, "draws": 4},
    },
    classes=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    studies=_studies,
    in_paper=PaperRow(2, 236_800, 31_640),
    search_epochs=3,
)

DEFINED = (
    _CIFAR10,
    Task(
        name="cifar10-wide",
        label="CIFAR-10, wide network",
        metric=ACCURACY,
        load=cifar10,
        networks={"": convolutional_system(Decorrelated, 24, (128, 384, 384))},
        profiles={
            "smoke": _SMOKE,
            "quick": {**_WIDE, "epochs": 3, "draws": 1},
            "full": {**_WIDE, "epochs": 40, "draws": 4},
        },
        classes=_CIFAR10.classes,
    ),
)
