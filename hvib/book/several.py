"""Several devices: one network for every (β_1, …, β_J), and VIB trained for some of them."""

from collections.abc import Sequence
from typing import Any

from hvib.book.plan import SEEDS
from hvib.run import Run
from hvib.tasks import make_run

BETAS = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)
"""The β of each device, in all combinations: few, because a run evaluates all 25 of them."""

JOINT, TOLD, ORDERED = "hyper-vib-joint", "hyper-vib-joint-told", "hyper-vib-joint-ordered"

ONE = "hyper-vib"
"""One β for all devices."""

PAIRS = (
    *((1e-6, 1e-6), (1e-3, 1e-3), (1e-2, 1e-2), (1e-1, 1e-1)),
    *((1e-6, 1e-2), (1e-2, 1e-6), (1e-3, 1e-1), (1e-1, 1e-3)),
)
"""The (β_1, β_2) for each of which VIB trains a system of its own."""

SINGLE = (1e-6, 1e-2)
"""The β at which VIB trains with one device alone."""

EPOCHS = {"digits-halves": 200, "mnist-halves": 10, "anchors": 10}

ALONE = {"mnist-halves": ("mnist-upper", "mnist-lower"), "anchors": ("anchors-first",)}
"""Networks of tasks that have one device alone."""

CHANNEL, LOSSY = "awgn", "loses-devices-of-2"
"""The channel, and the same one over which each device is lost with probability 0.2."""


def _run(task: str, method: str, seed: int, **settings: Any) -> Run:
    more: dict[str, Any] = {"channel": CHANNEL, "betas": BETAS, "draws": 1, "epochs": EPOCHS[task]}
    return make_run(task, method, seed=seed, **(more | settings))


def pair(task: str, seed: int, betas: tuple[float, float], **settings: Any) -> Run:
    """VIB for one (β_1, β_2)."""
    prices = (1.0, float(f"{betas[1] / betas[0]:.6g}"))
    return _run(task, "vib", seed, betas=betas[:1], prices=prices, **settings)


def joint(task: str, seed: int, method: str = JOINT, **settings: Any) -> Run:
    """One network for every (β_1, β_2)."""
    return _run(task, method, seed, **settings)


def study(task: str, seeds: Sequence[int] = SEEDS["full"][:3]) -> list[Run]:
    """All runs of a task of two devices, each with the epochs of one VIB run."""
    runs = []
    for seed in seeds:
        runs += [joint(task, seed, method) for method in (JOINT, TOLD, ORDERED, ONE)]
        runs += [joint(task, seed, channel=LOSSY)]
        runs += [pair(task, seed, betas) for betas in PAIRS]
        runs += [
            _run(task, "vib", seed, betas=(beta,), network=network)
            for network in ALONE.get(task, ())
            for beta in SINGLE
        ]
    return runs
