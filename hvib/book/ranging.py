"""What the ranging pages compare: errors of networks, of classical estimators and of the bound."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hvib.book.text import beta_text
from hvib.evaluation import predict
from hvib.ranging.bounds import known_shape_bound
from hvib.ranging.estimators import ESTIMATORS, classical, directed, inverse_fft, music
from hvib.ranging.roots import Delays, Responses, one_way, tracked
from hvib.ranging.simulate import (
    Link,
    Measurements,
    Multipath,
    error_m,
    examples,
    response,
    simulate,
)
from hvib.run import Run, beta_grid
from hvib.system import Stacked, System
from hvib.tasks import TASKS, make_run
from hvib.tasks.ranging import SEEDS

BOUND = "bound"
"""what tables and figures call the Cramér–Rao bound"""

Networks = Mapping[str, System | Stacked]
Errors = Float[np.ndarray, " N"]


def rms(errors: Errors) -> float:
    """The root mean square."""
    return float(np.sqrt((errors**2).mean()))


def all_errors(
    scene: Measurements, network: System | Stacked, betas: Sequence[float]
) -> dict[str, Errors]:
    """Absolute errors in metres of a network at each β, and of each classical estimator."""
    delays = predict(network, examples(scene), betas)[..., 0].numpy()
    inferred = {
        f"network, β = {beta_text(beta)}": delay for beta, delay in zip(betas, delays, strict=True)
    }
    return {name: error_m(scene, d) for name, d in (inferred | classical(scene)).items()}


def bound_of(scene: Measurements, snr_db: float = 20.0) -> Delays:
    """`known_shape_bound` of simulated measurements, in ns.

    Args:
        snr_db: at which they were made.
    """
    assert scene.paths is not None  # measured responses do not tell their channels
    return known_shape_bound(scene.paths, scene.link, snr_db)


def errors_at_the_bound(scene: Measurements) -> Errors:
    """Absolute errors in metres of an unbiased Gaussian error as small as the bound allows."""
    drawn = np.random.default_rng(0).standard_normal(len(scene))
    return error_m(scene, scene.delay_ns + bound_of(scene) * drawn)


def rms_of_bound(scene: Measurements, snr_db: float = 20.0) -> float:
    """The root mean square of the bound in metres, which no estimator's error is below."""
    return rms(error_m(scene, scene.delay_ns + bound_of(scene, snr_db)))


def signs_right(
    scene: Measurements, found: Responses, snr_db: float = 20.0
) -> Bool[np.ndarray, " N"]:
    """In which of N simulated responses all tones of a root have the right sign, or all the wrong.

    Tones weaker than the noise do not count, because their phase is that of the noise.

    Args:
        found: one root of each product.
        snr_db: at which the products were measured.
    """
    assert scene.paths is not None  # measured responses do not tell their channels
    truth = response(scene.paths, scene.link)
    same = (found * truth.conj()).real
    same = same * np.where(same.sum(1, keepdims=True) < 0, -1, 1)
    return ((same > 0) | (np.abs(truth) < 10 ** (-snr_db / 20))).all(1)


def known_root(scene: Measurements) -> Responses:
    """The root of each product whose signs are those of the simulated response."""
    assert scene.paths is not None
    root = np.sqrt(scene.response)
    truth = response(scene.paths, scene.link)
    return np.where((root * truth.conj()).real < 0, -root, root)


def root_rows(scene: Measurements) -> list[dict[str, str]]:
    """What the way to the root of a two-way product does to the estimators that work on it.

    Args:
        scene: measured at 20 dB.
    """
    ways = {"unwrapping": tracked, "search": one_way}
    found = {way: take(scene.response) for way, take in ways.items()}
    found["known signs"] = known_root(scene)
    spacing = scene.link.spacing_hz
    return [
        {
            "signs of the root": way,
            "right in": f"{signs_right(scene, h).mean():.1%}",
            "RMSE of the inverse FFT (m)": f"{rms(error_m(scene, inverse_fft(h, spacing))):.2f}",
            "RMSE of MUSIC (m)": f"{rms(error_m(scene, music(h, spacing))):.2f}",
        }
        for way, h in found.items()
    ]


SETTINGS: dict[str, tuple[str, dict[str, float]]] = {
    "inverse FFT, −4 dB": ("inverse FFT", {"threshold_db": -4}),
    "inverse FFT, −7 dB": ("inverse FFT", {}),
    "inverse FFT, −10 dB": ("inverse FFT", {"threshold_db": -10}),
    "MUSIC, 0.4 of the tones, −10 dB": ("MUSIC", {"subarray": 0.4}),
    "MUSIC, 0.55 of the tones, −8 dB": ("MUSIC", {"threshold_db": -8}),
    "MUSIC, 0.55 of the tones, −10 dB": ("MUSIC", {}),
    "MUSIC, 0.55 of the tones, −12 dB": ("MUSIC", {"threshold_db": -12}),
    "MUSIC, 0.55 of the tones, −16 dB": ("MUSIC", {"threshold_db": -16}),
    "MUSIC, 0.65 of the tones, −10 dB": ("MUSIC", {"subarray": 0.65}),
}
"""settings that `setting_rows` compares; those without a change are the defaults"""


def setting_rows(link: Link, count: int) -> list[dict[str, str]]:
    """RMSE of two estimators under several settings, on the first validation responses of a link.

    Args:
        count: number of responses.
    """
    scene = simulate(link, count, seed=SEEDS["validation"])
    h = directed(scene)
    found = {
        told: ESTIMATORS[name](h, link.spacing_hz, **settings)
        for told, (name, settings) in SETTINGS.items()
    }
    return [
        {
            "estimator and settings": told,
            "median (m)": f"{np.median(error_m(scene, delays)):.3f}",
            "RMSE (m)": f"{rms(error_m(scene, delays)):.3f}",
        }
        for told, delays in found.items()
    ]


def error_rows(errors: Mapping[str, Errors]) -> list[dict[str, str]]:
    """Median, RMSE and largest error of each estimator, a row of a table for each."""
    return [
        {
            "estimator": name,
            "median (m)": f"{np.median(values):.2f}",
            "RMSE (m)": f"{rms(values):.2f}",
            "largest (m)": f"{values.max():.1f}",
        }
        for name, values in errors.items()
    ]


def quantile_rows(errors: Mapping[str, Errors]) -> list[dict[str, Any]]:
    """A hundred quantiles of each estimator's errors: the data behind `figures.error_cdfs`."""
    shares = np.linspace(0.005, 0.995, 100)
    return [
        {"estimator": name, "share": share, "error_m": np.quantile(values, share)}
        for name, values in errors.items()
        for share in shares.round(3)
    ]


def estimates(measured: Measurements, networks: Networks, beta: float) -> dict[str, Delays]:
    """Delays in ns by each classical estimator, and by each network at one β."""
    found = classical(measured)
    for name, network in networks.items():
        found[name] = predict(network, examples(measured), [beta])[0, :, 0].numpy()
    return found


def rms_over_snr(
    link: Link, snrs: Sequence[float], networks: Networks, beta: float, count: int = 1000
) -> dict[str, list[float]]:
    """RMSE in metres of each estimator, and of the bound, on test channels at each SNR.

    Args:
        snrs: of the measurement, in dB.
        beta: at which the networks infer.
        count: number of channels.
    """
    found: dict[str, list[float]] = {}
    for snr in snrs:
        scene = simulate(link, count, seed=SEEDS["test"], snr_db=snr)
        for name, delays in estimates(scene, networks, beta).items():
            found.setdefault(name, []).append(rms(error_m(scene, delays)))
        found.setdefault(BOUND, []).append(rms_of_bound(scene, snr))
    return found


def snr_rows(
    snrs: Sequence[float], links: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """The data behind `figures.over_snr`."""
    return [
        {"link": link, "estimator": name, "snr_db": snr, "rmse_m": value}
        for link, errors in links.items()
        for name, values in errors.items()
        for snr, value in zip(snrs, values, strict=True)
    ]


def rows_at_snrs(
    snrs: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    shown: Sequence[float] = (0, 20, 40),
) -> list[dict[str, str]]:
    """RMSE of each estimator at some of the SNRs, a row of a table for each estimator.

    Args:
        errors: as of `rms_over_snr`.
    """
    return [
        {"estimator": name}
        | {f"{snr} dB (m)": f"{values[list(snrs).index(snr)]:.3g}" for snr in shown}
        for name, values in errors.items()
    ]


def obstructed_rows(
    link: Link, networks: Networks, beta: float, usual: Mapping[str, float], count: int = 1000
) -> list[dict[str, str]]:
    """RMSE and median error of each estimator on channels with an obstructed first path.

    Args:
        usual: RMSE in metres without the obstruction, by estimator.
        count: number of channels.
    """
    blocked = simulate(link, count, seed=SEEDS["test"], multipath=Multipath(obstructed=1.0))
    found = estimates(blocked, networks, beta)
    errors = {name: error_m(blocked, delays) for name, delays in found.items()}
    return [
        {
            "estimator": name,
            "RMSE, obstructed (m)": f"{rms(e):.1f}",
            "median, obstructed (m)": f"{np.median(e):.1f}",
            "RMSE, line of sight (m)": f"{usual[name]:.2f}",
        }
        for name, e in errors.items()
    ]


def brief_runs(task: str, profile: str, **settings: Any) -> list[Run]:
    """What a ranging page trains live: VIB at one β a decade as one stack, and the gated methods.

    Args:
        profile: in `quick` the runs see 40,000 responses.
        settings: further fields of `Run`.
    """
    if profile == "quick":
        settings["limit"] = 40_000
    batched = make_run(task, "vib-batched", profile, betas=beta_grid(per_decade=1), **settings)
    gated = TASKS.find(task).methods
    return [batched] + [make_run(task, method, profile, **settings) for method in gated]
