"""Flexible VIB: a plain answer, and its code in closed form."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hvib import AWGN, Data, Split, System, at, evaluate, fit, fold, mlp
from hvib.methods import METHODS, flexible
from hvib.methods.answer import RealAnswer, answer_of, answers, simplex
from hvib.methods.flexible import Codebook, closed_form
from hvib.methods.training import training_of
from hvib.objective import terms
from hvib.system import draw_noise
from hvib.tasks import load, make_run
from hvib.theory.linear import joint_response

SMOKE = make_run("digits", "flexible-vib", "smoke", epochs=20)


def built(name: str) -> System:
    """The digits' system of a method, not trained."""
    system = METHODS.find(name).build(replace(SMOKE, method=name))
    assert isinstance(system, System)
    return system


@pytest.mark.parametrize("noise_variance", [1e-3, 0.01, 0.5, 2.0])
@pytest.mark.parametrize("power", [0.5, 3.0, 800.0])
def test_the_code_is_that_of_theorem_2(power: float, noise_variance: float) -> None:
    betas = np.logspace(-6, 4, 60)
    code = closed_form(torch.tensor([power]), torch.tensor(betas), noise_variance)
    exact = joint_response(power, betas, noise_variance)
    v = code.decoder[:, 0].numpy()
    np.testing.assert_allclose(v**2 * power, exact.decoder_power, atol=1e-12, rtol=1e-9)
    np.testing.assert_allclose((code.gain[:, 0].numpy() * v), exact.gain, atol=1e-12)
    np.testing.assert_allclose(code.gain[:, 0].numpy() ** 2, exact.sent_power, atol=1e-12)
    s = code.variance[:, 0].numpy() + noise_variance
    np.testing.assert_allclose(s, np.maximum(exact.received_variance, 0), atol=2e-6)


@pytest.mark.parametrize("sigma2", [1e-3, 0.01, 0.3])
@pytest.mark.parametrize("beta", [1e-5, 1e-2, 0.2, 0.9])
def test_for_classes_the_numbers_are_flexible_vibs(beta: float, sigma2: float) -> None:
    code = closed_form(torch.full((9,), 0.5), torch.tensor([beta], dtype=torch.float64), sigma2)
    s = max(beta, sigma2)
    a = math.sqrt(beta / s) - beta
    if a <= 0:
        assert code.gain.abs().max() == 0
        return
    assert code.gain[0, 0].item() == pytest.approx(math.sqrt(a) * math.sqrt(s / beta), rel=1e-6)
    assert code.decoder[0, 0].item() == pytest.approx(math.sqrt(a), rel=1e-6)
    if beta >= sigma2:  # above the channel's noise this is √a / (a + β)
        assert code.gain[0, 0].item() == pytest.approx(math.sqrt(a) / (a + beta), rel=1e-6)


def test_a_channel_of_0_db_or_worse_collapses_earlier() -> None:
    code = closed_form(torch.tensor([0.5]), torch.tensor([0.49, 0.51]), 2.0)
    assert code.gain[0, 0] > 0
    assert code.gain[1, 0] == 0


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_simplex_is_an_orthonormal_basis_of_the_complement_of_ones(classes: int) -> None:
    q = simplex(classes)
    torch.testing.assert_close(q.T @ q, torch.eye(classes - 1), atol=1e-6, rtol=0)
    assert q.sum(0).abs().max() < 1e-6


def test_the_cross_entropy_is_half_the_squared_error_to_second_order() -> None:
    d, size = 10, 1e-2
    g = size * torch.randn(500, d - 1, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(500) % d
    q = simplex(d).double()
    target = math.sqrt(d) * q[y]
    exact = F.cross_entropy(math.sqrt(d) * g @ q.T, y, reduction="none")
    quadratic = math.log(d) + 0.5 * ((g - target).square().sum(1) - target.square().sum(1))
    # The next term is of third order in g.
    assert (exact - quadratic).abs().max() < 10 * size**3 * d**1.5
    assert (exact - math.log(d)).abs().max() > 100 * (exact - quadratic).abs().max()


def linear_answer(count: int = 20_000) -> tuple[System, Split, float]:
    """A system whose answer is exact: y = 3 + 5 x."""
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(1))
    y = 3 + 5 * x
    device, network = nn.Linear(1, 8), nn.Linear(4, 1)
    with torch.no_grad():
        for p in (*device.parameters(), *network.parameters()):
            p.zero_()
        device.weight[0, 0], network.weight[0, 0], network.bias[0] = 1.0, 5.0, 3.0
    made = flexible.flexible(System(device, network, AWGN(20.0), 4), classes=False)
    answer = answers(made)
    answer.learn(answer.infer(x), y)  # counts the targets' mean and variance
    return made, Split(x, y), float(y.var(unbiased=False))


def test_real_targets_reach_theorem_2() -> None:
    system, split, power = linear_answer()
    betas = [1e-2, 1.0, 10.0, 40.0]
    rows = evaluate(system, split, betas, draws=4)
    exact = joint_response(power, np.array(betas), 0.01)
    for row, objective, rate in zip(rows, exact.objective, exact.rate, strict=True):
        assert row["objective"] == pytest.approx(objective, rel=0.02)
        assert row["rate_nats"] == pytest.approx(rate, rel=0.02)


def test_a_real_answer_counts_its_targets() -> None:
    answer = RealAnswer(System(nn.Linear(1, 4), nn.Linear(2, 2), AWGN(20.0), 2), 2)
    y = torch.randn(600, 2, generator=torch.Generator().manual_seed(0)) * 7 + 100
    assert answer.spread.tolist() == [1, 1]
    for part in y.split(100):
        answer.learn(torch.zeros(100, 2), part)
    torch.testing.assert_close(answer.centre.float(), y.mean(0))
    torch.testing.assert_close(answer.spread.float(), y.std(0, unbiased=False))
    torch.testing.assert_close(answer.expand(answer.whiten(y)), y)


def test_no_gradient_of_the_objective_reaches_the_answer() -> None:
    system = built("flexible-vib")
    x, y = torch.rand(1, 32, 1, 8, 8), torch.arange(32)[None] % 10
    with at(0.01):
        output = system(x, draw_noise(1, 32, 64, torch.Generator().manual_seed(0)))
    assert not terms(output, y).objective(torch.tensor([0.01])).requires_grad
    answers(system).loss(y[0]).backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in system.parameters())


@pytest.fixture(scope="module")
def fitted() -> dict[str, System]:
    systems = {}
    for name in ("flexible-vib", "flexible-vib-refit"):
        run = replace(SMOKE, method=name)
        systems[name] = built(name)
        fit(systems[name], load("digits"), run)
    return systems


def test_one_plain_run_answers_every_beta(fitted: dict[str, System]) -> None:
    rows = evaluate(fitted["flexible-vib"], load("digits").test, SMOKE.betas)
    assert rows[0]["metric"] > 0.9
    assert rows[0]["rate_nats"] > rows[6]["rate_nats"] > rows[-1]["rate_nats"] >= 0
    assert rows[-1]["rate_nats"] < 0.05  # at β = 1 nothing is sent
    assert rows[-1]["objective"] == pytest.approx(math.log(10), rel=0.02)


def test_it_answers_beta_beyond_the_range_without_a_warning(fitted: dict[str, System]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(fitted["flexible-vib"], load("digits").test, [1e-9, 5.0], draws=1)
    gated = METHODS.find("hyper-vib").build(make_run("digits", "hyper-vib", "smoke"))
    with pytest.warns(UserWarning, match="made for"):
        evaluate(gated, load("digits").test, [5.0], draws=1)


def test_the_refit_lowers_the_objective_on_validation(fitted: dict[str, System]) -> None:
    plain, other = (
        evaluate(system, load("digits").validation, SMOKE.betas, draws=8)
        for system in fitted.values()
    )
    objective = [[row["objective"] for row in rows] for rows in (plain, other)]
    assert all(b <= a * 1.02 for a, b in zip(*objective, strict=True))
    assert any(b < a * 0.9 for a, b in zip(*objective, strict=True))


def test_the_refit_is_interpolated_in_log_beta() -> None:
    plain = System(nn.Linear(3, 8), nn.Linear(4, 2), AWGN(20.0), 4)
    book = Codebook(answer_of(plain, classes=True), 0.01, (1e-4, 1e-2))
    book.get_buffer("corrections")[:] = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, 0.5]])
    for beta, share in ((1e-5, 0.0), (1e-4, 0.0), (1e-3, 0.5), (1e-2, 1.0), (0.1, 1.0)):
        at_beta = torch.tensor([beta], dtype=torch.float64)
        code, raw = book.at(at_beta.log()), closed_form(torch.tensor([0.5]), at_beta, 0.01)
        assert (code.gain / raw.gain).log().item() == pytest.approx(2 * share, abs=1e-6)
        assert (code.decoder / raw.decoder).log().item() == pytest.approx(share / 2, abs=1e-6)


def test_folded_it_answers_the_same(fitted: dict[str, System]) -> None:
    for system in fitted.values():
        folded = fold(system, 1e-3)
        x = load("digits").test.first(16).x[None]
        noise = draw_noise(1, 16, 64, torch.Generator().manual_seed(0))
        with at(1e-3):
            expected = system(x, noise)
        found = folded(x, noise)
        torch.testing.assert_close(found.prediction, expected.prediction)
        torch.testing.assert_close(found.variance, expected.variance)


def test_the_weights_carry_what_the_closed_form_needs() -> None:
    system, split, _ = linear_answer(500)
    other = flexible.flexible(
        System(nn.Linear(1, 8), nn.Linear(4, 1), AWGN(20.0), 4), classes=False
    )
    other.load_state_dict(system.state_dict())
    rows = [evaluate(one, split, [0.1, 10.0])[1]["objective"] for one in (system, other)]
    assert rows[0] == rows[1]


def test_readers_fit_a_system_of_their_own() -> None:
    x = torch.randn(512, 5, generator=torch.Generator().manual_seed(0))
    y = x.sum(1, keepdim=True)
    plain = System(mlp([5, 32, 8]), mlp([4, 32, 1]), AWGN(20.0), 4)
    system = flexible.flexible(plain, classes=False)
    # It says its method itself, and β need not be given: the training has none.
    fit(system, Split(x, y), epochs=60, batch_size=128, learning_rate=1e-2)
    assert evaluate(system, Split(x, y), [1e-4])[0]["metric"] < 0.3 * float(y.var())


def test_a_system_made_with_betas_is_refitted_there() -> None:
    data, betas = load("digits"), (1e-3, 0.03, 0.3)
    plain = System(mlp([64, 128, 2 * 9]), mlp([9, 10]), AWGN(20.0), 9)
    system = flexible.flexible(plain, classes=True, betas=betas)
    fit(system, data, epochs=15, batch_size=128)
    found = dict(system.named_buffers())["device.code.gate.codebook.corrections"]
    assert found.shape == (3, 3)
    assert (found.abs().amax(1) > 0.01).all()
    rows = evaluate(system, data.test)  # over the range that it was refitted in
    assert (rows[0]["beta"], rows[-1]["beta"]) == (betas[0], betas[-1])


def always_right(betas: tuple[float, ...] = ()) -> tuple[System, Split]:
    """Flexible VIB of examples that show their class, and no training."""
    device = nn.Linear(10, 18, bias=False)
    with torch.no_grad():
        device.weight[:9] = math.sqrt(10) * simplex(10).T
    plain = System(device, nn.Linear(9, 10), AWGN(20.0), 9)
    y = torch.arange(500) % 10
    return flexible.flexible(plain, classes=True, betas=betas), Split(F.one_hot(y, 10).float(), y)


def test_a_refit_on_right_answers_alone_keeps_the_closed_form() -> None:
    # But for the last β all are answered rightly in all draws, so that nothing holds the decoder.
    betas = (1e-5, 1e-4, 1e-3, 1e-2, 0.1)
    (plain, split), (system, _) = always_right(), always_right(betas)
    flexible.refit(system, Data(split, split, split), replace(SMOKE, method="flexible-vib-refit"))
    closed, refitted = (
        [r["objective"] for r in evaluate(s, split, betas, draws=16)] for s in (plain, system)
    )
    assert all(b < 1.1 * a for a, b in zip(closed, refitted, strict=True))
    assert refitted[-1] < 0.6 * closed[-1]


def test_wrong_use_is_refused() -> None:
    plain = System(nn.Linear(3, 4), nn.Linear(2, 10), AWGN(20.0), 2)
    with pytest.raises(ValueError, match=r"features = 2.*takes 9"):
        flexible.flexible(plain, classes=True)
    for betas in ((0.1, 0.01), (0.1, 0.1), (0.0, 0.1)):
        with pytest.raises(ValueError, match="ascending"):
            flexible.flexible(plain, classes=False, betas=betas)
    with pytest.raises(ValueError, match=r"betas = \(\).*made without any"):
        flexible.refit(flexible.flexible(plain, classes=False), load("digits"), SMOKE)
    with pytest.raises(ValueError, match="sends no answer"):
        answers(plain)
    system = METHODS.find("flexible-vib").build(SMOKE)
    with pytest.raises(ValueError, match=r"method = 'flexible-vib'.*hvib\.fit"):
        training_of(system)
    loader = [(torch.rand(64, 1, 8, 8), torch.arange(64) % 10)] * 2
    refitted = METHODS.find("flexible-vib-refit").build(replace(SMOKE, method="flexible-vib-refit"))
    with pytest.raises(ValueError, match=r"method = 'flexible-vib-refit'.*validation"):
        fit(refitted, loader, epochs=1)


def test_mini_batches_teach_the_answer_too() -> None:
    train = load("digits").train
    loader = list(zip(train.x.split(128), train.y.split(128), strict=True))
    system = METHODS.find("flexible-vib").build(SMOKE)
    fit(system, loader, epochs=20)
    assert evaluate(system, load("digits").test, [1e-6])[0]["metric"] > 0.8


def test_data_of_one_split_serve_the_refit() -> None:
    run = replace(SMOKE, method="flexible-vib-refit", epochs=1, betas=(1e-3, 1e-2))
    system = METHODS.find("flexible-vib-refit").build(run)
    data = load("digits")
    fit(system, Data(data.train, data.validation, data.test), run)
    assert torch.isfinite(
        dict(system.named_buffers())["device.code.gate.codebook.corrections"]
    ).all()


def test_the_refit_finds_what_a_search_over_all_three_numbers_finds() -> None:
    plain = System(nn.Linear(3, 128), nn.Linear(64, 10), AWGN(20.0), 64)
    answer = answer_of(plain, classes=True)
    chance = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 10
    target = math.sqrt(10) * simplex(10)[y].double()
    wrong = torch.rand(400, generator=chance) < 0.05
    h = torch.where(wrong[:, None], target.roll(1, 0), target)
    noise = torch.randn(2, *h.shape, generator=chance, dtype=torch.float64)
    cost = flexible._Cost(answer, plain.distortion, 0.01, h, y.repeat(2), noise)
    latest = torch.zeros(3, dtype=torch.float64)
    for beta in (3e-3, 1e-2, 3e-2):
        at_beta = torch.tensor([beta], dtype=torch.float64)
        code = flexible.Code(*(part[0] for part in closed_form(answer.power, at_beta, 0.01)))
        latest = flexible._best_factors(cost, code, beta, latest)
        distortion, rate = cost.of(code, latest)
        least = math.inf
        with torch.no_grad():
            for gain in (0.3, 0.5, 0.7, 0.9):
                for variance in (0.01, 0.1, 0.3, 0.6):
                    for decoder in (0.5, 0.8, 1.2, 1.8):
                        numbers = torch.tensor([gain, variance, decoder], dtype=torch.float64)
                        own = torch.stack([part[0] for part in code])
                        found = cost.of(code, (numbers / own).log())
                        least = min(least, float(found[0] + beta * found[1]))
        assert float(distortion + beta * rate) <= least
