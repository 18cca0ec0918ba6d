"""Over the plane β × SNR: one network for all states of the channel, and its rivals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hvib.book.plan import SEEDS
from hvib.run import Run, beta_grid
from hvib.tasks import make_run

SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
"""The SNR in dB at which everything is evaluated."""

FEW = (-5.0, 10.0, 25.0)
"""Those for which a network is trained alone where all seven are too dear."""

NOMINAL = 20.0
"""The paper's SNR in dB, at which alone it trains."""

BETAS = beta_grid(per_decade=1)

BOTH, RECEIVER, NOBODY = "hyper-vib-snr", "hyper-vib-snr-receiver", "hyper-vib"
"""Who knows the state, of networks trained over mixed SNR with the paper's gates."""

ORDERED = "hyper-vib-ordered-snr"

RIVALS = ("hyper-vib-affine", "hyper-vib-attention")
"""Earlier conditioning on the SNR, beside the paper's gates of β."""

EPOCHS = {"digits": 200, "mnist": 10, "cifar10": 3, "bluetooth": 10}
"""Epochs of a network for one SNR. Those for all have twice as many: the cost of two runs."""


def alone(task: str, channel: str, seed: int, snr_db: float, **settings: Any) -> Run:
    """A network trained for one SNR; the one for `NOMINAL` is evaluated at all."""
    method = settings.pop("method", NOBODY)
    at = SNRS if snr_db == NOMINAL else (snr_db,)
    more: dict[str, Any] = {
        "channel": channel,
        "snr_db": snr_db,
        "snrs": at,
        "betas": BETAS,
        "draws": 2,
    }
    more |= {"epochs": EPOCHS[task]}
    return make_run(task, method, seed=seed, **(more | settings))


def mixed(task: str, channel: str, seed: int, method: str, times: int = 2, **settings: Any) -> Run:
    """A network trained over all SNR, at so many times the epochs of one for one SNR."""
    more: dict[str, Any] = {
        "channel": channel,
        "snrs": SNRS,
        "mixed_snr": True,
        "betas": BETAS,
        "draws": 2,
    }
    more |= {"epochs": times * EPOCHS[task]}
    return make_run(task, method, seed=seed, **(more | settings))


def study(task: str, channel: str, seeds: Sequence[int] = SEEDS["full"][:3]) -> list[Run]:
    """All runs of one task on one channel.

    MNIST on AWGN has everything: a network for each SNR alone, who knows the state, the epochs of
    one run, the ordered gates, and the rivals. Rician fading, CIFAR-10 and Bluetooth have networks
    for `FEW` SNR and for the nominal one.
    """
    whole = task in ("digits", "mnist") and channel != "rician"
    runs = []
    for seed in seeds:
        at = SNRS if whole else (*FEW, NOMINAL)
        runs += [alone(task, channel, seed, snr) for snr in sorted(at)]
        runs += [mixed(task, channel, seed, method) for method in (BOTH, RECEIVER, NOBODY)]
        if channel == "awgn" and whole:
            runs += [alone(task, channel, seed, snr, method="hyper-vib-ordered") for snr in SNRS]
            runs += [mixed(task, channel, seed, BOTH, 1), mixed(task, channel, seed, ORDERED)]
            runs += [mixed(task, channel, seed, "hyper-vib-ordered")]
            runs += [mixed(task, channel, seed, method) for method in RIVALS]
    return runs


def smaller(runs: Sequence[Run], **settings: Any) -> list[Run]:
    """The same runs with other settings, as a profile has them."""
    return list(dict.fromkeys(replace(run, **settings) for run in runs))
