"""Figures draw what the curves hold."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import BETAS, against_grid, error, fake, rewritten, vib

from hvib.book import figures
from hvib.book.curves import PAPER, VIB, Curve, Key, collect
from hvib.book.figures import diagrams
from hvib.book.figures.style import label_directly, method_style
from hvib.book.figures.tasks import task_axes
from hvib.book.search import Found
from hvib.book.statistics import Comparison, Interval, over_seeds
from hvib.methods import METHODS, PLAIN
from hvib.ranging.simulate import BLUETOOTH, ONE_PATH, WIFI, simulate
from hvib.tasks import ACCURACY


def test_curves_are_drawn_where_the_records_are(curves: dict[Key, list[Curve]]) -> None:
    (axes,) = figures.over_beta(curves, "rate_nats", "rate (bits)", factor=1 / np.log(2)).axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "trade-off β"
    for line in axes.get_lines():
        assert line.get_xdata() == pytest.approx(BETAS)
        assert line.get_ydata() == pytest.approx([2 / np.log(2)] * 13)
    assert [t.get_text() for t in axes.texts] == ["VIB", "Hyper-VIB"]


def test_metric_figure_shows_both_curves_and_the_selected_beta(
    curves: dict[Key, list[Curve]],
) -> None:
    whole, best = figures.metric_over_beta(curves).axes
    first, *rings = whole.get_lines()[:4]
    assert first.get_ydata() == pytest.approx(100 * over_seeds(curves[VIB], "metric").mean)
    assert [float(r.get_xdata()[0]) for r in rings] == [1e-6] * 3  # type: ignore[index, arg-type]
    assert {t.get_text() for t in best.texts} == {"VIB", "Hyper-VIB"}


def test_excess_figure_has_a_panel_for_each_split(curves: dict[Key, list[Curve]]) -> None:
    figure = figures.excess_over_beta(curves)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "train objective",
        "test objective",
    ]


def test_excess_figure_shows_every_method_but_vib_on_a_wide_axis_too() -> None:
    records = [fake("vib", seed, vib, betas=(beta,)) for seed in range(2) for beta in BETAS]
    plain = [fake("flexible-vib", s, vib, objective=lambda b: 2.5 * (0.1 + b)) for s in range(2)]
    panels = figures.excess_over_beta(collect(records + plain), wide=True).axes
    for axes in panels:
        _, ours = axes.get_lines()
        assert ours.get_ydata() == pytest.approx([150] * 13)
        assert axes.get_yscale() == "symlog"
    low, high = panels[0].get_ylim()
    assert low <= 0 < 150 <= high < 300  # no wider than its curves
    assert {t.get_text() for t in panels[1].texts} == {"VIB", "Flexible VIB"}
    plt.close("all")


def test_tasks_have_a_panel_each_in_their_own_unit(curves: dict[Key, list[Curve]]) -> None:
    errors = collect([fake("hyper-vib-free", s, error, task="wifi") for s in range(2)])
    figure = figures.metric_of_tasks({"mnist": curves, "a room": errors})
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["MNIST", "a room"]
    assert first.get_ylabel() == "test accuracy (%)"
    assert (second.get_ylabel(), second.get_yscale()) == ("test MSE (ns²)", "log")
    assert second.get_lines()[0].get_ydata() == pytest.approx([error(b) for b in BETAS])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "VIB",
        "Hyper-VIB",
        "Hyper-VIB, free",
    ]


def test_information_plane_has_a_point_for_each_beta(curves: dict[Key, list[Curve]]) -> None:
    (axes,) = figures.information_plane({"digits of ink": curves}).axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "rate (bits per inference)")
    first, second = axes.get_lines()
    assert (first.get_linestyle(), second.get_linestyle()) == ("None", "-")
    assert first.get_xdata() == pytest.approx([2 / np.log(2)] * 13)
    assert first.get_ydata() == pytest.approx(100 * over_seeds(curves[VIB], "metric").mean)


def test_excess_of_tasks_is_against_each_task_s_grid(curves: dict[Key, list[Curve]]) -> None:
    (axes,) = figures.excess_of_tasks({"digits of ink": curves}).axes
    zero, ours = axes.get_lines()
    assert zero.get_ydata() == pytest.approx([0, 0])
    assert ours.get_ydata() == pytest.approx([0] * 13)  # the same made-up objective
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert "−10" in labels
    assert "+100" in labels


def test_excess_is_drawn_at_the_betas_that_both_answer_for() -> None:
    records = [fake("vib", seed, vib, betas=(beta,)) for seed in range(3) for beta in BETAS[::2]]
    worse = [fake("hyper-vib", s, vib, objective=lambda b: 0.12 + b) for s in range(3)]
    for axes in figures.excess_over_beta(collect(records + worse)).axes:
        _, ours = axes.get_lines()
        assert ours.get_xdata() == pytest.approx(BETAS[::2])
        excess = np.asarray(ours.get_ydata())
        assert excess[[0, -1]] == pytest.approx([20, 2], abs=0.2)
    plt.close("all")


def test_open_features_are_the_mean_of_seeds_beside_the_best_response() -> None:
    betas = np.array([0.1, 1.0])
    counts = {PAPER: [np.array([4, 2]), np.array([6, 2])]}
    (axes,) = figures.open_features(betas, counts, (betas, np.array([8, 1]))).axes
    best, ours = axes.get_lines()
    assert best.get_ydata() == pytest.approx([8, 1])
    assert ours.get_ydata() == pytest.approx([5, 2])
    plt.close("all")


def test_classes_are_drawn_best_first_in_a_panel_for_each_method(
    curves: dict[Key, list[Curve]],
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
    curves[VIB] += collect([more])[VIB]
    panels = figures.over_epochs({"wifi": curves, "a room": curves}).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["WiFi", "a room"]
    for axes in panels:
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
    errors = {"MUSIC": [2.0, 0.2], "bound": [1.0, 0.1]}
    panels = figures.over_snr([0, 20], {"bluetooth": errors, "wifi": errors}).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Bluetooth", "WiFi"]
    for axes in panels:
        drawn = [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]
        assert drawn == [[2.0, 0.2], [1.0, 0.1]]
    assert [t.get_text() for t in panels[-1].texts] == ["bound", "MUSIC"]
    plt.close("all")


def test_delay_profile_of_one_path_peaks_at_its_delay_and_a_product_at_twice() -> None:
    for link, peaks in ((BLUETOOTH, (2, 1)), (WIFI, (1, 1, 1))):
        scene = simulate(link, 1, 3, multipath=ONE_PATH, snr_db=60.0)
        (axes,) = figures.delay_profiles(scene, 0).axes
        for line, times in zip(axes.get_lines(), peaks, strict=False):
            x, y = (np.asarray(part) for part in line.get_data())
            assert x[y.argmax()] == pytest.approx(times * scene.delay_ns[0], abs=1.0)
        plt.close("all")


def test_excess_of_a_known_minimum_shows_each_seed_and_the_mean() -> None:
    excess = {PAPER: [np.array([0.1, 0.3]), np.array([0.3, 0.5])]}
    (axes,) = figures.regret_of_known(np.array([0.1, 1.0]), excess, "β / 2P").axes
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
        "hyper": [[found(1, 0.9)], [found(1, 0.7)]],
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
    tasks = {"mnist": _searches(), "wifi": _searches()}
    left, right = figures.searches_of_tasks(tasks).axes
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
    left, right = figures.ablation_excesses(groups).axes
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


@pytest.mark.parametrize("name", ["system", "hypernetwork", "layer"])
def test_diagrams_keep_their_text_inside(name: str) -> None:
    figure = getattr(diagrams, name)()
    figure.canvas.draw()
    frame = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        if text.get_text():
            assert frame.x0 <= box.x0, text
            assert box.x1 <= frame.x1, text
            assert frame.y0 <= box.y0, text
            assert box.y1 <= frame.y1, text
    plt.close(figure)


def test_excess_by_split_has_a_panel_for_each_task() -> None:
    ours, theirs = against_grid(lambda b: 1.2 * (0.1 + b))
    for curve in ours:
        rewritten(curve.records[0], "train", objective=lambda b: 0.9 * (0.1 + b))
    curves = {VIB: theirs, PAPER: ours}
    panels = figures.excess_by_split({"wifi": curves, "ink": curves}, PAPER).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["WiFi", "ink"]
    for axes in panels:
        _, test, train = axes.get_lines()  # behind the line at 0
        assert test.get_xdata() == pytest.approx(BETAS)
        assert train.get_xdata() == pytest.approx(BETAS)
        assert test.get_ydata() == pytest.approx([20] * 13)
        assert train.get_ydata() == pytest.approx([-10] * 13)
        assert {t.get_text() for t in axes.texts} == {"test", "train"}
    plt.close("all")


def test_one_beta_is_drawn_as_a_point() -> None:
    records = [fake(method, 0, vib, betas=(1e-3,)) for method in ("vib", "hyper-vib")]
    for figure in (
        figures.over_beta(collect(records), "metric", "accuracy"),
        figures.metric_over_beta(collect(records)),
        figures.excess_over_beta(collect(records)),
    ):
        low, high = figure.axes[0].get_xlim()
        assert low < 1e-3 < high
        figure.canvas.draw()
    plt.close("all")


def test_an_odd_number_of_tasks_leaves_no_empty_panel() -> None:
    figure, panels = task_axes(["mnist", "wifi", "ink"], 4.0)
    assert [axes.get_title(loc="left") for axes in panels] == ["MNIST", "WiFi", "ink"]
    assert figure.axes == panels
    plt.close(figure)


def test_labels_of_curves_that_end_together_are_moved_apart() -> None:
    _, axes = plt.subplots()
    axes.set_ylim(0, 10)
    label_directly(axes, [(name, PLAIN, y) for name, y in (("b", 5.1), ("a", 5), ("c", 99))])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights == pytest.approx({"a": 0.5, "b": 0.575, "c": 1})  # c ends above the axes
    plt.close("all")


def test_a_method_has_a_style_of_its_own_at_one_and_two_times_the_epochs() -> None:
    method = METHODS.find("hyper-vib")
    assert method_style(PAPER) == method.style
    assert method_style(Key("hyper-vib", 2)) == method.longer_style != method.style
    for name in (Key("hyper-vib", 1.3), Key("of a reader's"), "as a page says"):
        assert method_style(name) == PLAIN
