"""Over the plane β × SNR: one network for all states of the channel, and its rivals."""

from collections.abc import Sequence
from typing import Any

from hvib.book.plan import SEEDS
from hvib.run import Run, beta_grid
from hvib.tasks import TASKS, make_run

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


def epochs_of(task: str, profile: str = "full") -> int:
    """Epochs of a network for one SNR: those of the study, or a shorter profile's own."""
    return EPOCHS[task] if profile == "full" else TASKS.find(task).profiles[profile]["epochs"]


def alone(
    task: str,
    channel: str,
    seed: int,
    snr_db: float,
    *,
    profile: str = "full",
    nominal: float = NOMINAL,
    snrs: Sequence[float] = SNRS,
    **settings: Any,
) -> Run:
    """A network trained for one SNR; the one for the nominal SNR is evaluated at all.

    Args:
        settings: fields of `Run`, as the method, the β or the epochs.
    """
    method = settings.pop("method", NOBODY)
    at = tuple(snrs) if snr_db == nominal else (snr_db,)
    more: dict[str, Any] = {
        "channel": channel,
        "snr_db": snr_db,
        "snrs": at,
        "betas": BETAS,
        "draws": 2,
    }
    more |= {"epochs": epochs_of(task, profile)}
    return make_run(task, method, profile, seed=seed, **(more | settings))


def mixed(
    task: str,
    channel: str,
    seed: int,
    method: str,
    times: int = 2,
    *,
    profile: str = "full",
    snrs: Sequence[float] = SNRS,
    **settings: Any,
) -> Run:
    """A network trained over all SNR, at so many times the epochs of one for one SNR.

    Args:
        settings: as of `alone`.
    """
    more: dict[str, Any] = {
        "channel": channel,
        "snrs": tuple(snrs),
        "mixed_snr": True,
        "betas": BETAS,
        "draws": 2,
    }
    more |= {"epochs": times * epochs_of(task, profile)}
    return make_run(task, method, profile, seed=seed, **(more | settings))


def study(
    task: str,
    channel: str,
    seeds: Sequence[int] = SEEDS["full"][:3],
    *,
    profile: str = "full",
    nominal: float = NOMINAL,
    **settings: Any,
) -> list[Run]:
    """All runs of one task on one channel.

    MNIST on AWGN has everything: a network for each SNR alone, who knows the state, the epochs of
    one run, the ordered gates, and the rivals. Rayleigh fading, a limit of power, CIFAR-10 and
    Bluetooth have networks for `FEW` SNR and for the nominal one, and Rician fading for the nominal
    one alone. A profile shorter than `full` has no other SNR.

    Args:
        nominal: the SNR in dB whose network is evaluated at all.
        settings: as of `alone`.
    """
    whole = task in ("digits", "mnist") and channel == "awgn"
    snrs = tuple(sorted({*(SNRS if profile == "full" else FEW), nominal}))
    few = () if channel == "rician" else FEW
    at = snrs if whole else tuple(sorted({*few, nominal}))
    shared: dict[str, Any] = {"profile": profile, "snrs": snrs, **settings}

    def for_one(seed: int, snr: float, **more: Any) -> Run:
        return alone(task, channel, seed, snr, nominal=nominal, **(shared | more))

    def for_all(seed: int, method: str, times: int = 2) -> Run:
        return mixed(task, channel, seed, method, times, **shared)

    runs = []
    for seed in seeds:
        runs += [for_one(seed, snr) for snr in at]
        runs += [for_all(seed, method) for method in (BOTH, RECEIVER, NOBODY)]
        if channel == "average-power" or whole:
            runs += [for_one(seed, snr, method="hyper-vib-ordered") for snr in FEW]
            runs += [for_all(seed, ORDERED)]
        if whole:
            runs += [for_all(seed, BOTH, 1)]
            runs += [for_all(seed, "hyper-vib-ordered")]
            runs += [for_all(seed, method) for method in RIVALS]
    return runs
