"""What the book varies: a choice of Hyper-VIB at a time, and its own settings for all methods."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hvib.book.curves import Curve, collect
from hvib.book.plan import plan
from hvib.book.statistics import Comparison, compare
from hvib.ledger import sweep
from hvib.run import Run

Outcomes = Mapping[str, Mapping[str, Comparison]]
"""What came of each variant, by what it varies and how."""


def choices(run: Run) -> dict[str, dict[str, Run]]:
    """Runs by what they vary and how; the first of each group is `run` itself, the paper's.

    Args:
        run: of method `hyper-vib`.
    """

    def method(name: str) -> Run:
        return replace(run, method=f"hyper-vib-{name}")

    return {
        "gate": {
            "S(u log β + v)": run,
            "S(u t + v)": method("standardised"),
            "softplus(u t + v)": method("softplus"),
            "affine scale and shift": method("film"),
            "small network, scale": method("network"),
            "small network, scale and shift": method("network-shift"),
        },
        "hypernetwork": {
            "the paper's gates": run,
            "full: all weights generated": method("full"),
            "self-tuning network": method("self-tuning"),
            "Multi-Rate VAE's gates": method("multi-rate"),
        },
        "start of the gate": {"nearly open": run, "as Linear(1, m)": method("usual-start")},
        "last layers": {"gated": run, "plain": method("plain-heads")},
        "β in a step": {
            f"{run.shares} shares": run,
            "one": replace(run, shares=1),
            "one an example": replace(run, shares=run.batch_size),
        },
        "density of β": {
            "uniform in log β": run,
            "rising in log β": method("rising"),
            "uniform in β": method("uniform"),
        },
        "power p of the scale": {
            "0": run,
            **{f"{power:g}": method(f"power-{power:g}") for power in (0.25, 0.5, 0.75)},
            "1": method("log"),
        },
        "epochs": {
            "1×": run,
            "½×": replace(run, epochs=max(run.epochs // 2, 1)),
            "2×": replace(run, epochs=2 * run.epochs),
            "4×": replace(run, epochs=4 * run.epochs),
        },
    }


def one_group(runs: Iterable[Run], *, fresh: bool = False, device: str = "auto") -> list[Curve]:
    """The curves of one method at one number of epochs, a curve for each seed of the runs.

    Runs that are not on record are trained, as `ledger.sweep` has it.
    """
    (group,) = collect(sweep(runs, fresh=fresh, device=device)).values()
    return group


def outcomes(
    runs: Sequence[Run],
    against: Sequence[Curve],
    *,
    skip: int = 0,
    groups: Collection[str] | None = None,
    **obtaining: Any,
) -> dict[str, dict[str, Comparison]]:
    """What came of each variant of `choices`, over the seeds of the runs.

    Args:
        runs: Hyper-VIB's as the paper has it, one for each seed.
        against: the curves of the same seeds that each variant is compared with.
        skip: how many variants of each group to leave out: 1 leaves out the paper's own.
        groups: which of `choices` to try; all if None.
        obtaining: of `one_group`.
    """
    tried = [choices(run) for run in runs]
    return {
        group: {
            name: compare(one_group((one[group][name] for one in tried), **obtaining), against)
            for name in list(variants)[skip:]
        }
        for group, variants in tried[0].items()
        if groups is None or group in groups
    }


def other_settings(
    seeds: Sequence[int] | None = None, profile: str = "full"
) -> dict[str, list[Run]]:
    """VIB and Hyper-VIB on the digits, under each setting of the book's that could turn a verdict.

    The first is the book's own. A prior q of variance r is not among them by that name: dividing
    the received feature by √r makes it the unit prior at an SNR that is 10 log₁₀ r dB higher, and
    so the SNR stands for both.

    Args:
        seeds: the profile's own if not given.
    """

    def both(method: str = "hyper-vib", **changes: Any) -> list[Run]:
        runs = plan("digits", profile, seeds=seeds, **changes)
        found = [run for run in runs if run.method in ("vib", "hyper-vib")]
        return [replace(run, method=method) if run.method == "hyper-vib" else run for run in found]

    return {
        "as on the pages": both(),
        "β uniform": both("hyper-vib-uniform"),
        "gate as Linear(1, m)": both("hyper-vib-usual-start"),
        "SNR 10 dB, or prior variance 0.1": both(snr_db=10.0),
        "SNR 30 dB, or prior variance 10": both(snr_db=30.0),
        "power limited": both(network="digits-power-limited"),
    }
