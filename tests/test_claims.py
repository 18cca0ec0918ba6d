"""The claims that no task's curves decide, and all ten in order."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from made_up import fake, vib
from small import run_of
from torch import Tensor

from hvib import ledger
from hvib.book import claims
from hvib.book.claims import (
    SNRS,
    Added,
    Elsewhere,
    accuracy_elsewhere,
    adapts,
    added_parameters,
    beside_tasks,
    compact,
    in_order,
    linear_case,
)
from hvib.book.curves import Curve, Key, collect
from hvib.book.verdict import Outcome, Verdict
from hvib.book.verdicts import Everywhere
from hvib.ledger import Record
from hvib.methods import METHODS
from hvib.run import Run
from hvib.tasks import make_run

NO = "does not hold here"


def test_the_linear_case_holds_and_fails_with_other_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdict = linear_case()
    assert (verdict.number, verdict.outcome) == (7, "holds")
    assert verdict.measured.endswith("below 10⁻⁹")
    real = claims.linear.best_response
    monkeypatch.setattr(claims.linear, "best_response", lambda *given: real(*given) * (1 - 1e-6))
    verdict = linear_case()
    assert (verdict.measured, verdict.outcome) == ("the largest relative difference is 1e-06", NO)


def of_sizes(task: str, more: int = 0) -> dict[Key, list[Curve]]:
    """VIB and Hyper-VIB on record with as many parameters as their systems have, and some more."""
    records = []
    for method, extra in (("vib", 0), ("hyper-vib", more)):
        model = METHODS.find(method).build(make_run(task, method, betas=(1e-3,)))
        size = sum(p.numel() for p in model.parameters()) + extra
        records.append(fake(method, 0, vib, betas=(1e-3,), task=task, parameters=size))
    return collect(records)


def test_gates_add_two_parameters_for_each_unit() -> None:
    units = (256 + 128 + 2 * 64) + (128 + 256 + 10)  # of the digits' device and network
    of_wifi = (256 + 256 + 2 * 64) + (256 + 256 + 1)
    tasks = {"digits": of_sizes("digits"), "wifi": of_sizes("wifi", more=3)}
    added = added_parameters(tasks)
    assert added == {
        "digits": Added(2 * units, 2 * units),
        "wifi": Added(2 * of_wifi + 3, 2 * of_wifi),
    }
    verdict = compact(added)
    assert (verdict.measured, verdict.outcome) == ("another number on WiFi", NO)
    del added["wifi"]
    assert compact(added).outcome == "holds"


def elsewhere(*lost: float) -> Elsewhere:
    """Two seeds that lose so much on average, by unlike amounts."""
    trained = np.array([[0.9] * len(lost), [0.8] * len(lost)])
    apart = np.array([[0.005], [-0.005]])
    return Elsewhere(SNRS[: len(lost)], trained, trained - np.array(lost) + apart, trained)


@pytest.mark.parametrize(
    ("lost", "measured", "ends"),
    [
        (
            (0.009, 0.002, -0.003),
            "so at 3 of 3 SNRs; largest loss 0.9 points, at −5 dB",
            "holds",
        ),
        (
            (0.009, 0.005, 0.011),
            "so at 2 of 3 SNRs; largest loss 1.1 points, at 15 dB",
            "holds in part",
        ),
        ((0.1, 0.2), "so at 0 of 2 SNRs; largest loss 20.0 points, at 5 dB", NO),
    ],
)
def test_a_system_adapts_where_reselecting_loses_at_most_a_point(
    lost: tuple[float, ...], measured: str, ends: str
) -> None:
    verdict = adapts(elsewhere(*lost))
    assert (verdict.number, verdict.measured, verdict.outcome) == (9, measured, ends)
    assert elsewhere(*lost).lost.half == pytest.approx([12.706 * 0.005] * len(lost), rel=1e-3)


def test_beta_is_kept_reselected_or_selected_anew_at_another_snr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []

    def arrays(run: Run, name: str, make: Callable[[], object]) -> dict[str, Tensor]:
        """Validation peaks at β k at the k-th SNR; the test accuracy tells SNR, β and seed."""
        runs.append((run, name))
        found = torch.zeros(1 + len(SNRS), 2, len(run.betas), dtype=torch.float64)
        for snr in range(1 + len(SNRS)):
            found[snr, 0, snr] = 0.9
            found[snr, 1] = torch.arange(len(run.betas)) / 100 + snr / 10 + run.seed
        found[2, 0, 7] = 0.9  # a tie, of which the larger β counts
        return {"accuracy": found}

    def sweep(runs: list[Run]) -> list[Record]:
        """Records whose test accuracy tells the SNR, with validation's peak at the last β."""
        return [
            replace(fake("hyper-vib", r.seed, lambda b, r=r: r.snr_db + b, task="digits"), config=r)  # type: ignore[misc]
            for r in runs
        ]

    monkeypatch.setattr(claims.ledger, "arrays", arrays)
    monkeypatch.setattr(claims.ledger, "sweep", sweep)
    found = accuracy_elsewhere()
    assert {(run.task, run.method, run.snr_db, name) for run, name in runs} == {
        ("digits", "hyper-vib", 20.0, "elsewhere")
    }
    assert found.snrs == (-5, 5, 15)
    assert found.kept == pytest.approx(np.add.outer(range(5), [0.1, 0.2, 0.3]))
    assert found.reselected == pytest.approx(np.add.outer(range(5), [0.11, 0.27, 0.33]))
    assert found.trained == pytest.approx(np.array([[-4, 6, 16]] * 5))


def test_accuracy_at_its_own_snr_is_that_of_the_record(results: object) -> None:
    run = run_of("hyper-vib", 1e-4, 1.0, epochs=5)
    accuracy = claims._at_snrs(run)["accuracy"]
    assert accuracy.shape == (1 + len(SNRS), 2, 2)
    record = ledger.execute(run, device="cpu")
    own = [[row["metric"] for row in record.rows(split)] for split in ("validation", "test")]
    assert accuracy[0].tolist() == pytest.approx(np.array(own))
    assert accuracy[1, 1, 0] < accuracy[0, 1, 0]  # at −5 dB


def test_the_claims_beside_the_tasks_are_seven_to_nine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "accuracy_elsewhere", partial(elsewhere, 0.1, 0.2))
    found = beside_tasks({"digits": of_sizes("digits", more=1)})
    assert [(one.number, one.outcome) for one in found] == [(7, "holds"), (8, NO), (9, NO)]


def test_claims_are_in_the_paper_s_order_without_those_of_the_book() -> None:
    def everywhere(number: int | None, whole: Outcome) -> Everywhere:
        return Everywhere(number, f"claim {number}", {}, whole)

    def verdict(number: int | None) -> Verdict:
        return Verdict("", number, f"claim {number}", "", "", "holds in part")

    found = {"best": everywhere(10, "holds"), "own": everywhere(None, "holds")}
    found["time"] = everywhere(1, "not testable")
    assert in_order(found, [verdict(8), verdict(None), verdict(7)]) == [
        (1, "claim 1", "not testable"),
        (7, "claim 7", "holds in part"),
        (8, "claim 8", "holds in part"),
        (10, "claim 10", "holds"),
    ]
