"""The numbers that the ranging pages quote, each page's as a dictionary of ready text."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hvib.book.curves import ORDERED, PAPER, VIB, Curve, Curves, Key, collect, label_of
from hvib.book.figures.tables import best_metric
from hvib.book.ranging import Errors, rms, rms_of_bound
from hvib.book.statistics import at_selected, compare, excess, growth, over_seeds
from hvib.book.text import above, percent, with_interval
from hvib.ranging.bounds import multipath_bound, one_path_bound
from hvib.ranging.estimators import POSTERIOR
from hvib.ranging.simulate import SPEED_OF_LIGHT, Measurements

FREE = Key("hyper-vib-free")
"""The curve whose networks the ranging pages set beside classical estimators."""


def for_each(links: Mapping[str, Any], facts: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """What `facts` says of each link, as `<link>-<name>`."""
    return {f"{link}-{name}": value for link in links for name, value in facts(link).items()}


def rmse_facts(curves: Curves) -> dict[str, str]:
    """The root of the test MSE at the β selected, in ns and as a distance, of three methods."""
    facts = {}
    for name, key in (("vib", VIB), ("hyper", PAPER), ("free", FREE)):
        rmse = float(np.sqrt(at_selected(curves[key]).mean))
        facts[f"{name}-rmse"] = f"{rmse:.2f} ns or {100 * SPEED_OF_LIGHT * rmse:.1f} cm"
    return facts


def small_beta_facts(curves: Curves) -> dict[str, str]:
    """Each method's test excess at the smallest β, and VIB's objective over that at the largest."""
    facts = {"ratio": f"{growth(curves[VIB]):.0f}"}
    log = Key("hyper-vib-log")
    for name, key in (("paper", PAPER), ("log", log), ("free", FREE), ("ordered", ORDERED)):
        facts[f"{name}-excess"] = above(excess(curves[key], curves[VIB], "test").mean[0])
    return facts


_SHORT = {
    "music": "MUSIC",
    "fft": "inverse FFT",
    "slope": "phase slope",
    "posterior": POSTERIOR,
}
"""how the names of quoted numbers call the classical estimators"""


def error_facts(scene: Measurements, errors: Mapping[str, Errors]) -> dict[str, str]:
    """RMSE, median and largest error of each estimator in metres, and what three bounds are.

    Args:
        errors: as of `all_errors`; `network` is that at the first β, `middle` that in the middle.
    """
    networks = [name for name in errors if name not in _SHORT.values()]
    facts = {"count": f"{len(scene):,}", "numbers": str(2 * math.prod(scene.link.shape))}
    named = {"network": networks[0], "middle": networks[len(networks) // 2]}
    for short, name in (_SHORT | named).items():
        facts[f"{short}-rms"] = f"{rms(errors[name]):.2f}"
        facts[f"{short}-median"] = f"{np.median(errors[name]):.2f}"
        facts[f"{short}-largest"] = f"{errors[name].max():.1f}"
    assert scene.paths is not None
    unknown = multipath_bound(scene[:200].paths, scene.link, 20)
    return facts | {
        "bound": f"{100 * rms_of_bound(scene):.1f}",
        "one-path": f"{100 * SPEED_OF_LIGHT * one_path_bound(scene.link, 20):.1f}",
        "multipath-median": f"{np.median(unknown):.3g}",
    }


def part_facts(curves: Curves, parts: Curves) -> dict[str, str]:
    """Mean test excess of the step from free to ordered by its halves, and at the largest β.

    Args:
        parts: the study of that name, with float32 products; `-page` is the page's own.
    """
    short = ("free", "opened", "unopened", "ordered")
    facts = {}
    for name, group in zip(short, parts.values(), strict=True):
        facts[f"part-{name}"] = _mean_excess(group, curves[VIB])
        facts[f"part-{name}-end"] = percent(excess(group, curves[VIB], "test").mean[-1])
    for name, key in (("free", FREE), ("ordered", ORDERED)):
        facts[f"part-{name}-page"] = _mean_excess(curves[key], curves[VIB])
    return facts


def _mean_excess(ours: Sequence[Curve], vib: Sequence[Curve], split: str = "test") -> str:
    """The mean relative excess over β in %, with its interval."""
    return with_interval(getattr(compare(ours, vib), split), 100, 0)


def at_same_betas(vib: Sequence[Curve], few: Sequence[Curve]) -> list[Curve]:
    """VIB's curves at no other β than those of `few`."""
    betas = set(few[0].betas.tolist())
    kept = (r for curve in vib for r in curve.records if r.config.betas[0] in betas)
    return collect(kept)[VIB]


def power_facts(curves: Curves, limited: Curves, snr_db: float) -> dict[str, str]:
    """What holding the device at unit power changes, and the SNR at which links run without.

    Args:
        limited: the study of VIB and the paper's method at limited power.
        snr_db: of the feature link, for a feature of unit power.
    """
    facts = {}
    unlimited = {VIB: at_same_betas(curves[VIB], limited[VIB]), PAPER: curves[PAPER]}
    for word, groups in (("limited", limited), ("unlimited", unlimited)):
        vib, hyper = (over_seeds(groups[key], "metric").mean[0] for key in (VIB, PAPER))
        facts[f"{word}-ratio"] = f"{hyper / vib:.2f}"
        facts[f"{word}-excess"] = _mean_excess(groups[PAPER], groups[VIB])
    for name, key in (("vib", VIB), ("hyper", PAPER)):
        before, under = (over_seeds(g[key], "metric").mean[0] for g in (curves, limited))
        facts[f"limit-{name}"] = percent(under / before - 1)
    facts["limited-hyper-power"] = f"{over_seeds(limited[PAPER], 'tx_power').mean[0]:.2f}"
    for name, key in (("vib", VIB), ("hyper", PAPER), ("ordered", ORDERED)):
        facts[f"{name}-snr"] = link_snr(curves[key], snr_db)
    return facts


def power_rows(curves: Curves, snr_db: float) -> list[dict[str, str]]:
    """Power E‖z‖²/n at the smallest β and the SNR that it gives, a row for each of three methods.

    Args:
        snr_db: of the feature link, for a feature of unit power.
    """
    return [
        {
            "method": label_of(key),
            "power at the smallest β": f"{over_seeds(curves[key], 'tx_power').mean[0]:.2f}",
            "SNR of the link (dB)": link_snr(curves[key], snr_db),
        }
        for key in (VIB, PAPER, ORDERED)
    ]


def link_snr(group: Sequence[Curve], snr_db: float) -> str:
    """The SNR in dB at which the feature link runs at the smallest β, by the power sent."""
    power = float(over_seeds(group, "tx_power").mean[0])
    return f"{snr_db + 10 * np.log10(power):.0f}"


def epoch_facts(groups: Curves, once: int) -> dict[str, str]:
    """What more epochs do to VIB's error on the plateau.

    Args:
        groups: the study of epochs; with eight times the epochs there is one seed.
        once: epochs of a VIB run of the page.
    """
    by_epochs = {group[0].epochs: group for group in groups.values()}
    mean = {n: float(over_seeds(group, "metric").mean[0]) for n, group in by_epochs.items()}
    first = float(by_epochs[4 * once][0].column("metric", "test")[0])
    return {
        "epochs": str(once),
        "twice-epochs": f"{1 - mean[2 * once] / mean[once]:.0%}",
        "four-epochs": f"{1 - mean[4 * once] / mean[once]:.0%}",
        "eight-epochs": above(mean[8 * once] / first - 1),
    }


def longest_facts(curves: Curves, longest: Curves) -> dict[str, str]:
    """The ordered method against VIB, both after four times the epochs, and once on the page."""
    vib, ordered = longest[VIB], longest[ORDERED]
    test, train = sides(longest).values()
    products = [
        r.environment["products"] for group in (ordered, vib) for one in group for r in one.records
    ]
    return {
        "longest-excess": _mean_excess(ordered, vib),
        "longest-train": _mean_excess(ordered, vib, "train"),
        "longest-vib": best_metric(vib),
        "longest-ordered": best_metric(ordered),
        "once-excess": _mean_excess(curves[ORDERED], curves[VIB]),
        "longest-below": f"{test[0]} of {len(vib[0].betas)}",
        "longest-above": str(test[1]),
        "longest-train-below": str(train[0]),
        "longest-train-above": str(train[1]),
        "longest-float32": f"{products.count('float32')} of {len(products)}",
    }


def sides(longest: Curves) -> dict[str, tuple[int, int]]:
    """At how many β the ordered method is below VIB, and above, by more than its 95% interval."""
    found = {split: excess(longest[ORDERED], longest[VIB], split) for split in ("test", "train")}
    return {
        split: (int((values.high < 0).sum()), int((values.low > 0).sum()))
        for split, values in found.items()
    }


def snr_facts(snrs: Sequence[float], errors: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """RMSE in metres at both ends of the measurement's SNR, and where two estimators are better.

    Args:
        errors: as of `rms_over_snr`, with the networks trained at 20 dB and at 0 to 40 dB.
    """
    narrow, wide = errors["trained at 20 dB"], errors["trained at 0 to 40 dB"]
    return {
        **{f"{short}-40": f"{errors[name][-1]:.2f}" for short, name in _SHORT.items()},
        **{
            f"{short}-wins": _where_less(snrs, errors[_SHORT[short]], list(map(min, narrow, wide)))
            for short in ("music", "posterior")
        },
        "wide-40": f"{wide[-1]:.2f}",
        "narrow-0": f"{narrow[0]:.1f}",
        "wide-0": f"{wide[0]:.1f}",
        "posterior-0": f"{errors[POSTERIOR][0]:.1f}",
    }


def _where_less(snrs: Sequence[float], ours: Sequence[float], others: Sequence[float]) -> str:
    """At which of the ascending SNRs one error is less than another."""
    less = [snr for snr, one, other in zip(snrs, ours, others, strict=True) if one < other]
    if less and less == list(snrs):
        return "at every SNR"
    if less and less == list(snrs)[-len(less) :]:
        return f"from {less[0]:g} dB on"
    return "at " + (", ".join(f"{snr:g}" for snr in less) + " dB" if less else "no SNR")
