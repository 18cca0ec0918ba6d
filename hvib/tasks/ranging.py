"""Bluetooth and WiFi ranging, the paper's two regression tasks, on simulated channels."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from hvib.data import Data
from hvib.ranging.simulate import BLUETOOTH, WIFI, Link, examples, simulate
from hvib.run import Run
from hvib.tasks.networks import power_limited, ranging_convolutions, ranging_mlp
from hvib.tasks.task import SQUARED_ERROR, Builder, PaperRow, Planned, Task

TRAIN, HELD_OUT = 200_000, 10_000
"""number of responses for training, and for each of validation and test"""

SEEDS = {"train": 0, "validation": 1, "test": 2}
"""the seed of each split's simulation"""


def dataset(link: Link, **scene: object) -> Callable[[], Data]:
    """Return a loader of simulated data, in which each split has a seed of its own.

    Args:
        link: the link on which the responses are measured.
        scene: `multipath` and `snr_db`, as `simulate` takes them.
    """

    def load() -> Data:
        sizes = {"train": TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
        parts = {
            name: examples(simulate(link, count, SEEDS[name], **scene))  # type: ignore[arg-type]
            for name, count in sizes.items()
        }
        return Data(**parts)

    return load


# Adam's second moment has a short memory here. With the usual memory, rare large values of the
# squared error set VIB back by a factor of two.
_SETTINGS = {"learning_rate": 5e-3, "adam_memory": 0.95}

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"epochs": 1, "limit": 2048, "batch_size": 256, "draws": 1},
    "quick": {**_SETTINGS, "epochs": 2, "draws": 2},
    "full": {**_SETTINGS, "epochs": 10, "draws": 4},
}

_METHODS = ("hyper-vib", "hyper-vib-log", "hyper-vib-free", "hyper-vib-ordered")
"""the paper's method and the steps from it to the ordered one, which lower the error most in
ranging
"""


def _studies(planned: Planned) -> dict[str, list[Run]]:
    """Plan the studies beside a ranging page's comparison.

    - `one run`: the other methods of one training run, at the epochs of a VIB run.
    - `a sixth`: the ordered method with 1.3 times the epochs, which costs a sixth of the grid.
    - `parts`: *free*, *ordered*, and each half of the step from the former to the latter.
    - `limited power`: a device limited to unit power, for VIB at every third β and for the paper's
      method.
    - `epochs`: VIB at one β of the plateau with half to four times the epochs for the first three
      seeds, and with eight times for the first seed.
    - `longest`: VIB and the ordered method with four times the epochs, for the first three seeds.
    - `convolutions`: a convolutional network, for VIB at every fourth β and for *free*, first seed.
    - `any SNR`: *free* trained on measurements of 0 to 40 dB, first seed.
    """
    task, vib, plateau = planned.vib[0].task, planned.vib, planned.plateau
    paper, ordered = planned.once("hyper-vib"), planned.once("hyper-vib-ordered")
    free = replace(ordered[0], method="hyper-vib-free")
    halves = ("hyper-vib-free-opened", "hyper-vib-ordered-unopened")
    third, fourth = (planned.vib_at(planned.grid[::step]) for step in (3, 4))
    few = [run for run in fourth if run.seed == vib[0].seed]
    return {
        "one run": planned.one_run,
        # A step of the ordered method costs more than VIB's, hence 1.3 and not 13 / 6.
        "a sixth": [replace(run, epochs=math.ceil(1.3 * run.epochs)) for run in ordered],
        "parts": [
            # All four in one number format, so that only the parts differ.
            replace(run, method=method, precision="float32")
            for method in ("hyper-vib-free", *halves, "hyper-vib-ordered")
            for run in ordered
        ],
        "limited power": [replace(run, network=f"{task}-power-limited") for run in third + paper],
        "epochs": [
            replace(run, epochs=max(int(multiple * run.epochs), 1))
            for multiple in (0.5, 1, 2, 4, 8)
            # Eight times the epochs cost more than all the other multiples together: one seed only.
            for run in (planned.three_seeds(plateau) if multiple < 8 else plateau[:1])
        ],
        "longest": [
            replace(run, epochs=4 * run.epochs) for run in planned.three_seeds(vib + ordered)
        ],
        "convolutions": [replace(run, network=f"{task}-convolutions") for run in (*few, free)],
        "any SNR": [replace(free, task=f"{task}-any-snr")],
    }


def _pair(link: Link, label: str, inputs: int, convolutions: Builder, **more: Any) -> list[Task]:
    """Return a link's task, and the same task with measurements of 0 to 40 dB, which has no page.

    Args:
        label: the task's name in figures.
        inputs: number of real numbers in one measurement.
        convolutions: builder of the convolutional network.
        more: further fields of the first task.
    """
    own = ranging_mlp(inputs)
    task = Task(
        name=link.name,
        label=label,
        metric=SQUARED_ERROR,
        load=dataset(link),
        networks={
            "": own,
            f"{link.name}-convolutions": convolutions,
            f"{link.name}-power-limited": power_limited(own),
        },
        profiles=PROFILES,
        methods=_METHODS,
    )
    any_snr = replace(
        task,
        name=f"{link.name}-any-snr",
        label=f"{label}, any SNR",
        load=dataset(link, snr_db=(0.0, 40.0)),
    )
    return [replace(task, studies=_studies, search_epochs=10, **more), any_snr]


DEFINED = (
    *_pair(
        BLUETOOTH,
        "Bluetooth",
        2 * 80,  # real and imaginary parts of 80 tones
        ranging_convolutions(nn.Conv1d, (5,), 64 * 10),  # 80 tones halved three times
        in_paper=PaperRow(3, 1_759, 479),
    ),
    *_pair(
        WIFI,
        "WiFi",
        2 * 3 * 30,  # of 3 antennas and 30 tones
        ranging_convolutions(nn.Conv2d, (3, 3), 64 * 3 * 4),  # 30 tones: 15, 8, 4
        in_paper=PaperRow(4, 2_042, 584),
    ),
)
