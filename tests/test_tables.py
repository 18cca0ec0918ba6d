"""Tables, downloads and quoted numbers hold what the curves hold."""

import base64
import csv
import io
import re
from collections.abc import Callable

from conftest import lines
from made_up import BETAS, against_grid, error, fake, rewritten, vib

from hvib.book import figures
from hvib.book.curves import PAPER, VIB, Curve, Key, collect, curve_rows
from hvib.book.figures.quotes import quoted_as
from hvib.book.parameters import read_parameters
from hvib.book.verdicts import Everywhere, judge


def test_best_responses_and_equal_rates_are_told_by_task(curves: dict[Key, list[Curve]]) -> None:
    lines = (figures.best_response_table({"ink": curves}).data or "").splitlines()
    excess = "0.0 ± 0.0 | 0.0 ± 0.0 | +0.0% at β = 10⁻⁶"
    assert lines[2:] == [f"| ink | Hyper-VIB | {excess} | 1.00 | **holds** | 3 of 3 |"]
    lines = (figures.rate_table({"ink": curves}, (8,)).data or "").splitlines()
    assert lines[0] == "| task | method | 8 bits |"
    assert lines[2:] == [
        "| ink | VIB | beyond its curve |",
        "| ink | Hyper-VIB | beyond its curve |",
    ]


def test_table_one_stands_beside_the_paper_s(curves: dict[Key, list[Curve]]) -> None:
    lines = (figures.table_one({"mnist": curves}).data or "").splitlines()
    assert lines[2] == "| MNIST | VIB | 1,000 | 130 | 1.0 | 3,103 | 1.0 |"
    assert lines[3] == "| MNIST | Hyper-VIB | 1,000 | 10 | 13.0 | 696 | 4.5 |"


def test_download_holds_every_row_and_names_its_record(curves: dict[Key, list[Curve]]) -> None:
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
    assert figures.rerun_note(read_parameters(own), "mnist") is None
    changed = read_parameters({**own, "snr_db": 10, "seeds": [1]})
    note = figures.rerun_note(changed, "mnist")
    assert note is not None
    assert note.data is not None
    assert "`seeds = (1,)`, `snr_db = 10`" in note.data
    assert "beta" not in note.data.split("**")[1]
    assert figures.rerun_note(read_parameters({**own, "seeds": [0, 1]}), "mnist", (0, 1)) is None


def test_quoted_facts_are_listed_under_their_names() -> None:
    text = figures.quote("page", {"best": "98.9", "seeds": 5}).data
    assert text is not None
    assert text.splitlines()[2:] == ["| page-best | 98.9 |", "| page-seeds | 5 |"]


def test_tables_have_a_row_for_each_entry(curves: dict[Key, list[Curve]]) -> None:
    cost = figures.cost_table(curves).data
    assert cost is not None
    assert "| VIB | 13 | 20 | 130 | 1.0 | 1,000 | 1.00 | 98.00 ± 0.00 | 3 |" in cost
    assert "| Hyper-VIB | 1 | 20 | 10 | 13.0 | 1,000 | 1.00 | 97.90 ± 0.25 | 3 |" in cost
    verdicts = judge(curves)
    text = figures.verdict_table(verdicts).data
    assert text is not None
    assert len(text.splitlines()) == 2 + len(verdicts)


def test_a_table_over_beta_has_a_row_where_all_methods_answer(
    curves: dict[Key, list[Curve]],
) -> None:
    few = collect([fake("vib", 0, vib, betas=(b,)) for b in BETAS[::6]])[VIB]
    text = figures.beta_table({"all": curves[PAPER], "few": few}).data
    assert text is not None
    assert text.splitlines() == [
        "| β | all (%) | few (%) |",
        "| --- | --- | --- |",
        "| 10⁻⁶ | 97.90 ± 0.25 | 98.00 |",
        "| 10⁻³ | 97.90 ± 0.25 | 97.00 |",
        "| 1 | 97.90 ± 0.25 | 10.00 |",
    ]


def test_a_table_of_excess_has_the_metric_beside_it(curves: dict[Key, list[Curve]]) -> None:
    text = figures.excess_table({"ours": curves[PAPER]}, curves[VIB]).data
    assert text is not None
    head, _, row = text.splitlines()
    assert head.endswith("| largest, test | test accuracy at the β selected (%) |")
    assert row.startswith("| ours | ")
    assert row.endswith(" | 97.90 ± 0.25 |")


def test_prose_quotes_each_method() -> None:
    records = [fake("vib", 0, error, betas=(b,), task="wifi") for b in BETAS]
    records += [
        fake("hyper-vib-free", 0, error, task="wifi", seconds=26.0, twice=twice)
        for twice in (False, True)
    ]
    for record in records:
        record.environment.update(name="CPU", threads=1, products="bfloat16")
    curves = collect(records)
    facts = figures.facts_of(curves)
    assert facts["seeds"] == "1"
    assert facts["vib-best"] == "0.200"
    assert facts["vib-seconds"] == "130"
    assert facts["hyper-free-speedup"] == "5.0"
    assert facts["hyper-free-runs"] == "2.6"
    assert facts["hyper-free-2x-runs"] == "2.6"
    told = {key: facts[f"hyper-free-{key}"] for key in ("excess", "worst", "end-excess")}
    assert told == dict.fromkeys(told, "within 0.5% of")  # the same made-up objective
    assert facts["hyper-free-worst-beta"] == "10⁻⁶"
    assert "vib-excess" not in facts
    assert facts["machine"] == "CPU, 1 thread, bfloat16 products"


def one_run_beside_vib() -> dict[Key, list[Curve]]:
    """Flexible VIB on two of VIB's three seeds: below it at small β, above in the middle."""
    stretches = lambda b: 0.8 if b < 9e-4 else 1.5 if b < 0.11 else 1.1  # noqa: E731
    records = [fake("vib", s, error, betas=(b,), task="wifi") for s in range(3) for b in BETAS]
    records += [
        fake(
            *("flexible-vib", s, lambda b: 0.9 * error(b)),
            objective=lambda b: stretches(b) * (0.1 + b),
            task="wifi",
            seconds=12.0,
        )
        for s in (2, 0)
    ]
    return collect(records)


def test_methods_of_one_run_stand_beside_the_grid() -> None:
    head, grid, ours = lines(figures.one_run_table(one_run_beside_vib()))
    assert head.split(" | ")[1:3] == ["time (VIB runs)", "test MSE at the β selected (ns²)"]
    assert grid == "| VIB | 13.00 | 0.200 ± 0.000 |  |  |  | 3 |"
    mean = (6 * -20 + 5 * 50 + 2 * 10) / 13
    cells = f"{mean:.1f} ± 0.0 | {mean:.1f} ± 0.0 | +50.0% at β = 10⁻³"
    assert ours == f"| Flexible VIB | 1.20 | 0.180 ± 0.000 | {cells} | 2 |"


def test_prose_quotes_stretches_of_the_betas() -> None:
    facts = figures.facts_of_stretches(one_run_beside_vib())
    assert facts == {
        "flexible-vib-small": "20% below",
        "flexible-vib-middle": "50% above",
        "flexible-vib-large": "10% above",
        "flexible-vib-gain": "10 ± 0% better",
    }
    few = (0.1, 0.32)
    records = [fake("vib", 0, vib, betas=(b,)) for b in few] + [
        fake("hyper-vib", 0, vib, betas=few)
    ]
    facts = figures.facts_of_stretches(collect(records))
    assert facts["hyper-small"] == "no β of"
    assert facts["hyper-middle"] == "within 0.5% of"


def test_methods_are_quoted_by_short_names() -> None:
    keys = VIB, Key("vib-batched"), PAPER, Key("hyper-vib-ordered", 2), Key("hyper-vib", 1.3)
    assert [quoted_as(key) for key in keys] == [
        *("vib", "vib-batched", "hyper"),
        *("hyper-ordered-2x", "hyper-1.3x"),
    ]


def test_gates_are_quoted_by_what_they_add() -> None:
    ours = collect([fake("hyper-vib", 0, vib, parameters=102_350)])[PAPER]
    theirs = collect([fake("vib", 0, vib, betas=(1e-3,), parameters=100_000)])[VIB]
    assert figures.facts_of_gates(ours, theirs) == {"extra": "2,350", "extra-share": "2.35%"}


def test_other_machines_than_the_first_seed_s_are_named() -> None:
    records = [fake("hyper-vib", seed, vib) for seed in range(5)]
    names = ("CPU", "H200", "CPU", "H100", "H200")
    for record, name in zip(records, names, strict=True):
        record.environment.update(name=name)
    (group,) = collect(records).values()
    assert figures.elsewhere(group) == "H100, H200"
    assert figures.elsewhere(group[::2][:2]) == figures.elsewhere(group[:1]) == "none"


def test_the_ends_of_the_range_have_their_excess() -> None:
    def cost(beta: float) -> float:
        return (1.25 if beta < 2e-6 else 0.9 if beta > 0.5 else 5) * (0.1 + beta)

    assert figures.end_cells(*against_grid(cost)) == {
        "test, at the smallest β": "+25.0%",
        "test, at the largest β": "−10.0%",
    }


def test_a_table_of_the_largest_beta_has_metric_rate_and_objective() -> None:
    records = [
        rewritten(
            fake("hyper-vib", seed, lambda b: 0.5 + b / 4, objective=lambda b, s=seed: 2 + s + b),  # type: ignore[misc]
            rate_nats=lambda b: 0.693147 / b,
        )
        for seed in (0, 1)
    ]
    assert lines(figures.end_table(collect(records))) == [
        "| method | test accuracy (%) | rate (bits) | objective |",
        "| Hyper-VIB | 75.00 ± 0.00 | 1.0 ± 0.0 | 3.50 ± 6.35 |",
    ]


def test_a_table_of_excess_at_single_betas_tells_the_epochs() -> None:
    ours, theirs = against_grid(lambda b: (1.5 if b < 2e-6 else 0.75) * (0.1 + b))
    upper = collect(
        [fake("hyper-vib", 0, vib, objective=lambda b: 2 * (0.1 + b), betas=BETAS[-3:], twice=True)]
    )
    table = figures.excess_at_table({PAPER: ours, "few": ours[:1]}, theirs, (1e-6, 1.0), "range")
    assert lines(table) == [
        "| range | epochs | excess at β = 10⁻⁶ (%) | excess at β = 1 (%) |",
        "| Hyper-VIB | 20 | 50.0 ± 0.0 | −25.0 ± 0.0 |",
        "| few | 20 | 50.0 | −25.0 |",
    ]
    # Where one answers for the upper β alone, its own first is not the grid's first.
    assert lines(figures.excess_at_table(upper, theirs, [1.0]))[1:] == [
        "| Hyper-VIB, 2× epochs | 40 | 100.0 |"
    ]


def test_rows_of_tasks_stand_under_each_other() -> None:
    rows = {"wifi": [{"a": 1}, {"a": 2}], "ink": ({"a": k} for k in (3,))}
    assert lines(figures.table_by_task(rows)) == [
        *("| task | a |", "| WiFi | 1 |", "| WiFi | 2 |", "| ink | 3 |")
    ]


def test_the_cheapest_match_is_told_as_a_share_of_the_grid() -> None:
    def task(factor: float) -> dict[Key, list[Curve]]:
        ours, vib = against_grid(lambda b: factor * (0.1 + b), seconds=26.0)
        return {VIB: vib, PAPER: ours}

    assert lines(figures.match_table({"mnist": task(1.005), "wifi": task(1.02)})) == [
        "| task | run | time (VIB runs) | share of the grid's time |",
        "| MNIST | Hyper-VIB | 2.60 | 20% |",
        "| WiFi | none on record |  |  |",
    ]


def test_claims_on_all_tasks_are_numbered_as_the_paper_s() -> None:
    found = {
        "time": Everywhere(1, "Time falls", {"mnist": "holds", "ink": "not testable"}, "holds"),
        "own": Everywhere(None, "The same", {"mnist": "holds", "ink": "holds"}, "holds in part"),
    }
    assert lines(figures.claims_table(found)) == [
        "| claim | MNIST | ink | all |",
        "| 1. Time falls | holds | not testable | **holds** |",
        "| (not the paper's) The same | holds | holds | **holds in part** |",
    ]


def test_the_costs_of_one_beta_and_one_seed_have_no_interval() -> None:
    def size(of: Callable[[float], float]) -> dict[Key, list[Curve]]:
        return collect([fake("vib", 0, of, betas=(1e-3,)), fake("hyper-vib", 0, of, betas=(1e-3,))])

    for row in figures.cost_rows(size(lambda b: 0.9)):
        assert (row["test accuracy at the β selected (%)"], row["seeds"]) == ("90.00", 1)
        assert (row["training runs"], row["grid time / time"]) == (1, "1.0")
    (row,) = figures.beta_rows(size(lambda b: 0.9))
    assert row == {"β": "10⁻³", "VIB (%)": "90.00", "Hyper-VIB (%)": "90.00"}
