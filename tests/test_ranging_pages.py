"""What the ranging pages compare and quote, on simulated scenes and curves with known outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import BETAS, fake, rewritten
from torch import Tensor

from hvib.book import ranging, ranging_facts
from hvib.book.curves import ORDERED, PAPER, VIB, Curve, Key, collect
from hvib.book.plan import studies
from hvib.book.ranging import (
    all_errors,
    brief_runs,
    errors_at_the_bound,
    estimates,
    obstructed_rows,
    quantile_rows,
    rms,
    rms_of_bound,
    rms_over_snr,
    rows_at_snrs,
    snr_rows,
)
from hvib.data import Split
from hvib.ranging.bounds import one_path_bound
from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    SPEED_OF_LIGHT,
    WIFI,
    Link,
    Measurements,
    error_m,
    simulate,
)
from hvib.system import System
from hvib.tasks import build, make_run
from hvib.tasks.ranging import SEEDS

LINKS = pytest.mark.parametrize("link", [BLUETOOTH, WIFI], ids=lambda link: link.name)

CLASSICAL = ["phase slope", "inverse FFT", "MUSIC", "posterior mean"]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> System:
    """A network that is off by β ns early and late, and each fourth time by 3 β."""

    def predict(model: object, split: Split, betas: Sequence[float]) -> Tensor:
        late = torch.tensor([1.0, -1.0, 1.0, -3.0]).repeat(len(split))[: len(split), None]
        return split.y + torch.tensor(betas)[:, None, None] * late

    monkeypatch.setattr(ranging, "predict", predict)
    return build(make_run("wifi", "vib", "smoke", betas=(1e-3,)))


@LINKS
def test_errors_are_of_the_network_at_each_beta_and_of_each_estimator(
    link: Link, network: System
) -> None:
    scene = simulate(link, 20, 3, multipath=ONE_PATH, snr_db=60.0)
    errors = all_errors(scene, network, (0.5, 2.0))
    assert list(errors) == ["network, β = 0.5", "network, β = 2", *CLASSICAL]
    for name, delay_ns in (("network, β = 0.5", 0.5), ("network, β = 2", 2.0)):
        assert errors[name] == pytest.approx(
            [0.299792458 * delay_ns * k for k in (1, 1, 1, 3)] * 5, rel=1e-4
        )
    for name in CLASSICAL:  # one path, hardly any noise; the posterior mean expects reflections
        assert errors[name].max() < (0.1 if name == "posterior mean" else 0.05)
    found = estimates(scene, {"ours": network}, 2.0)
    assert list(found) == [*CLASSICAL, "ours"]
    off = [2.0, -2.0, 2.0, -6.0] * 5
    assert found["ours"] - scene.delay_ns == pytest.approx(off, abs=1e-4)


def test_the_root_mean_square_weighs_large_errors() -> None:
    assert rms(np.array([1.0, 7.0])) == 5.0


@LINKS
def test_the_bound_of_one_path_is_the_closed_form(link: Link) -> None:
    scene = simulate(link, 50, 3, multipath=ONE_PATH)
    for snr in (20.0, 0.0):
        expected = SPEED_OF_LIGHT * one_path_bound(link, snr)
        assert rms_of_bound(scene, snr) == pytest.approx(expected, rel=1e-3)
    assert rms_of_bound(scene) == rms_of_bound(scene, 20.0)


def test_errors_at_the_bound_are_gaussian_of_its_size() -> None:
    scene = simulate(WIFI, 4000, 3, multipath=ONE_PATH)
    errors = errors_at_the_bound(scene)
    assert rms(errors) == pytest.approx(rms_of_bound(scene), rel=0.03)
    assert np.median(errors) == pytest.approx(0.6745 * rms_of_bound(scene), rel=0.05)
    assert errors.min() >= 0


def test_a_hundred_quantiles_stand_for_a_distribution() -> None:
    rows = quantile_rows({"ours": np.arange(101)[::-1] / 100, "exact": np.zeros(5)})
    assert [row["estimator"] for row in rows] == ["ours"] * 100 + ["exact"] * 100
    shares = [row["share"] for row in rows[:100]]
    assert shares == pytest.approx(np.arange(0.005, 1, 0.01))
    assert [row["error_m"] for row in rows[:100]] == pytest.approx(shares)
    assert {row["error_m"] for row in rows[100:]} == {0}


def test_errors_over_snr_are_of_each_estimator_and_of_the_bound(
    network: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fewer(link: Link, count: int, seed: int, **settings: float) -> Measurements:
        asked.append((count, seed))
        return simulate(link, 100, seed, multipath=ONE_PATH, **settings)

    monkeypatch.setattr(ranging, "simulate", fewer)
    found = rms_over_snr(WIFI, (0, 40), {"ours": network}, 2.0)
    assert asked == [(1000, SEEDS["test"])] * 2
    asked.clear()
    rms_over_snr(WIFI, (20,), {}, 2.0, count=7)
    assert asked == [(7, SEEDS["test"])]
    assert list(found) == [*CLASSICAL, "ours", "bound"]
    assert found["ours"] == pytest.approx([0.599585 * 3**0.5] * 2, rel=1e-4)
    expected = [SPEED_OF_LIGHT * one_path_bound(WIFI, snr) for snr in (0, 40)]
    assert found["bound"] == pytest.approx(expected, rel=1e-3)
    # The phase's slope meets the bound of one path where there is little noise.
    assert found["phase slope"][1] == pytest.approx(expected[1], rel=0.2)
    assert found["phase slope"][0] > 10 * expected[1]


def test_errors_over_snr_become_rows() -> None:
    errors = {"MUSIC": [3.0, 1.0, 0.5], "bound": [0.12345, 0.01, 0.001]}
    assert snr_rows((0, 20, 40), {"wifi": errors})[1] == {
        **{"link": "wifi", "estimator": "MUSIC", "snr_db": 20, "rmse_m": 1.0}
    }
    assert len(snr_rows((0, 20, 40), {"wifi": errors, "bluetooth": errors})) == 12
    assert rows_at_snrs((0, 20, 40), errors, (40, 0)) == [
        {"estimator": "MUSIC", "40 dB (m)": "0.5", "0 dB (m)": "3"},
        {"estimator": "bound", "40 dB (m)": "0.001", "0 dB (m)": "0.123"},
    ]


def test_an_obstructed_path_is_told_beside_the_usual_error(network: System) -> None:
    usual = {**dict.fromkeys(CLASSICAL, 1.5), "ours": 0.456}
    *classical, ours = obstructed_rows(WIFI, {"ours": network}, 10.0, usual)
    assert ours == {
        "estimator": "ours",
        "RMSE, obstructed (m)": "5.2",
        "median, obstructed (m)": "3.0",
        "RMSE, line of sight (m)": "0.46",
    }
    assert [row["estimator"] for row in classical] == CLASSICAL
    scene = simulate(WIFI, 1000, SEEDS["test"])
    for row in classical:  # ten decibels less of the first path mislead each of them
        clear = np.abs(estimates(scene, {}, 1.0)[row["estimator"]] - scene.delay_ns)
        assert float(row["median, obstructed (m)"]) > 1.5 * SPEED_OF_LIGHT * np.median(clear)
        assert row["RMSE, line of sight (m)"] == "1.50"


def test_a_page_trains_a_stack_and_the_gated_methods_live() -> None:
    stack, *gated = brief_runs("wifi", "quick", seed=3, snr_db=10.0)
    assert (stack.method, len(stack.betas)) == ("vib-batched", 7)
    assert [run.method for run in gated] == [
        *("hyper-vib", "hyper-vib-log", "hyper-vib-free", "hyper-vib-ordered")
    ]
    for run in (stack, *gated):
        assert (run.task, run.profile, run.seed, run.snr_db) == ("wifi", "quick", 3, 10.0)
        assert (run.betas[0], run.betas[-1], run.limit) == (1e-6, 1.0, 40_000)
    assert {run.limit for run in brief_runs("wifi", "smoke")} == {2048}


FREE = Key("hyper-vib-free")


def group(
    key: Key,
    *,
    seeds: int = 2,
    betas: Sequence[float] = BETAS,
    objective: Callable[[float], float] = lambda beta: 1.0,
    metric: Callable[[float], float] = lambda beta: 0.25,
    **columns: Callable[[float], float],
) -> list[Curve]:
    """Curves of all seeds alike."""
    answers = [tuple(betas)] if key != VIB else [(beta,) for beta in betas]
    made = [
        fake(key.method, seed, metric, objective=objective, betas=of, task="wifi")
        for seed in range(seeds)
        for of in answers
    ]
    return collect(rewritten(record, None, **columns) for record in made)[Key(key.method)]


def test_facts_of_each_link_have_its_name() -> None:
    found = ranging_facts.for_each({"wifi": 0, "bluetooth": 0}, lambda link: {"rms": len(link)})
    assert found == {"wifi-rms": 4, "bluetooth-rms": 9}


def test_errors_at_the_beta_selected_are_told_as_a_distance() -> None:
    curves = {
        VIB: group(VIB, metric=lambda b: 4 if b > 0.5 else 9),
        PAPER: group(PAPER, metric=lambda b: 0.0625),
        FREE: group(FREE, metric=lambda b: 1.0 + b),
    }
    assert ranging_facts.rmse_facts(curves) == {
        "vib-rmse": "2.00 ns or 60.0 cm",
        "hyper-rmse": "0.25 ns or 7.5 cm",
        "free-rmse": "1.00 ns or 30.0 cm",
    }


def test_excess_at_the_smallest_beta_is_told_of_four_methods() -> None:
    def first(factor: float) -> Callable[[float], float]:
        return lambda b: 2 * factor if b < 2e-6 else 99

    curves = {VIB: group(VIB, objective=lambda b: 2 if b < 2e-6 else 46 if b > 0.5 else 7)}
    factors = {PAPER: 2.5, Key("hyper-vib-log"): 1.3, FREE: 1.001, ORDERED: 0.9}
    curves |= {key: group(key, objective=first(factor)) for key, factor in factors.items()}
    assert ranging_facts.small_beta_facts(curves) == {
        "ratio": "23",
        "paper-excess": "150% above",
        "log-excess": "30% above",
        "free-excess": "within 0.5% of",
        "ordered-excess": "10% below",
    }


def test_errors_of_estimators_are_quoted_beside_the_bounds() -> None:
    scene = simulate(WIFI, 300, 3, multipath=ONE_PATH)
    errors = {"network, β = 10⁻⁶": np.array([0.1, 0.1, 0.7])}
    errors |= {"network, β = 10⁻³": np.full(3, 0.2), "network, β = 1": np.full(3, 0.9)}
    errors |= {name: k + np.array([1.0, 1.0, 7.0]) for k, name in enumerate(CLASSICAL)}
    bound = one_path_bound(WIFI, 20)
    assert ranging_facts.error_facts(scene, errors) == {
        **{"count": "300", "numbers": "180"},
        **{"slope-rms": "4.12", "slope-median": "1.00", "slope-largest": "7.0"},
        **{"fft-rms": "4.90", "fft-median": "2.00", "fft-largest": "8.0"},
        **{"music-rms": "5.74", "music-median": "3.00", "music-largest": "9.0"},
        **{"posterior-rms": "6.63", "posterior-median": "4.00", "posterior-largest": "10.0"},
        **{"network-rms": "0.41", "network-median": "0.10", "network-largest": "0.7"},
        **{"middle-rms": "0.20", "middle-median": "0.20", "middle-largest": "0.2"},
        # Of one path all three bounds are the same, the first two told in cm.
        **dict.fromkeys(("bound", "one-path"), f"{29.9792458 * bound:.1f}"),
        "multipath-median": f"{bound:.3g}",
    }
    assert ranging.error_rows(errors)[0] == {
        **{"estimator": "network, β = 10⁻⁶", "median (m)": "0.10"},
        **{"RMSE (m)": "0.41", "largest (m)": "0.7"},
    }
    assert [row["estimator"] for row in ranging.error_rows(errors)] == list(errors)
    several = ranging_facts.error_facts(simulate(WIFI, 300, 3), errors)
    assert several["one-path"] == f"{29.9792458 * bound:.1f}"
    assert float(several["multipath-median"]) > 2 * bound
    assert float(several["bound"]) != float(several["one-path"])


def test_halves_of_the_step_to_ordered_are_named_as_in_their_study() -> None:
    def cost(factor: float, end: float) -> Callable[[float], float]:
        return lambda b: end if b > 0.5 else factor

    methods = list(dict.fromkeys(run.method for run in studies("wifi")["parts"]))
    costs = {
        "hyper-vib-free": cost(1.5, 2.0),
        "hyper-vib-free-opened": cost(1.4, 1.8),
        "hyper-vib-ordered-unopened": cost(0.9, 1.2),
        "hyper-vib-ordered": cost(0.8, 0.7),
    }
    parts = {Key(name): group(Key(name), objective=costs[name]) for name in methods}
    curves = {
        VIB: group(VIB),
        FREE: group(FREE, objective=cost(1.7, 1.7)),
        ORDERED: group(ORDERED, objective=cost(0.6, 0.6)),
    }
    assert ranging_facts.part_facts(curves, parts) == {
        **{"part-free": "54 ± 0", "part-free-end": "+100%"},
        **{"part-opened": "43 ± 0", "part-opened-end": "+80%"},
        **{"part-unopened": "−8 ± 0", "part-unopened-end": "+20%"},
        **{"part-ordered": "−21 ± 0", "part-ordered-end": "−30%"},
        **{"part-free-page": "70 ± 0", "part-ordered-page": "−40 ± 0"},
    }


def test_limited_power_is_compared_at_the_betas_of_its_study() -> None:
    few = BETAS[::3]
    curves = {
        # Far above VIB where the study has no β.
        PAPER: group(
            PAPER,
            metric=lambda b: 0.3,
            objective=lambda b: 1.2 if b in few else 9,
            tx_power=lambda b: 10 if b < 2e-6 else 99,
        ),
        VIB: group(VIB, metric=lambda b: 0.2, tx_power=lambda b: 100 if b < 2e-6 else 1),
        ORDERED: group(ORDERED, tx_power=lambda b: 1.0),
    }
    limited = {
        VIB: group(VIB, betas=few, metric=lambda b: 0.25),
        PAPER: group(
            PAPER, metric=lambda b: 0.35, objective=lambda b: 1.1, tx_power=lambda b: 0.456
        ),
    }
    assert ranging_facts.power_facts(curves, limited, 20.0) == {
        **{"limited-ratio": "1.40", "limited-excess": "10 ± 0"},
        **{"unlimited-ratio": "1.50", "unlimited-excess": "20 ± 0"},
        **{"limit-vib": "+25%", "limit-hyper": "+17%", "limited-hyper-power": "0.46"},
        **{"vib-snr": "40", "hyper-snr": "30", "ordered-snr": "20"},
    }
    assert [list(row.values()) for row in ranging_facts.power_rows(curves, 10.0)] == [
        ["VIB", "100.00", "30"],
        ["Hyper-VIB", "10.00", "20"],
        ["Hyper-VIB, ordered", "1.00", "10"],
    ]


def test_more_epochs_are_told_as_a_change_of_the_plateau_s_error() -> None:
    errors = {5: (0.9, 0.9), 10: (0.5, 0.3), 20: (0.4, 0.2), 40: (0.2, 0.1), 80: (0.18,)}
    records = [
        fake("vib", seed, lambda b, e=error: e, betas=(1e-4,), task="wifi")  # type: ignore[misc]
        for of_seeds in errors.values()
        for seed, error in enumerate(of_seeds)
    ]
    epochs = [count for count, of_seeds in errors.items() for _ in of_seeds]
    found = collect(
        replace(record, config=replace(record.config, epochs=count), epochs=count)
        for record, count in zip(records, epochs, strict=True)
    )
    assert ranging_facts.epoch_facts(found, 10) == {
        "epochs": "10",
        "twice-epochs": "25%",
        "four-epochs": "62%",
        "eight-epochs": "10% below",  # of the first seed alone
    }


def test_the_longest_runs_are_below_vib_and_above_by_more_than_their_interval() -> None:
    def cost(seed: int) -> Callable[[float], float]:
        noise = (-0.1, 0.1, -0.06)[seed]  # no sign over the seeds
        return lambda b: 0.5 if b < 5e-4 else 2.0 if b > 0.5 else 1 + noise * (b > 5e-3)

    ordered = group(ORDERED, seeds=3, metric=lambda b: 0.1)
    for curve in ordered:
        (record,) = curve.records
        rewritten(record, "test", objective=cost(curve.seed))
        rewritten(record, "train", objective=lambda b: 0.6 if b < 2e-6 else 1.0)
    vib = group(VIB, seeds=3, metric=lambda b: 0.2)
    for record in (r for curve in (*ordered, *vib) for r in curve.records):
        record.environment["products"] = "bfloat16"
    for curve in ordered[:2]:
        curve.records[0].environment["products"] = "float32"
    curves = {VIB: group(VIB), ORDERED: group(ORDERED, objective=lambda b: 1.25)}
    longest = {VIB: vib, ORDERED: ordered}
    assert ranging_facts.sides(longest) == {"test": (6, 1), "train": (1, 0)}
    assert ranging_facts.longest_facts(curves, longest) == {
        "longest-excess": "−16 ± 8",
        "longest-train": "−3 ± 0",
        "longest-vib": "0.200 ± 0.000",
        "longest-ordered": "0.100 ± 0.000",
        "once-excess": "25 ± 0",
        **{"longest-below": "6 of 13", "longest-above": "1"},
        **{"longest-train-below": "1", "longest-train-above": "0"},
        "longest-float32": "2 of 42",
    }
    alone = {key: curves[:1] for key, curves in longest.items()}
    assert ranging_facts.sides(alone)["test"] == (0, 0)  # one seed has no interval


@pytest.mark.parametrize(
    ("ours", "wins"),
    [
        ((9.0, 0.5, 0.1), "from 20 dB on"),
        ((0.9, 0.5, 0.1), "at every SNR"),
        ((9.0, 9.0, 9.0), "at no SNR"),
        ((0.9, 9.0, 0.1), "at 0, 40 dB"),  # not from 0 dB on
        ((0.9, 9.0, 9.0), "at 0 dB"),
    ],
)
@pytest.mark.parametrize(("short", "name"), [("music", "MUSIC"), ("posterior", "posterior mean")])
def test_errors_at_both_ends_of_the_snr_and_where_an_estimator_wins(
    short: str, name: str, ours: tuple[float, ...], wins: str
) -> None:
    errors: dict[str, Sequence[float]] = {
        **{"phase slope": [7, 6, 5.123], "inverse FFT": [4, 3, 2.0]},
        **{"MUSIC": [8, 8, 8], "posterior mean": [9.5, 8, 8]},
        **{"trained at 20 dB": [3.14, 0.6, 0.4], "trained at 0 to 40 dB": [1.25, 0.7, 0.3]},
        name: ours,
    }
    found = ranging_facts.snr_facts((0, 20, 40), errors)
    assert found.pop(f"{short}-40") == f"{ours[-1]:.2f}"
    assert found.pop(f"{short}-wins") == wins
    other = {"music": "posterior", "posterior": "music"}[short]
    assert found.pop("posterior-0") == (f"{ours[0]:.1f}" if short == "posterior" else "9.5")
    assert found == {
        **{"fft-40": "2.00", "slope-40": "5.12", f"{other}-40": "8.00"},
        f"{other}-wins": "at no SNR",
        **{"wide-40": "0.30", "narrow-0": "3.1", "wide-0": "1.2"},
    }


def test_the_way_to_the_root_is_told_with_what_it_does_to_the_estimators() -> None:
    scene = simulate(BLUETOOTH, 500, SEEDS["test"])
    unwrapped, searched, known = ranging.root_rows(scene)
    assert [row["signs of the root"] for row in (unwrapped, searched, known)] == [
        *("unwrapping", "search", "known signs")
    ]
    shares = [float(row["right in"].rstrip("%")) for row in (unwrapped, searched, known)]
    assert shares[0] < 97
    assert shares[1] > 99.5
    assert shares[2] == 100
    for name in ("RMSE of the inverse FFT (m)", "RMSE of MUSIC (m)"):
        assert float(unwrapped[name]) > 1.5 * float(searched[name])
        assert float(searched[name]) == pytest.approx(float(known[name]), abs=0.02)
    music = error_m(scene, estimates(scene, {}, 1.0)["MUSIC"])
    assert searched["RMSE of MUSIC (m)"] == f"{rms(music):.2f}"


@LINKS
def test_settings_are_compared_on_validation_responses(link: Link) -> None:
    rows = {row["estimator and settings"]: row for row in ranging.setting_rows(link, 200)}
    assert list(rows) == list(ranging.SETTINGS)
    scene = simulate(link, 200, SEEDS["validation"])
    found = {name: error_m(scene, d) for name, d in estimates(scene, {}, 1.0).items()}
    for told, (name, changed) in ranging.SETTINGS.items():
        same = rows[told]["RMSE (m)"] == f"{rms(found[name]):.3f}"
        assert same or changed
    assert len({row["RMSE (m)"] for row in rows.values()}) >= 4
