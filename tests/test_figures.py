"""Figures and tables draw what the curves hold."""

import base64
import csv
import io
import re
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_claims import BETAS, fake, vib

from hvib import figures
from hvib.claims import Curve, collect, curve_rows, judge, over_seeds


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


def test_tables_have_a_row_for_each_entry(curves: dict[str, list[Curve]]) -> None:
    cost = figures.cost_table(curves).data
    assert cost is not None
    assert "| VIB | 13 | 20 | 130 | 1.0 | 1,000 | 98.00 ± 0.00 | 3 |" in cost
    assert "| Hyper-VIB | 1 | 20 | 10 | 13.0 | 1,000 | 97.90 ± 0.25 | 3 |" in cost
    verdicts = judge(curves)
    text = figures.verdict_table(verdicts).data
    assert text is not None
    assert len(text.splitlines()) == 2 + len(verdicts)


def test_one_seed_is_drawn_without_an_interval() -> None:
    one = collect([fake("vib", 0, vib, betas=(b,)) for b in BETAS])
    assert figures.metric_over_beta(one).axes
    assert "98.00 |" in (figures.cost_table(one).data or "")
    plt.close("all")
