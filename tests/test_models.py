"""The system: shapes, channel, received variance, stacking."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_cifar10
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hvib.channel import AWGN
from hvib.config import make_run
from hvib.data import load, reals
from hvib.hyper import Gated, at, fold, hyperize
from hvib.models import BUILDERS, Decorrelated, PowerLimited, Stacked, System, build
from hvib.ranging import LINKS, examples, simulate


@pytest.mark.parametrize(("snr_db", "variance"), [(20, 0.01), (0, 1.0), (-10, 10.0)])
def test_noise_variance_is_set_by_the_snr(snr_db: float, variance: float) -> None:
    channel = AWGN(snr_db)
    assert channel.variance == pytest.approx(variance)
    received = channel(torch.zeros(100_000), torch.randn(100_000))
    assert float(received.var()) == pytest.approx(variance, rel=0.03)
    assert not list(channel.parameters())


@pytest.mark.parametrize("snr_db", [math.nan, math.inf])
def test_snr_must_be_finite(snr_db: float) -> None:
    with pytest.raises(ValueError, match="snr_db = "):
        AWGN(snr_db)


def test_mnist_architecture_is_the_stated_one() -> None:
    system = build(make_run("mnist", "vib"))
    sizes = [(m.in_features, m.out_features) for m in system.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(784, 1024), (1024, 256), (256, 128), (64, 256), (256, 1024), (1024, 10)]


def test_initialisation_is_the_seed_s_and_leaves_global_randomness_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build(make_run("digits", "vib", seed=s)) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    first, again, differs = (next(m.parameters()) for m in (one, same, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, differs)


def test_received_feature_has_the_stated_moments() -> None:
    captured = []

    class Network(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            captured.append(z)
            return z

    system = System(nn.Flatten(), Network(), AWGN(3.0), 2)
    moments = torch.tensor([1.0, -2.0, math.log(0.25), math.log(4.0)])  # μ, log θ²
    count = 200_000
    out = system(moments.expand(1, count, 4), torch.randn(2, 1, count, 2))
    z_hat = captured[0]
    torch.testing.assert_close(z_hat.mean(0), out.mean[0, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(z_hat.var(0), out.received_variance[0, 0], atol=0, rtol=0.02)
    torch.testing.assert_close(out.variance[0, 0], torch.tensor([0.25, 4.0]))


def test_a_device_of_the_wrong_width_is_named() -> None:
    system = System(nn.Linear(5, 7), nn.Linear(4, 2), AWGN(20), 4)
    with pytest.raises(ValueError, match=r"device output = \(1, 3, 7\): .* 2 \* features = 8"):
        system(torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4))


def test_stacked_systems_compute_what_each_computes() -> None:
    run = make_run("digits", "vib")
    systems = [build(make_run("digits", "vib", seed=s)) for s in range(3)]
    stack = Stacked(systems)
    x, noise = torch.randn(1, 6, 1, 8, 8), torch.randn(2, 1, 6, run.features)
    together = stack(x, noise)
    for k, system in enumerate(systems):
        for part, alone in zip(together, system(x, noise), strict=True):
            torch.testing.assert_close(part[k], alone[0], rtol=1e-4, atol=1e-5)
    assert stack.unstack()[1].keys() == systems[1].state_dict().keys()


@pytest.mark.parametrize(
    "other",
    [
        System(nn.Linear(3, 4), nn.Tanh(), AWGN(20), 2),
        System(nn.Linear(3, 4), nn.ReLU(), AWGN(10), 2),
        System(nn.Linear(5, 4), nn.ReLU(), AWGN(20), 2),
    ],
)
def test_systems_of_another_kind_are_not_stacked(other: System) -> None:
    system = System(nn.Linear(3, 4), nn.ReLU(), AWGN(20), 2)
    with pytest.raises(ValueError, match="systems = '2 kinds': stack systems of one"):
        Stacked([system, other])
    with pytest.raises(ValueError, match="systems = '0 kinds'"):
        Stacked([])


def test_a_stack_keeps_what_is_frozen() -> None:
    systems = [System(nn.Linear(3, 4), nn.Linear(2, 2), AWGN(20), 2) for _ in range(2)]
    for system in systems:
        system.device.requires_grad_(False)
    stack = Stacked(systems)
    frozen = [not p.requires_grad for p in stack.stack]
    assert frozen == [name.startswith("device") for name in stack.names]


def test_a_channel_needs_a_variance() -> None:
    with pytest.raises(ValueError, match="channel = 'Identity': give it a `variance`"):
        System(nn.Linear(3, 4), nn.Linear(2, 2), nn.Identity(), 2)  # type: ignore[arg-type]


def test_systems_with_buffers_cannot_be_stacked() -> None:
    system = System(nn.BatchNorm1d(4), nn.Identity(), AWGN(20), 2)
    with pytest.raises(ValueError, match="stack systems without buffers"):
        Stacked([system, system])


def test_a_variance_that_underflows_has_finite_gradients() -> None:
    """At small β θ² tends to 0, and its root has no gradient there."""
    device = torch.nn.Linear(1, 2)
    with torch.no_grad():
        device.weight.zero_()
        device.bias.copy_(torch.tensor([0.3, -400.0]))  # log θ² = −400: θ² is 0 in float32
    system = System(device, torch.nn.Linear(1, 1), AWGN(20.0), 1)
    output = system(torch.ones(1, 4, 1), torch.ones(2, 1, 4, 1))
    assert (output.variance == 0).all()
    output.prediction.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in system.parameters() if p.grad is not None)


def test_draws_of_one_pass_are_those_of_several() -> None:
    system = build(make_run("digits", "vib", betas=(1e-3,), features=5))
    x, noise = torch.rand(2, 6, 1, 8, 8), torch.randn(2, 2, 3 * 6, 5)
    together = system(x, noise)
    for k, part in enumerate(noise.split(6, dim=2)):
        for found, value in zip(together, system(x, part), strict=True):
            torch.testing.assert_close(found[:, 6 * k : 6 * (k + 1)], value)


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


@pytest.mark.parametrize("network", ["cifar10", "cifar10-group-norm"])
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


@pytest.mark.parametrize("name", [n for n in BUILDERS if n.split("-")[0] in ("bluetooth", "wifi")])
def test_ranging_networks_start_near_the_mean_time(name: str) -> None:
    link = LINKS[name.split("-")[0]]
    run = make_run(link.name, "vib", betas=(1e-3,), network=name)
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
