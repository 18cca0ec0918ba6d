"""The tasks' networks: sizes, starts, norms, limited power."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_cifar10
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hvib.data import reals
from hvib.hyper import Gated, at, fold, hyperize
from hvib.ranging.simulate import LINKS, examples, simulate
from hvib.tasks import TASKS, build, load, make_run
from hvib.tasks.networks import Decorrelated, PowerLimited


def test_mnist_architecture_is_the_stated_one() -> None:
    system = build(make_run("mnist", "vib"))
    sizes = [(m.in_features, m.out_features) for m in system.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(784, 1024), (1024, 256), (256, 128), (64, 256), (256, 1024), (1024, 10)]


@needs_cifar10
def test_first_layer_of_cifar10_is_decorrelated_with_unit_variance() -> None:
    coordinates = Decorrelated()
    (filters,) = coordinates.buffers()
    x = reals(load("cifar10").test.x[:500])
    y = F.conv2d(x - 0.47, filters[:12], stride=2).transpose(0, 1).flatten(1)
    between = torch.corrcoef(y) - torch.eye(12)
    assert float(between.abs().max()) < 0.2
    deviation = y.std(1)
    assert float(deviation.max()) < 1.2
    assert float(deviation[:3].min()) > 0.8  # the coarse ones; noise is not amplified
    positive, negative = coordinates(x).chunk(2, dim=1)
    assert float((positive * negative).abs().max()) == 0


@pytest.mark.parametrize("network", ["", "cifar10-group-norm"])
def test_convolutions_are_gated_behind_their_norms_and_fold_exactly(network: str) -> None:
    run = make_run("cifar10", "hyper-vib", features=8, network=network)
    hyper = hyperize(build(run))
    gated = [m.layer for m in hyper.modules() if isinstance(m, Gated)]
    norms = [m for m in hyper.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    assert len(norms) == 6
    assert all(any(norm is layer for layer in gated) for norm in norms)
    x, noise = torch.rand(1, 8, 3, 32, 32), torch.randn(2, 1, 8, 8)
    with at(1e-2):
        hyper.train()(x, noise)  # gives the norms statistics of their own
        expected = hyper.eval()(x, noise)
    assert expected.prediction.shape == (1, 8, 10)
    for found, value in zip(fold(hyper, 1e-2)(x, noise), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "network"),
    [
        (task, network)
        for link in LINKS
        for task in (link, f"{link}-any-snr")
        for network in TASKS.find(task).networks
    ],
)
def test_ranging_networks_start_near_the_mean_time(task: str, network: str) -> None:
    link = LINKS[task.split("-")[0]]
    run = make_run(task, "vib", betas=(1e-3,), network=network)
    x = examples(simulate(link, 16, 5)).x[None]
    output = build(run)(x, torch.randn(2, 1, 16, run.features))
    assert output.prediction.shape == (1, 16, 1)
    assert output.mean.shape == (1, 16, 64)
    assert float((output.prediction.detach() - 51.7).abs().max()) < 20


@pytest.mark.parametrize(("task", "inputs"), [("digits", 64), ("bluetooth", 160), ("wifi", 180)])
def test_a_power_limited_network_is_the_task_s_own_and_keeps_the_limit(
    task: str, inputs: int
) -> None:
    run = make_run(task, "vib", "smoke", betas=(1e-3,))
    limited, own = build(replace(run, network=f"{task}-power-limited")), build(run)
    for mine, theirs in zip(limited.parameters(), own.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    x = 100 * torch.randn(1, 8, inputs)  # strong inputs ask for much power
    noise = torch.zeros(2, 1, 8, run.features)
    for system, within in ((limited, True), (own, False)):
        output = system(x, noise)
        power = (output.mean.square() + output.variance).mean(-1)
        assert bool((power < 1.001).all()) is within


@given(st.floats(-3, 3), st.floats(-4, 4), st.integers(0, 1000))
def test_power_limit_is_kept_and_leaves_weak_features_alone(
    size: float, log_variance: float, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    mean = 10**size * torch.randn(5, 4, generator=g)
    before = torch.cat([mean, torch.full((5, 4), log_variance)], 1)
    after = PowerLimited()(before)

    def power(moments: torch.Tensor) -> torch.Tensor:
        mu, log = moments.chunk(2, 1)
        return (mu.square() + log.exp()).mean(1)

    torch.testing.assert_close(power(after), power(before).clamp(max=1), rtol=1e-4, atol=1e-5)
    weak = power(before) <= 1
    assert torch.equal(after[weak], before[weak])
    ratio = after[:, :4] / mean  # one factor for all features of an example
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 4), rtol=1e-4, atol=1e-6)
