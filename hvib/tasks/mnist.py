"""MNIST, the first of the paper's classification tasks."""

from hvib.data import Data
from hvib.tasks.images import steps_and_ranges, torchvision_images
from hvib.tasks.networks import mlp_system
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


DEFINED = (
    Task(
        name="mnist",
        label="MNIST",
        metric=ACCURACY,
        load=mnist,
        # 784–1024–256–2·64 and 64–256–1024–10, the sizes of the VL-VFE family. The paper names no
        # network.
        networks={"": mlp_system(784, (1024, 256), 10)},
        profiles={
            "smoke": {"epochs": 1, "limit": 2048, "batch_size": 256, "shift": 2, "draws": 1},
            "quick": {"epochs": 3, "shift": 2, "draws": 2},
            "full": {"epochs": 20, "shift": 2, "weight_decay": 0.01},
        },
        classes=tuple("0123456789"),
        batched_grid=True,
        studies=steps_and_ranges,
        in_paper=PaperRow(1, 3_103, 696),
        search_epochs=5,
    ),
)
