"""The objective against independent computations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from hvib.distortions.default import distortion
from hvib.methods.training import RunningObjective
from hvib.objective import Terms, draw_betas, feature_kl, gaussian_kl, terms
from hvib.system import Output


@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 2**31))
def test_kl_agrees_with_torch_distributions(batch: int, n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(batch, n, generator=g, dtype=torch.float64)
    variance = torch.rand(batch, n, generator=g, dtype=torch.float64) * 3 + 1e-3
    p = Independent(Normal(mean, variance.sqrt()), 1)
    q = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(gaussian_kl(mean, variance), kl_divergence(p, q))


def test_kl_agrees_with_monte_carlo_within_its_error() -> None:
    mean = torch.tensor([0.7, -1.2, 0.0], dtype=torch.float64)
    variance = torch.tensor([0.3, 1.5, 0.01], dtype=torch.float64)
    z = mean + variance.sqrt() * torch.randn(200_000, 3, dtype=torch.float64)
    log_ratio = Normal(mean, variance.sqrt()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    samples = log_ratio.sum(-1)
    error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - gaussian_kl(mean, variance)) < 4 * error
    assert error < 0.01


def test_kl_is_zero_only_at_the_prior() -> None:
    assert gaussian_kl(torch.zeros(4), torch.ones(4)) == 0
    assert gaussian_kl(torch.zeros(4), torch.full((4,), 1.1)) > 0
    assert gaussian_kl(torch.full((4,), 0.1), torch.ones(4)) > 0


def test_distortion_is_cross_entropy_for_classes_and_squared_error_for_reals() -> None:
    logits, classes = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    expected = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")
    torch.testing.assert_close(distortion(logits, classes), expected.view(3, 5))
    y = torch.randn(3, 5, 2)
    expected = F.mse_loss(logits[..., :2], y, reduction="none").sum(-1)
    torch.testing.assert_close(distortion(logits[..., :2], y), expected)


def test_targets_in_another_format_are_the_same_targets() -> None:
    logits, classes = torch.randn(3, 5, 7), torch.randint(2, (3, 5))
    for kind in (torch.uint8, torch.int32, torch.bool):
        assert torch.equal(distortion(logits, classes.to(kind)), distortion(logits, classes))
    exact = distortion(logits.double(), classes)
    assert exact.dtype == torch.float64
    y = torch.randn(3, 5, 7).half()
    assert torch.equal(distortion(logits, y.double()), distortion(logits, y))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *(((2, 4), float), ((2, 4, 3), float), ((4, 1), float), ((2, 1, 1), float)),
        *(((2, 4, 1), int), ((4,), int), ((2, 4, 3), int)),
    ],
)
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...], kind: type) -> None:
    targets = torch.zeros(shape, dtype=torch.float32 if kind is float else torch.int64)
    says = (
        r"targets = \(.*\): for predictions \(2, 4, 1\) give classes as int64, \(2, 4\), or reals"
    )
    with pytest.raises(ValueError, match=says):
        distortion(torch.zeros(2, 4, 1), targets)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 1, 8, 8), (2, 6, 5, 3)])
def test_predictions_that_are_no_numbers_of_each_example_are_refused(
    shape: tuple[int, ...],
) -> None:
    moments = torch.ones(2, 6, 4)
    output = Output(torch.zeros(shape), moments, moments, moments)
    with pytest.raises(ValueError, match=r"predictions = \(2, 6.*\(N, k\)"):
        terms(output, torch.zeros(shape))


def test_terms_use_the_variance_of_the_received_feature() -> None:
    mean, variance = torch.randn(2, 6, 4), torch.rand(2, 6, 4)
    logits, y = torch.randn(2, 6, 3), torch.randint(3, (2, 6))
    found = terms(Output(logits, mean, variance, feature_kl(mean, variance + 0.25)), y)
    assert found.rate.shape == (2,)
    torch.testing.assert_close(found.rate, gaussian_kl(mean, variance + 0.25).mean(-1))


def test_objective_is_distortion_plus_beta_times_rate() -> None:
    found = Terms(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]))
    torch.testing.assert_close(found.objective(torch.tensor([0.1, 0.01])), torch.tensor([2.0, 2.2]))


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_each_stratum_of_log_beta_gets_one_draw(count: int, seed: int) -> None:
    betas = draw_betas(1e-6, 1.0, count, torch.Generator().manual_seed(seed))
    position = (betas.double().log10() + 6) / 6 * count - torch.arange(count)
    assert position.min() > -1e-3  # float32 at a stratum's border
    assert position.max() < 1 + 1e-3


def test_draws_are_uniform_in_log_beta() -> None:
    g = torch.Generator().manual_seed(0)
    draws = torch.cat([draw_betas(1e-6, 1.0, 8, g) for _ in range(2000)]).log10().numpy()
    assert np.mean(draws) == pytest.approx(-3, abs=0.02)
    assert np.std(draws) == pytest.approx(6 / math.sqrt(12), abs=0.02)
    share, _ = np.histogram(draws, bins=12, range=(-6, 0))
    assert share.min() > 0.9 * len(draws) / 12


def test_a_range_of_one_point_draws_that_point() -> None:
    betas = draw_betas(1e-3, 1e-3, 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(betas, torch.full((4,), 1e-3))


def test_scale_follows_the_size_of_each_share_and_forgets() -> None:
    scale = RunningObjective(1.0, memory=0.9)
    losses = torch.tensor([100.0, 1.0])
    torch.testing.assert_close(scale.weights(losses), 1 / losses)  # no bias towards the start
    for _ in range(200):
        weights = scale.weights(losses / 4)
    torch.testing.assert_close(weights, 4 / losses)


def test_power_of_the_scale_goes_from_the_mean_objective_to_its_logarithm() -> None:
    losses = torch.tensor([9.0, 4.0])
    for power, expected in ((0.0, [1.0, 1.0]), (0.5, [1 / 3, 1 / 2]), (1.0, [1 / 9, 1 / 4])):
        found = RunningObjective(power).weights(losses)
        torch.testing.assert_close(found, torch.tensor(expected))


def test_weighted_gradient_is_that_of_the_mean_logarithm() -> None:
    w = torch.tensor([2.0, 3.0], requires_grad=True)
    losses = torch.stack([w[0] ** 2 + w[1], w[0] * w[1] ** 3])
    (expected,) = torch.autograd.grad(losses.log().mean(), w, retain_graph=True)
    weights = RunningObjective(1.0).weights(losses)
    assert not weights.requires_grad
    (found,) = torch.autograd.grad((weights * losses).mean(), w)
    torch.testing.assert_close(found, expected)
