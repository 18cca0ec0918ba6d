"""Gates without bounds, and features that close one by one."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hyper import GATES, betas, models, seeds, shaken
from torch import nn

import hvib
from hvib.data import Data
from hvib.gates.closing import FreeGate, Opening, opened
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.system import System, draw_noise
from hvib.tasks import build, make_run


@pytest.mark.parametrize("betas", [(0.0, 1.0), (1.0, 1e-6), (-1.0, 1.0)])
def test_a_range_of_beta_that_is_none_is_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"betas = \(.*0 < low ≤ high"), at(0.1):
        FreeGate(3, betas)(torch.zeros(1))


def test_free_gates_start_as_the_plain_model_and_depend_on_beta_once_moved() -> None:
    plain = models()["mlp"]
    hyper = hyperize(plain, 0, GATES["free"])
    x = torch.randn(4, 1, 8, 8)
    with at(1e-4):
        torch.testing.assert_close(hyper(x), plain(x))
    shaken(hyper)
    with at([1e-6, 1.0]):
        y = hyper(torch.cat([x, x]))
    assert not torch.allclose(y[:4], y[4:], atol=1e-2)


@given(betas, seeds)
def test_free_gate_scales_and_shifts_without_bounds(beta: float, seed: int) -> None:
    torch.manual_seed(seed)
    gate = FreeGate(3, (1e-5, 1e-1), hidden=4)
    nn.init.normal_(gate.out.weight)
    nn.init.normal_(gate.out.bias)
    t = (math.log(beta) - math.log(1e-3)) / math.log(100)  # −1 to 1 over the range
    features = torch.tanh(gate.u * t + gate.v) / 2
    expected = gate.out.weight @ features + gate.out.bias
    with at(beta):
        scale, shift = gate.modulation(torch.tensor([beta]).log())
    torch.testing.assert_close(scale[0], 1 + expected[:3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shift[0], expected[3:], rtol=1e-4, atol=1e-4)


def system(features: int = 6) -> System:
    run = make_run("digits", "vib", betas=(1e-3,), features=features, snr_db=20.0)
    return build(run)


def passed(model: System, x: torch.Tensor, beta: float) -> Any:
    noise = draw_noise(1, len(x), model.features, torch.Generator().manual_seed(3))
    with at(beta):
        return model(x[None], noise)


@given(st.floats(1e-9, 1e2), st.floats(0.1, 20), st.floats(-2, 2))
def test_opening_is_a_sigmoid_of_standardised_log_beta(beta: float, k: float, c: float) -> None:
    opening = Opening(1, (1e-4, 1e-2), copies=2, first=c, steepness=k)
    t = (math.log(beta) - math.log(1e-3)) / math.log(10)
    found = opening(torch.tensor([beta], dtype=torch.float64).log())
    expected = 1 / (1 + math.exp(min(k * (t - c), 700)))
    assert found.tolist()[0] == pytest.approx([expected] * 2, rel=1e-3, abs=1e-6)


def test_openings_close_features_one_by_one_from_the_last_to_the_first() -> None:
    opening = Opening(16, (1e-6, 1.0))
    open_features = (opening(torch.logspace(-6, 0, 25).log()) > 0.5).sum(1).tolist()
    assert open_features == sorted(open_features, reverse=True)
    assert open_features[0] >= 15
    assert 1 <= open_features[-1] <= 3
    assert len(set(open_features)) > 10
    a = opening(torch.tensor([1e-3]).log())[0]
    assert torch.equal(a.argsort(descending=True), torch.arange(16))


def test_a_closed_feature_is_the_prior_and_does_not_reach_the_network() -> None:
    model = opened(system(), (1e-6, 1.0))
    for m in model.modules():
        if isinstance(m, Opening):
            nn.init.constant_(m.c[2:], -50.0)
    x = torch.rand(5, 1, 8, 8)
    output = passed(model, x, 1e-3)
    torch.testing.assert_close(output.mean[..., 2:], torch.zeros(1, 5, 4))
    torch.testing.assert_close(output.variance[..., 2:], torch.ones(1, 5, 4))
    assert output.mean[..., :2].abs().min() > 0
    received = torch.randn(5, 6)
    other = torch.cat([received[:, :2], torch.randn(5, 4)], 1)
    with at(1e-3):
        assert torch.equal(model.network(received), model.network(other))


@given(betas, seeds)
@settings(max_examples=15)
def test_folded_openings_give_the_open_system_s_outputs(beta: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = opened(hyperize(system(), 0, GATES["free"]), (1e-6, 1.0))
    shaken(model)
    x = torch.rand(5, 1, 8, 8)
    plain = fold(model, beta)
    assert not any(isinstance(m, Gate | Gated) for m in plain.modules())
    for found, expected in zip(passed(plain, x, beta), passed(model, x, beta), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_folded_opening_is_frozen_if_it_was() -> None:
    model = opened(hyperize(system()), (1e-6, 1.0))
    for m in model.modules():
        if isinstance(m, Opening):
            m.requires_grad_(False)
    folded = fold(model, 1e-3)
    scales = [p for name, p in folded.named_parameters() if name.endswith(".s")]
    assert [p.requires_grad for p in scales] == [False, False]
    assert any(p.requires_grad for p in folded.parameters())


def test_openings_of_a_system_in_double_precision_train_in_it(digits: Data) -> None:
    plain = hvib.System(hvib.mlp([64, 16]), hvib.mlp([8, 10]), hvib.AWGN(20), 8).double()
    ordered = hvib.hyperize(plain, method="ordered", betas=(1e-6, 1.0))
    assert {parameter.dtype for parameter in ordered.parameters()} == {torch.float64}
    course = hvib.fit(ordered, digits, epochs=1, batch_size=128)
    assert course.steps == 9
