"""Figures and tables draw what the curves hold."""

import base64
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_claims import BETAS, error, fake, vib

from hvib import figures
from hvib.claims import (
    Comparison,
    Curve,
    Interval,
    collect,
    curve_rows,
    judge,
    over_seeds,
)
from hvib.config import ACCURACY, SQUARED_ERROR, parameters
from hvib.ranging import BLUETOOTH, ONE_PATH, WIFI, simulate
from hvib.search import Found


@pytest.fixture
def curves() -> Iterator[dict[str, list[Curve]]]:
    records = [fake("vib", s, vib, betas=(b,)) for s in range(3) for b in BETAS]
    records += [fake("hyper-vib", s, lambda b, s=s: 0.98 - s / 1e3) for s in range(3)]  # type: ignore[misc]
    yield collect(records)
    plt.close("all")


def test_curves_are_drawn_where_the_records_are(curves: dict[str, list[Curve]]) -> None:
    (axes,) = figures.over_beta(curves, "rate_nats", "rate (bits)", scale=1 / np.log(2)).axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "trade-off β"
    for line in axes.get_lines():
        assert line.get_xdata() == pytest.approx(BETAS)
        assert line.get_ydata() == pytest.approx([2 / np.log(2)] * 13)
    assert [t.get_text() for t in axes.texts] == ["VIB", "Hyper-VIB"]


def test_metric_figure_shows_both_curves_and_the_selected_beta(
    curves: dict[str, list[Curve]],
) -> None:
    whole, best = figures.metric_over_beta(curves).axes
    first, *rings = whole.get_lines()[:4]
    assert first.get_ydata() == pytest.approx(100 * over_seeds(curves["VIB"], "metric").mean)
    assert [float(r.get_xdata()[0]) for r in rings] == [1e-6] * 3  # type: ignore[index, arg-type]
    assert {t.get_text() for t in best.texts} == set(curves)


def test_regret_figure_has_a_panel_for_each_split(curves: dict[str, list[Curve]]) -> None:
    figure = figures.regret_over_beta(curves)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "train objective",
        "test objective",
    ]


def test_tasks_have_a_panel_each_in_their_own_unit(curves: dict[str, list[Curve]]) -> None:
    errors = collect([fake("hyper-vib-free", s, error, task="wifi") for s in range(2)])
    figure = figures.metric_of_tasks({"digits of ink": curves, "a room": errors})
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["digits of ink", "a room"]
    assert first.get_ylabel() == "test accuracy (%)"
    assert (second.get_ylabel(), second.get_yscale()) == ("test MSE (ns²)", "log")
    assert second.get_lines()[0].get_ydata() == pytest.approx([error(b) for b in BETAS])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [*curves, *errors]


def test_information_plane_has_a_point_for_each_beta(curves: dict[str, list[Curve]]) -> None:
    (axes,) = figures.information_plane({"digits of ink": curves}).axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "rate (bits per inference)")
    first, second = axes.get_lines()
    assert (first.get_linestyle(), second.get_linestyle()) == ("None", "-")
    assert first.get_xdata() == pytest.approx([2 / np.log(2)] * 13)
    assert first.get_ydata() == pytest.approx(100 * over_seeds(curves["VIB"], "metric").mean)


def test_regret_of_tasks_is_against_each_task_s_grid(curves: dict[str, list[Curve]]) -> None:
    (axes,) = figures.regret_of_tasks({"digits of ink": curves}).axes
    zero, ours = axes.get_lines()
    assert zero.get_ydata() == pytest.approx([0, 0])
    assert ours.get_ydata() == pytest.approx([0] * 13)  # the same made-up objective
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert "−10" in labels
    assert "+100" in labels


def test_best_responses_and_equal_rates_are_told_by_task(curves: dict[str, list[Curve]]) -> None:
    lines = (figures.best_response_table({"ink": curves}).data or "").splitlines()
    regret = "0.0 ± 0.0 | 0.0 ± 0.0 | +0.0% at β = 10⁻⁶"
    assert lines[2:] == [f"| ink | Hyper-VIB | {regret} | 1.00 | **holds** | 3 of 3 |"]
    lines = (figures.rate_table({"ink": curves}, (8,)).data or "").splitlines()
    assert lines[0] == "| task | method | 8 bits |"
    assert lines[2:] == [
        "| ink | VIB | beyond its curve |",
        "| ink | Hyper-VIB | beyond its curve |",
    ]


def test_regret_is_drawn_at_the_betas_that_both_answer_for() -> None:
    records = [fake("vib", seed, vib, betas=(beta,)) for seed in range(3) for beta in BETAS[::2]]
    worse = [fake("hyper-vib", s, vib, objective=lambda b: 0.12 + b) for s in range(3)]
    for axes in figures.regret_over_beta(collect(records + worse)).axes:
        _, ours = axes.get_lines()
        assert ours.get_xdata() == pytest.approx(BETAS[::2])
        excess = np.asarray(ours.get_ydata())
        assert excess[[0, -1]] == pytest.approx([20, 2], abs=0.2)
    plt.close("all")


def test_open_features_are_the_mean_of_seeds_beside_the_best_response() -> None:
    betas = np.array([0.1, 1.0])
    counts = {"Hyper-VIB": [np.array([4, 2]), np.array([6, 2])]}
    (axes,) = figures.open_features(betas, counts, (betas, np.array([8, 1]))).axes
    best, ours = axes.get_lines()
    assert best.get_ydata() == pytest.approx([8, 1])
    assert ours.get_ydata() == pytest.approx([5, 2])
    plt.close("all")


def test_table_one_stands_beside_the_paper_s(curves: dict[str, list[Curve]]) -> None:
    lines = (figures.table_one({"MNIST": curves}).data or "").splitlines()
    assert lines[2] == "| MNIST | VIB | 1,000 | 130 | 1.0 | 3,103 | 1.0 |"
    assert lines[3] == "| MNIST | Hyper-VIB | 1,000 | 10 | 13.0 | 696 | 4.5 |"


def test_classes_are_drawn_best_first_in_a_panel_for_each_method(
    curves: dict[str, list[Curve]],
) -> None:
    for group in curves.values():
        for row in (row for curve in group for record in curve.records for row in record.curve):
            row["by_class"] = [0.5, 0.9 if row["beta"] < 0.1 else 0.1, 0.2]
    vib_panel, hyper_panel, _ = figures.by_class_over_beta(curves, ["a", "b", "c"]).axes
    assert [t.get_text() for t in vib_panel.get_yticklabels()] == ["b", "a", "c"]
    assert hyper_panel.get_title(loc="left") == "Hyper-VIB"
    (image,) = vib_panel.get_images()
    shown = np.asarray(image.get_array())
    assert shown[:, 0] == pytest.approx([90, 50, 20])
    assert shown[:, -1] == pytest.approx([10, 50, 20])


def test_survivors_say_how_far_they_come() -> None:
    images = np.random.default_rng(0).random((4, 3, 5, 5))
    names = ["cat", "dog", "cat", "dog"]
    figure = figures.survivors(images, names, [13, 9, 1, 0], np.array(BETAS))
    told = [axes.get_title() for axes in figure.axes]
    assert told == ["cat\nto 1", "dog\nto 0.01", "cat\nto 10⁻⁶", "dog\nnever"]
    plt.close(figure)


def test_download_holds_every_row_and_names_its_record(curves: dict[str, list[Curve]]) -> None:
    html = figures.download(curve_rows(curves), "mnist-accuracy").data
    assert html is not None
    assert 'download="mnist-accuracy.csv"' in html
    found = re.search(r"base64,([^\"]+)", html)
    assert found
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(found[1]).decode())))
    assert len(rows) == 3 * 13 * 3 * 2
    assert float(rows[0]["metric"]) == vib(1e-6)
    assert rows[0]["record"].startswith("mnist/vib/full-beta1.0e-06-epochs20-seed0-")


def test_a_rerun_tells_what_it_changed_and_the_page_itself_says_nothing() -> None:
    own = {"dataset": "mnist", "profile": "full", "seeds": [], "snr_db": 20}
    own |= {"beta_min": 1e-6, "beta_max": 1, "device": "cpu", "fresh": False}
    assert figures.rerun_note(parameters(own), "mnist") is None
    changed = parameters({**own, "snr_db": 10, "seeds": [1]})
    note = figures.rerun_note(changed, "mnist")
    assert note is not None
    assert note.data is not None
    assert "`seeds = (1,)`, `snr_db = 10`" in note.data
    assert "beta" not in note.data.split("**")[1]
    assert figures.rerun_note(parameters({**own, "seeds": [0, 1]}), "mnist", (0, 1)) is None


def test_quoted_facts_are_listed_under_their_names() -> None:
    text = figures.quote("page", {"best": "98.9", "seeds": 5}).data
    assert text is not None
    assert text.splitlines()[2:] == ["| page-best | 98.9 |", "| page-seeds | 5 |"]


def test_tables_have_a_row_for_each_entry(curves: dict[str, list[Curve]]) -> None:
    cost = figures.cost_table(curves).data
    assert cost is not None
    assert "| VIB | 13 | 20 | 130 | 1.0 | 1,000 | 1.00 | 98.00 ± 0.00 | 3 |" in cost
    assert "| Hyper-VIB | 1 | 20 | 10 | 13.0 | 1,000 | 1.00 | 97.90 ± 0.25 | 3 |" in cost
    verdicts = judge(curves)
    text = figures.verdict_table(verdicts).data
    assert text is not None
    assert len(text.splitlines()) == 2 + len(verdicts)


def test_a_table_over_beta_has_a_row_where_all_methods_answer(
    curves: dict[str, list[Curve]],
) -> None:
    few = collect([fake("vib", 0, vib, betas=(b,)) for b in BETAS[::6]])["VIB"]
    text = figures.beta_table({"all": curves["Hyper-VIB"], "few": few}).data
    assert text is not None
    assert text.splitlines() == [
        "| β | all (%) | few (%) |",
        "| --- | --- | --- |",
        "| 10⁻⁶ | 97.90 ± 0.25 | 98.00 |",
        "| 10⁻³ | 97.90 ± 0.25 | 97.00 |",
        "| 1 | 97.90 ± 0.25 | 10.00 |",
    ]


def test_a_table_of_regret_has_the_metric_beside_it(curves: dict[str, list[Curve]]) -> None:
    text = figures.regret_table({"ours": curves["Hyper-VIB"]}, curves["VIB"]).data
    assert text is not None
    head, _, row = text.splitlines()
    assert head.endswith("| largest, test | test accuracy at the β selected (%) |")
    assert row.startswith("| ours | ")
    assert row.endswith(" | 97.90 ± 0.25 |")


def test_an_interval_around_zero_has_no_sign() -> None:
    ends = np.array([-0.001, -0.201, 0.199]), np.array([-0.011, np.nan, np.nan])
    told = [figures.with_interval(Interval(*values), 100, 0) for values in ends]
    assert told == ["0 ± 20", "−1"]


def test_one_seed_is_drawn_without_an_interval() -> None:
    one = collect([fake("vib", 0, vib, betas=(b,)) for b in BETAS])
    assert figures.metric_over_beta(one).axes
    assert "98.00 |" in (figures.cost_table(one).data or "")
    plt.close("all")


def test_an_error_is_drawn_on_a_logarithmic_axis_with_its_unit() -> None:
    curves = collect([fake("vib", 0, error, betas=(b,), task="wifi") for b in BETAS])
    whole, best = figures.metric_over_beta(curves).axes
    assert whole.get_yscale() == "log"
    assert whole.get_ylabel() == "test MSE (ns²)"
    assert best.get_ylim() == pytest.approx((0.9 * 0.2, 1.15 * 0.2))
    whole.set_ylim(0.1, 6)
    ticks = zip(whole.get_yticks(), whole.get_yticklabels(), strict=True)
    told = [text.get_text() for at, text in ticks if 0.1 <= at <= 6]
    assert told == ["0.1", "0.2", "0.5", "1", "2", "5"]
    assert "| test MSE at the β selected (ns²) |" in (figures.cost_table(curves).data or "")
    plt.close("all")


def test_epochs_are_drawn_in_order_on_both_splits() -> None:
    curves = collect(
        replace(r, config=replace(r.config, epochs=e), epochs=e)
        for e in (20, 5, 10)
        for r in [fake("vib", 0, lambda b, e=e: 1 / e, betas=(1e-4,), task="wifi")]  # type: ignore[misc]
    )
    more = fake("vib", 1, lambda b: 1 / 4, betas=(1e-4,), task="wifi")  # a seed of 10 epochs more
    curves["VIB"] += collect([more])["VIB"]
    (axes,) = figures.over_epochs(curves).axes
    for line in axes.get_lines():
        assert np.asarray(line.get_xdata()).tolist() == [5, 10, 20]
        assert line.get_ydata() == pytest.approx([1 / 5, (1 / 10 + 1 / 4) / 2, 1 / 20])
    assert {t.get_text() for t in axes.texts} == {"test", "train"}
    plt.close("all")


def test_error_distributions_are_listed_by_median() -> None:
    errors = {"MUSIC": np.array([1.0, 3.0, 2.0]), "network, β = 1": np.array([0.1, 0.2, 4.0])}
    (axes,) = figures.error_cdfs(errors).axes
    legend = axes.get_legend()
    assert legend
    assert [t.get_text() for t in legend.get_texts()] == ["network, β = 1: 0.2 m", "MUSIC: 2 m"]
    assert axes.get_lines()[1].get_xdata() == pytest.approx([1, 2, 3])
    assert axes.get_lines()[1].get_ydata() == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    plt.close("all")


def test_errors_over_snr_keep_their_names_and_values() -> None:
    (axes,) = figures.over_snr([0, 20], {"MUSIC": [2.0, 0.2], "bound": [1.0, 0.1]}).axes
    assert [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()] == [
        [2.0, 0.2],
        [1.0, 0.1],
    ]
    assert [t.get_text() for t in axes.texts] == ["bound", "MUSIC"]
    plt.close("all")


def test_delay_profile_of_one_path_peaks_at_its_delay_and_a_product_at_twice() -> None:
    for link, peaks in ((BLUETOOTH, (2, 1)), (WIFI, (1, 1, 1))):
        scene = simulate(link, 1, 3, multipath=ONE_PATH, snr_db=60.0)
        (axes,) = figures.delay_profiles(scene, 0).axes
        for line, times in zip(axes.get_lines(), peaks, strict=False):
            x, y = (np.asarray(part) for part in line.get_data())
            assert x[y.argmax()] == pytest.approx(times * scene.delay_ns[0], abs=1.0)
        plt.close("all")


def test_prose_quotes_each_method() -> None:
    records = [fake("vib", 0, error, betas=(b,), task="wifi") for b in BETAS]
    records += [
        fake("hyper-vib-free", 0, error, task="wifi", seconds=26.0, twice=twice)
        for twice in (False, True)
    ]
    for record in records:
        record.environment.update(name="CPU", threads=1, products="bfloat16")
    curves = collect(records)
    facts = figures.quoted(curves)
    assert facts["seeds"] == "1"
    assert facts["vib-best"] == "0.200"
    assert facts["vib-seconds"] == "130"
    assert facts["hyper-free-speedup"] == "5.0"
    assert facts["hyper-free-runs"] == "2.6"
    assert facts["hyper-free-2x-runs"] == "2.6"
    told = {key: facts[f"hyper-free-{key}"] for key in ("regret", "worst", "end-regret")}
    assert told == dict.fromkeys(told, "within 0.5% of")  # the same made-up objective
    assert facts["hyper-free-worst-beta"] == "10⁻⁶"
    assert "vib-regret" not in facts
    assert facts["machine"] == "CPU, 1 thread, bfloat16 products"


def test_regret_of_a_known_minimum_shows_each_seed_and_the_mean() -> None:
    regret = {"Hyper-VIB": [np.array([0.1, 0.3]), np.array([0.3, 0.5])]}
    (axes,) = figures.regret_of_known(np.array([0.1, 1.0]), regret, "β / 2P").axes
    drawn = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
    assert drawn[0] == pytest.approx([10, 30])
    assert drawn[1] == pytest.approx([30, 50])
    assert drawn[2] == pytest.approx([20, 40])
    assert [t.get_text() for t in axes.texts] == ["Hyper-VIB"]
    plt.close("all")


def _searches() -> dict[str, list[list[Found]]]:
    def found(runs: float, test: float) -> Found:
        return Found(runs, 10 * runs, 1e-3, test, test)

    return {
        "grid": [[found(1, 0.5), found(2, 0.7)], [found(1, 0.6), found(2, 0.6)]],
        "Hyper-VIB": [[found(1, 0.9)], [found(1, 0.7)]],
    }


def test_searches_are_drawn_at_what_they_cost() -> None:
    left, right = figures.search_courses(_searches(), ACCURACY).axes
    (line,) = [line for line in left.get_lines() if line.get_label() == "grid"]
    assert line.get_xdata() == pytest.approx([1, 2])
    assert line.get_ydata() == pytest.approx([55, 65])
    assert right.get_xlabel() == "training (s)"
    names = [t.get_text() for t in right.get_legend().get_texts()]  # type: ignore[union-attr]
    assert sorted(names) == ["Hyper-VIB", "grid"]
    point = left.containers[0].lines[0]  # type: ignore[attr-defined]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((1, 80))
    plt.close("all")


def test_searches_of_tasks_are_drawn_with_their_metrics() -> None:
    tasks = {"MNIST": _searches(), "WiFi": _searches()}
    left, right = figures.searches_of_tasks(tasks, [ACCURACY, SQUARED_ERROR]).axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["MNIST", "WiFi"]
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
    heights = [axes.get_lines()[0].get_ydata()[-1] for axes in (left, right)]  # type: ignore[index]
    assert heights == pytest.approx([65, 0.65])
    assert left.get_xlabel() == right.get_xlabel() == "training (VIB runs)"
    plt.close("all")


def test_ablations_are_drawn_by_what_they_vary() -> None:
    def found(test: float) -> Comparison:
        mean = Interval(*np.array([test, test - 0.05, test + 0.05]))
        return Comparison(mean, mean, 2 * test, 1.0, 0.9, 100)

    groups = {
        "gate": {"sigmoid": found(0.1), "softplus": found(0.2)},
        "epochs": {"1×": found(0.1), "2×": found(-0.1)},
    }
    left, right = figures.ablation_regrets(groups).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["sigmoid", "softplus", "1×", "2×"]
    assert [t.get_text() for t in left.texts] == ["gate", "epochs"]
    spans = [line.get_xdata() for line in left.get_lines() if line.get_marker() == "None"]
    assert spans[2] == pytest.approx([15, 25])  # behind the line at 0
    dots = [line for line in right.get_lines() if line.get_marker() == "o"]
    assert [float(d.get_xdata()[0]) for d in dots] == pytest.approx([20, 40, 20, -20])  # type: ignore[index, arg-type]
    assert dots[0].get_color() == dots[2].get_color() != dots[1].get_color()
    heights = [float(d.get_ydata()[0]) for d in dots]  # type: ignore[index, arg-type]
    assert heights == sorted(heights, reverse=True)
    one, two = figures.ablation_changes({"ink": groups, "chalk": groups}).axes
    assert [axes.get_title(loc="left") for axes in (one, two)] == ["ink", "chalk"]
    dots = [line for line in two.get_lines() if line.get_marker() == "o"]
    assert [float(d.get_xdata()[0]) for d in dots] == pytest.approx([10, 20, 10, -10])  # type: ignore[index, arg-type]
    assert [d.get_markerfacecolor() for d in dots] == ["#555555"] * 4
    unsure = {"gate": {"sigmoid": found(0.04)}}
    (dot,) = (
        d
        for d in figures.ablation_changes({"ink": unsure}).axes[0].get_lines()
        if d.get_marker() == "o"
    )
    assert dot.get_markerfacecolor() == "white"
    plt.close("all")
