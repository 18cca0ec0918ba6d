"""Hyper-VIB behind a plain answer: a gated code, or the closed form, as validation has it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hvib import AWGN, Split, System, at, evaluate, fit, fold, mlp
from hvib.hyper import hyperize
from hvib.methods import METHODS
from hvib.methods.answer import answers
from hvib.methods.answered import Choice, Mask, Share, answered
from hvib.methods.flexible import flexible
from hvib.objective import terms
from hvib.system import draw_noise
from hvib.tasks import load, make_run

RUN = make_run("digits", "hyper-vib-answer", "smoke", epochs=30)


def choice_of(system: System) -> Choice:
    return next(module for module in system.modules() if isinstance(module, Choice))


@pytest.fixture(scope="module")
def fitted() -> System:
    system = METHODS.find(RUN.method).build(RUN)
    assert isinstance(system, System)
    fit(system, load("digits"), RUN)
    return system


def test_validation_chooses_the_code_at_each_beta(fitted: System) -> None:
    kept = choice_of(fitted).get_buffer("gated").clone()
    split = load("digits").validation
    found = {}
    for gated in (0.0, 1.0):
        choice_of(fitted).get_buffer("gated").fill_(gated)
        rows = evaluate(fitted, split, RUN.betas, draws=RUN.draws)
        found[gated] = torch.tensor([row["objective"] for row in rows])
    choice_of(fitted).get_buffer("gated").copy_(kept)
    assert kept.tolist() == (found[1.0] <= found[0.0]).float().tolist()
    assert 0 < kept.sum() < len(kept)  # each of the two is the better one somewhere


def test_the_code_not_in_use_costs_no_rate_and_says_nothing(fitted: System) -> None:
    x = load("digits").test.first(8).x
    noise = draw_noise(1, 8, 64, torch.Generator().manual_seed(0))
    kept = choice_of(fitted).get_buffer("gated").clone()
    for gated, used in ((1.0, slice(0, 16)), (0.0, slice(16, 25))):
        choice_of(fitted).get_buffer("gated").fill_(gated)
        with at(1e-3):
            output = fitted(x[None], noise)
            kl = output.rates[0]
            other = noise.clone()
            idle = [k for k in range(64) if not used.start <= k < used.stop]
            other[..., idle] = 7.0  # noise on what carries nothing
            moved = fitted(x[None], other)
        assert kl[:, idle].max() < 1e-5
        assert kl[:, used].max() > 0.5
        torch.testing.assert_close(moved.prediction, output.prediction)
    choice_of(fitted).get_buffer("gated").copy_(kept)


def test_it_is_flexible_vib_where_the_closed_form_is_in_use() -> None:
    plain = METHODS.find("vib").build(replace(RUN, method="vib", betas=(1e-3,)))
    assert isinstance(plain, System)
    system = answered(plain, RUN.betas, 0, classes=True).eval()
    other = flexible(plain, classes=True).eval()
    choice_of(system).get_buffer("gated").zero_()
    split = load("digits").test
    for a, b in zip(*(evaluate(s, split, RUN.betas) for s in (system, other)), strict=True):
        assert a["rate_nats"] == pytest.approx(b["rate_nats"], rel=1e-4, abs=1e-4)
        # The noise of other features is another draw.
        assert a["distortion"] == pytest.approx(b["distortion"], rel=0.05)


def test_at_other_beta_it_takes_the_choice_of_the_nearest() -> None:
    choice = Choice((1e-4, 1e-2, 1.0))
    choice.get_buffer("gated")[:] = torch.tensor([0.0, 1.0, 0.0])
    betas = torch.tensor([1e-6, 9e-4, 1.1e-3, 0.09, 0.11, 50.0])
    assert choice.at(betas.log())[:, 0].tolist() == [0, 0, 1, 1, 0, 0]


def test_masks_split_the_features() -> None:
    choice = Choice((1e-2, 1.0))
    choice.get_buffer("gated")[:] = torch.tensor([1.0, 0.0])
    scale, shift = Mask(choice, 2, 1, 4, -0.5).modulation(torch.tensor([1e-2, 1.0]).log())
    assert scale.tolist() == [[1, 1, 0, 0] * 2, [0, 0, 1, 0] * 2]
    assert shift.tolist() == [[0] * 4 + [0, 0, -0.5, -0.5], [0] * 4 + [-0.5, -0.5, 0, -0.5]]
    said = [Share(choice, gated=side).modulation(torch.tensor([0.0]))[0] for side in (True, False)]
    assert [one.item() for one in said] == [0, 1]


def test_the_objective_teaches_the_code_and_not_the_answer() -> None:
    system = METHODS.find(RUN.method).build(RUN)
    assert isinstance(system, System)
    system.train()
    x, y = torch.rand(8, 4, 1, 8, 8), torch.arange(32).view(8, 4) % 10
    betas = torch.logspace(-6, 0, 8)
    with at(betas):
        output = system(x, draw_noise(8, 4, 64, torch.Generator().manual_seed(0)))
        terms(output, y).objective(betas).sum().backward()
    of_answer = {id(p) for p in answers(system).parameters()}
    for name, p in system.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 0)
        if id(p) in of_answer:
            assert not reached, name
        elif name.endswith("layer.weight"):
            assert reached, name
    assert answers(system).loss(y.flatten()).requires_grad


def test_folded_it_answers_the_same(fitted: System) -> None:
    x = load("digits").test.first(16).x[None]
    noise = draw_noise(1, 16, 64, torch.Generator().manual_seed(0))
    for beta in (RUN.betas[0], RUN.betas[8]):
        with at(beta):
            expected = fitted(x, noise)
        found = fold(fitted, beta)(x, noise)
        torch.testing.assert_close(found.prediction, expected.prediction, atol=1e-4, rtol=1e-4)


def test_it_serves_real_targets() -> None:
    run = make_run("bluetooth", "hyper-vib-answer", "smoke")
    system = METHODS.find(run.method).build(run)
    assert isinstance(system, System)
    x = torch.randn(512, 160, generator=torch.Generator().manual_seed(0))
    split = Split(x, 50 + 20 * x[:, :1])
    fit(system, split, epochs=30, method=run.method, batch_size=128)
    rows = evaluate(system, split, [1e-4, 1e-1])
    assert rows[0]["metric"] < 0.3 * float(split.y.var())


def test_fit_knows_the_method_of_a_readers_own_system() -> None:
    x = torch.randn(512, 5, generator=torch.Generator().manual_seed(0))
    split = Split(x, (x[:, 0] > 0).long())
    system = answered(
        System(mlp([5, 16, 8]), mlp([4, 2]), AWGN(20.0), 4), (1e-3, 0.1), 0, classes=True
    )
    fit(system, split, epochs=60, batch_size=128, learning_rate=1e-2)
    rows = evaluate(system, split)  # at the grid that it was made for
    assert rows[0]["metric"] > 0.9
    with pytest.raises(ValueError, match=r"betas = \(0\.1, 0\.001\).*ascending"):
        answered(System(mlp([5, 8]), mlp([4, 2]), AWGN(20.0), 4), (0.1, 1e-3), 0, classes=True)


def test_too_few_features_are_refused() -> None:
    plain = System(nn.Linear(3, 18), nn.Linear(9, 10), AWGN(20.0), 9)
    with pytest.raises(ValueError, match=r"features = 9.*both codes"):
        answered(plain, (1e-3, 1.0), 0, classes=True)
    with pytest.raises(ValueError, match="gated already"):
        hyperize(METHODS.find(RUN.method).build(RUN))
