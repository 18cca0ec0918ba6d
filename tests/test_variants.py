"""Variants of Hyper-VIB: each differs from it in the one choice it names."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hvib.book.ablations import choices
from hvib.evaluation import evaluate
from hvib.gates.closing import FreeGate, Opening, standardised
from hvib.hyper import Gate, Gated, at, fold
from hvib.methods import METHODS
from hvib.methods.variants import Film, Network, Softplus, Standardised, UsualStart
from hvib.run import Run
from hvib.system import System
from hvib.tasks import build, load, make_run
from hvib.train import fit

RUN = make_run("digits", "hyper-vib", "smoke")


ALL = {f"{group}: {name}": r for group, found in choices(RUN).items() for name, r in found.items()}


ENDS = (1e-6, 1.0)


def gate(kind: type[Standardised | Network], size: int = 3) -> Gate:
    return kind(size, betas=ENDS)


@pytest.mark.parametrize("name", ALL)
def test_a_variant_trains_and_folds(name: str) -> None:
    run = ALL[name]
    system = METHODS.find(run.method).build(run)
    data = load("digits")

    def objectives() -> np.ndarray:
        rows = evaluate(system, data.test, (1e-4, 1e-2, 1.0), draws=1)
        return np.array([row["objective"] for row in rows])

    before = objectives()
    fit(system, data, replace(run, epochs=15, learning_rate=1e-2), device="cpu")
    assert (objectives() < 0.95 * before).any()  # a uniform β hardly sees the small ones
    x, noise = data.test.x[None, :5], torch.randn(2, 1, 5, run.features)
    with at(1e-2), torch.no_grad():
        found = system(x, noise).prediction
        torch.testing.assert_close(
            fold(system, 1e-2)(x, noise).prediction, found, rtol=1e-3, atol=1e-4
        )


def test_inputs_are_standardised_over_the_range() -> None:
    made = gate(Standardised)
    assert isinstance(made, Standardised)
    t = standardised(torch.tensor(ENDS).log(), ENDS)
    torch.testing.assert_close(t, torch.tensor([[-1.0], [1.0]]))
    expected = torch.sigmoid(made.v - made.u)
    torch.testing.assert_close(made(torch.tensor([ENDS[0]]).log())[0], expected)


@pytest.mark.parametrize("kind", [Softplus, Film, Network])
def test_unbounded_scales_start_near_one(kind: type[Standardised | Network]) -> None:
    scale, shift = gate(kind).modulation(torch.tensor([1e-6, 1e-3, 1.0]).log())
    assert shift is None or not shift.any()
    assert float((scale.detach() - 1).abs().max()) < 0.11


def test_film_moves_what_it_scales() -> None:
    made = gate(Film)
    assert isinstance(made, Film)
    torch.nn.init.ones_(made.shift)
    shift = made.modulation(torch.tensor([*ENDS]).log())[1]
    torch.testing.assert_close(shift, torch.tensor([[0.0] * 3, [2.0] * 3]))


def test_usual_start_is_that_of_a_linear_layer() -> None:
    made = UsualStart(4000)
    for part in (made.u, made.v):
        assert float(part.detach().abs().max()) <= 1
        assert float(part.detach().std()) == pytest.approx(1 / math.sqrt(3), rel=0.05)


def test_plain_heads_are_the_last_layers() -> None:
    def kinds(run: Run) -> list[bool]:
        system = METHODS.find(run.method).build(run)
        assert isinstance(system, System)
        parts = [*system.device.children(), *system.network.children()]
        return [isinstance(m, Gated) for m in parts if not isinstance(m, nn.Flatten | nn.ReLU)]

    assert kinds(RUN) == [True] * 6
    plain = kinds(ALL["last layers: plain"])
    assert plain == [True, True, False, True, True, False]


def test_rising_draws_are_dense_where_beta_is_large() -> None:
    draw = METHODS.find("hyper-vib-rising").draw_betas
    betas = draw(1e-6, 1.0, 4000, torch.Generator().manual_seed(0))
    assert 1e-6 <= betas.min() < betas.max() <= 1
    assert (betas > 1e-3).float().mean() == pytest.approx(3 / 4, abs=0.01)
    assert (betas > 10**-1.5).float().mean() == pytest.approx(7 / 16, abs=0.01)


def test_uniform_draws_are_mostly_large() -> None:
    draw = METHODS.find("hyper-vib-uniform").draw_betas
    betas = torch.stack([draw(1e-6, 1.0, 8, torch.Generator().manual_seed(k)) for k in range(200)])
    assert float(betas.mean()) == pytest.approx(0.5, abs=0.01)
    assert float((betas > 0.125).float().mean()) == pytest.approx(7 / 8)
    assert ((betas * 8).long() == torch.arange(8)).all()


def test_variants_are_built_from_one_plain_system() -> None:
    plain = dict(build(RUN).named_parameters())
    for run in ALL.values():
        if run.method == "hyper-vib-full":
            continue  # it keeps none of the plain weights
        system = METHODS.find(run.method).build(run)
        weights = [p for name, p in system.named_parameters() if "gate." not in name]
        for mine, theirs in zip(weights, plain.values(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("name", "opens", "like"),
    [("free-opened", True, "free"), ("ordered-unopened", False, "ordered")],
)
def test_the_step_to_ordered_in_two_halves(name: str, opens: bool, like: str) -> None:
    half, whole = METHODS.find(f"hyper-vib-{name}"), METHODS.find(f"hyper-vib-{like}")
    assert (half.power, half.draw_betas) == (whole.power, whole.draw_betas)
    system = half.build(RUN)
    assert any(isinstance(m, Opening) for m in system.modules()) is opens
    assert any(isinstance(m, FreeGate) for m in system.modules())
