"""The system: shapes, channel, received variance, stacking."""

import math

import pytest
import torch
from torch import nn

from hvib.channel import AWGN
from hvib.system import Stacked, System
from hvib.tasks import build, make_run


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
