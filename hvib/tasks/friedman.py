"""Friedman's regression: a simulated task of which no method's settings knew anything.

Its inference is known exactly, so that the least possible error is known too.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hvib.data import Data, Split
from hvib.run import Run
from hvib.tasks.networks import ranging_mlp
from hvib.tasks.task import Metric, Planned, Task

SIZES = {"train": 20_000, "validation": 5_000, "test": 5_000}
"""number of examples of each split"""

SEEDS = {"train": 0, "validation": 1, "test": 2}
"""scikit-learn's `random_state` of each split"""

NOISE = 1.0
"""standard deviation of what no method can infer"""


def friedman() -> Data:
    """Draw the data: x uniform in [0, 1]^10, y = E[y | x] + ε, ε ~ N(0, 1), in one column."""
    # Imported here, because nothing else but the digits needs scikit-learn.
    from sklearn.datasets import make_friedman1

    def split(name: str) -> Split:
        x, y = make_friedman1(SIZES[name], noise=NOISE, random_state=SEEDS[name])
        return Split(*(torch.from_numpy(part.astype(np.float32)) for part in (x, y[:, None])))

    return Data(**{name: split(name) for name in SIZES})


def inference(x: Float[Tensor, "B 10"]) -> Float[Tensor, "B 1"]:
    """E[y | x] = 10 sin(π x₁ x₂) + 20 (x₃ − ½)² + 10 x₄ + 5 x₅; the other five inputs do nothing.

    :cite:`friedman1991multivariate`
    """
    curved = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5).square()
    return (curved + 10 * x[:, 3] + 5 * x[:, 4])[:, None]


_MOMENTS = (14.4, 5.0)
"""about the mean and the standard deviation of y"""


def _studies(planned: Planned) -> dict[str, list[Run]]:
    """The other methods of one training run, at the epochs of a VIB run."""
    return {"one run": planned.one_run}


# Those of the ranging tasks, not chosen here. The epochs make 1,600 steps.
_SETTINGS = {"learning_rate": 5e-3, "adam_memory": 0.95}

DEFINED = (
    Task(
        name="friedman",
        label="Friedman",
        metric=Metric("MSE", "y²", 1, 3, higher_is_better=False),
        load=friedman,
        networks={"": ranging_mlp(10, _MOMENTS)},
        profiles={
            "smoke": {"epochs": 1, "limit": 1024, "batch_size": 256, "draws": 1},
            "quick": {**_SETTINGS, "epochs": 4, "draws": 2},
            "full": {**_SETTINGS, "epochs": 40, "draws": 4},
        },
        studies=_studies,
    ),
)
