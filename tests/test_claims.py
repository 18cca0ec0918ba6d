"""The claims that no task's curves decide, and all ten in order."""

import pytest
from made_up import fake, vib

from hvib.book import claims
from hvib.book.claims import (
    Added,
    added_parameters,
    beside_tasks,
    compact,
    in_order,
    linear_case,
)
from hvib.book.curves import Curve, Key, collect
from hvib.book.verdict import Outcome, Verdict
from hvib.book.verdicts import Everywhere
from hvib.methods import METHODS
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


def test_the_claims_beside_the_tasks_are_seven_to_nine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.state_results, "recorded", lambda cases: {})
    found = beside_tasks({"digits": of_sizes("digits", more=1)})
    assert [(one.number, one.outcome) for one in found] == [
        (7, "holds"),
        (8, NO),
        (9, "not testable"),
    ]


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
