"""What the book varies: a choice of Hyper-VIB at a time, and its own settings."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from made_up import BETAS, fake, vib
from torch.distributions import Normal, kl_divergence

from hvib.book import ablations
from hvib.book.ablations import choices, one_group, other_settings, outcomes
from hvib.book.curves import PAPER, VIB, collect
from hvib.book.plan import plan
from hvib.channel import AWGN
from hvib.ledger import Record
from hvib.objective import feature_kl
from hvib.run import Run
from hvib.tasks import make_run

RUN = make_run("digits", "hyper-vib", "smoke")


def test_the_first_of_each_group_is_the_paper_s_and_no_other() -> None:
    for found in choices(RUN).values():
        first, *others = found.values()
        assert first == RUN
        assert RUN not in others
        assert len(set(others)) == len(others)


def test_settings_change_both_methods_alike_and_the_first_is_the_book_s() -> None:
    first, *others = other_settings((0, 1), "smoke").values()
    assert first == [
        r
        for r in plan("digits", "smoke", seeds=(0, 1))
        if "ordered" not in r.method and r.method != "vib-batched"
    ]
    for runs in (first, *others):
        assert len(runs) == 2 * (13 + 2)
        assert len({run.snr_db for run in runs}) == len({run.network for run in runs}) == 1
        assert len({run.method for run in runs}) == 2
    assert (
        len({run.slug + run.method for runs in (first, *others) for run in runs}) == 6 * 4 + 4 * 26
    )


@pytest.mark.parametrize("variance", [0.1, 10.0])
def test_a_prior_s_variance_is_a_shift_of_the_snr(variance: float) -> None:
    g = torch.Generator().manual_seed(0)
    mean, theta2 = torch.randn(7, generator=g), torch.rand(7, generator=g)
    noise = AWGN(20.0).variance
    received = Normal(mean, (theta2 + noise).sqrt())
    expected = kl_divergence(received, Normal(0.0, variance**0.5))
    shifted = AWGN(20.0 + 10 * math.log10(variance)).variance
    found = feature_kl(mean / variance**0.5, theta2 / variance + shifted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_each_variant_is_compared_over_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[dict[str, Any]] = []

    def swept(runs: Iterable[Run], **given: Any) -> list[Record]:
        """Records whose objective tells the run's epochs, gate, shares and seed."""
        settings.append(given)

        def cost(run: Run) -> float:
            more = 5 * (run.method == "hyper-vib-softplus") + 7 * (run.shares == 1)
            return 1 + run.epochs / 10 + more + run.seed

        made = []
        for run in runs:
            record = fake(run.method, run.seed, vib, objective=lambda b, r=run: cost(r))  # type: ignore[misc]
            made.append(replace(record, config=run, epochs=run.epochs))
        return made

    monkeypatch.setattr(ablations, "sweep", swept)
    (group,) = [one_group([replace(RUN, seed=seed) for seed in (1, 0)], device="cpu")]
    assert [(curve.key, curve.seed) for curve in group] == [(PAPER, 0), (PAPER, 1)]

    grid = [fake("vib", s, vib, objective=lambda b: 1.0, betas=(b,)) for s in (0, 1) for b in BETAS]
    runs = [replace(RUN, seed=seed) for seed in (0, 1)]
    found = outcomes(runs, collect(grid)[VIB], fresh=True)
    assert settings[0] == {"fresh": False, "device": "cpu"}
    assert settings[-1] == {"fresh": True, "device": "auto"}
    assert {group: list(of) for group, of in found.items()} == {
        group: list(of) for group, of in choices(RUN).items()
    }
    epochs = [float(one.test.mean) for one in found["epochs"].values()]
    assert epochs == pytest.approx([0.7, 0.6, 0.9, 1.3])  # smoke has 2; seed 1 costs 1 more
    assert found["gate"]["softplus(u t + v)"].test.mean == pytest.approx(5.7)
    assert found["β in a step"]["one"].test.mean == pytest.approx(7.7)
    others = outcomes(runs, collect(grid)[VIB], skip=1)
    assert list(others["epochs"]) == ["½×", "2×", "4×"]
    assert list(others["last layers"]) == ["plain"]
