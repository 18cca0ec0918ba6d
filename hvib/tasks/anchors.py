"""The data of a task with several devices: anchors on one wall, which together locate a tag.

Each anchor is a device with a channel of its own.
"""

from collections.abc import Callable

from hvib.data import Data
from hvib.devices.views import each_of
from hvib.ranging.anchors import HALL, Room, anchor_examples, simulate_anchors
from hvib.tasks.networks import Affine, several_mlps
from hvib.tasks.ranging import PROFILES
from hvib.tasks.task import Metric, Task

TRAIN, HELD_OUT = 100_000, 10_000
"""number of tags for training, and for each of validation and test"""

SEEDS = {"train": 0, "validation": 1, "test": 2}
"""the seed of each split's simulation"""

SQUARED_POSITION_ERROR = Metric("MSE", "m²", 1, 3, higher_is_better=False)
"""The mean squared error of a position, summed over its two coordinates."""


def dataset(room: Room = HALL, **scene: object) -> Callable[[], Data]:
    """Return a loader of simulated data, in which each split has a seed of its own.

    x is (N, J, 2, tones), one response for each anchor. y is (N, 2), in metres.

    Args:
        room: where the anchors and the tags are.
        scene: `link`, `multipath` and `snr_db`, as `simulate_anchors` takes them.
    """

    def load() -> Data:
        sizes = {"train": TRAIN, "validation": HELD_OUT, "test": HELD_OUT}
        parts = {
            name: anchor_examples(
                simulate_anchors(room, count, SEEDS[name], **scene)  # type: ignore[arg-type]
            )
            for name, count in sizes.items()
        }
        return Data(**parts)

    return load


# About the mean and the deviation of a coordinate in metres.
_PLACE = (8.0, 5.0)

_INPUTS = 2 * 80  # real and imaginary parts of 80 tones

DEFINED = (
    Task(
        name="anchors",
        label="two anchors",
        metric=SQUARED_POSITION_ERROR,
        load=dataset(),
        networks={
            "": several_mlps((_INPUTS, _INPUTS), (256, 256), 2, each_of, lambda: Affine(*_PLACE)),
            "anchors-first": several_mlps(
                (_INPUTS,), (256, 256), 2, lambda x: each_of(x)[:1], lambda: Affine(*_PLACE)
            ),
        },
        profiles=PROFILES,
    ),
)
