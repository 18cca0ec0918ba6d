"""What the image tasks share: torchvision's files, and the studies beside a page's comparison."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvib.data import Data, Split
from hvib.house.project import folder_of
from hvib.run import Run
from hvib.tasks.task import Planned


class MissingData(FileNotFoundError):
    """A data set is not on disk; the message says how to get it."""


def data_root() -> Path:
    """The folder of the data sets, in torchvision's layout: `$HVIB_DATA`, else `data/`.

    A relative one is relative to `hvib.house.project.PROJECT`.
    """
    return folder_of("HVIB_DATA", "data")


def _torchvision_datasets() -> Any:
    """Import `torchvision.datasets` when it is first needed.

    Raises:
        ImportError: torchvision is missing or does not go with this torch.
    """
    try:
        from torchvision import datasets
    # Beside a torch of another version, torchvision fails with RuntimeError, not ImportError.
    except Exception as error:
        raise ImportError(
            f"torchvision cannot be imported beside torch {torch.__version__} ({error}): "
            "install the pair that requirements.txt pins, or use the data set digits"
        ) from error
    return datasets


def torchvision_images(
    kind: str, folder: str, held_out: int, md5: str, view: Callable[[Any], Tensor]
) -> Data:
    """Load a data set of torchvision from disk, and split its training images for validation.

    Args:
        kind: torchvision's name of the data set.
        folder: a file of the data set under `data_root`, which the message of an error names.
        held_out: number of images, the last ones for training, that form the validation split.
        md5: digest of all pixels and labels, as `Data.md5` computes it.
        view: converts the data set's pixels to images (N, C, H, W).

    Raises:
        MissingData: the files are not under `data_root()`.
        ImportError: torchvision does not import.
        ValueError: the files hold other images or labels.
    """
    root = data_root()
    try:
        of_kind = getattr(_torchvision_datasets(), kind)
        train, test = (of_kind(root, train=t) for t in (True, False))
    # torchvision's error for files that are missing or damaged.
    except RuntimeError as error:
        raise MissingData(
            f"HVIB_DATA = {str(root)!r}: no intact {kind} here ({folder} …); "
            "set HVIB_DATA to a folder that has it, get it with "
            f"""`python -c "import torchvision as t; t.datasets.{kind}({str(root)!r}, """
            """download=True)"`, or use the data set digits, which needs no file"""
        ) from error
    x, y = view(train.data), torch.as_tensor(train.targets)
    cut = len(x) - held_out
    data = Data(
        Split(x[:cut], y[:cut]),
        Split(x[cut:], y[cut:]),
        Split(view(test.data), torch.as_tensor(test.targets)),
    )
    # torchvision does not check the content of every file that it reads.
    if data.md5 != md5:
        raise ValueError(
            f"HVIB_DATA = {str(root)!r}: the {kind} files here are damaged (MD5 of the pixels "
            f"and labels {data.md5}, expected {md5}); get them anew"
        )
    return data


def steps_and_twice(planned: Planned) -> dict[str, list[Run]]:
    """Plan the studies of every image task.

    - `one run`: the other methods of one training run, at the epochs of a VIB run.
    - `steps`: the two methods between the paper's and the ordered one, *log* and *free*.
    - `twice`: VIB with twice the epochs, at every third β and for the first three seeds.
    """
    paper = planned.once("hyper-vib")
    # Every third β and three seeds, because twice the epochs for all would treble the page's cost.
    third = planned.three_seeds(planned.vib_at(planned.grid[::3]))
    between = ("hyper-vib-log", "hyper-vib-free")
    return {
        "one run": planned.one_run,
        "steps": [replace(run, method=method) for method in between for run in paper],
        "twice": [replace(run, epochs=2 * run.epochs) for run in third],
    }


def steps_and_ranges(planned: Planned) -> dict[str, list[Run]]:
    """Plan the studies of MNIST, and of the digits, which replace MNIST if its files are missing.

    Besides those of `steps_and_twice` they are the ordered method, with the epochs of a VIB run:

    - `all, float32 products`: over the whole range of β, in float32, the number format that the
      other ranges have on record.
    - `two decades`, `one decade`: over the upper end of the range.
    - `one decade, its share`: over the upper decade, with the share of the epochs that a decade has
      in the whole range.
    """
    ordered = planned.once("hyper-vib-ordered")
    # On the grid of half decades, 5 values span two decades and 3 span one.
    two, decade = ([replace(r, betas=r.betas[-count:]) for r in ordered] for count in (5, 3))
    share = 2 / max(len(ordered[0].betas) - 1, 2)  # two of twelve half decades
    brief = [replace(run, epochs=max(round(share * run.epochs), 1)) for run in decade]
    return steps_and_twice(planned) | {
        "all, float32 products": [replace(run, precision="float32") for run in ordered],
        "two decades": two,
        "one decade": decade,
        "one decade, its share": brief,
    }
