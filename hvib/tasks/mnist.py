"""MNIST, the first of the paper's classification tasks."""

from typing import Any

from hvib.data import Data
from hvib.devices.views import halves
from hvib.tasks.images import steps_and_ranges, torchvision_images
from hvib.tasks.networks import mlp_system, several_mlps
from hvib.tasks.task import ACCURACY, PaperRow, Task


def mnist() -> Data:
    """Load MNIST: 55,000 / 5,000 / 10,000 images of 1 × 28 × 28 pixels, 10 classes.

    The last 5,000 of the training images are the validation split. Nothing is downloaded.

    Raises:
        MissingData: the files are not under `data_root()`.
        ImportError: torchvision does not import.
        ValueError: the files hold other images or labels than MNIST's.
    """
    return torchvision_images(
        "MNIST",
        "MNIST/raw/train-images-idx3-ubyte",
        5_000,
        "aceb4fe98e60fd846d3e8dddd4d7d337",
        lambda pixels: pixels.unsqueeze(1),
    )


_PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"epochs": 1, "limit": 2048, "batch_size": 256, "shift": 2, "draws": 1},
    "quick": {"epochs": 3, "shift": 2, "draws": 2},
    "full": {"epochs": 20, "shift": 2, "weight_decay": 0.01},
}

_HIDDEN = (1024, 256)

_HALF = 14 * 28

DEFINED = (
    Task(
        name="mnist",
        label="MNIST",
        metric=ACCURACY,
        load=mnist,
        # 784–1024–256–2·64 and 64–256–1024–10, the sizes of the VL-VFE family. The paper names no
        # network.
        networks={"": mlp_system(784, _HIDDEN, 10)},
        profiles=_PROFILES,
        classes=tuple("0123456789"),
        batched_grid=True,
        studies=steps_and_ranges,
        in_paper=PaperRow(1, 3_103, 696),
        search_epochs=5,
    ),
    # Two devices, which see the upper and the lower half, with half of the features each.
    Task(
        name="mnist-halves",
        label="MNIST, two halves",
        metric=ACCURACY,
        load=mnist,
        networks={
            "": several_mlps((_HALF, _HALF), _HIDDEN, 10, halves),
            "mnist-upper": several_mlps((_HALF,), _HIDDEN, 10, lambda x: halves(x)[:1]),
            "mnist-lower": several_mlps((_HALF,), _HIDDEN, 10, lambda x: halves(x)[1:]),
        },
        profiles=_PROFILES,
        classes=tuple("0123456789"),
    ),
)
