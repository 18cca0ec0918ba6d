"""The system: shapes, channel, received variance, stacking."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from hvib.channel import AWGN
from hvib.gates.closing import FreeGate, opened
from hvib.hyper import at, fold, hyperize
from hvib.system import Stacked, System, one_of
from hvib.tasks import build, make_run


@pytest.mark.parametrize(("snr_db", "variance"), [(20, 0.01), (0, 1.0), (-10, 10.0)])
def test_noise_variance_is_set_by_the_snr(snr_db: float, variance: float) -> None:
    channel = AWGN(snr_db)
    assert channel.variance == pytest.approx(variance)
    received = channel(torch.zeros(100_000), torch.randn(100_000)).value
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
    torch.testing.assert_close(
        z_hat.var(0), out.variance[0, 0] + system.channel.variance, atol=0, rtol=0.02
    )
    torch.testing.assert_close(out.variance[0, 0], torch.tensor([0.25, 4.0]))


def test_a_device_of_the_wrong_width_is_named() -> None:
    system = System(nn.Linear(5, 7), nn.Linear(4, 2), AWGN(20), 4)
    with pytest.raises(ValueError, match=r"device output = \(3, 7\): .* 2 \* features = 8"):
        system(torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4))


class Ends(nn.Module):
    """A linear layer, and what is made of its output."""

    def __init__(self, sizes: tuple[int, int], end: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.end = nn.Linear(*sizes), end

    def forward(self, x: torch.Tensor) -> Any:
        return self.end(self.layer(x))


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_device_may_return_mean_and_log_variance_apart(kind: Callable[[Any], Any]) -> None:
    device = Ends((5, 8), lambda y: kind(y.chunk(2, -1)))
    apart = System(device, nn.Linear(4, 2), AWGN(20), 4)
    one = System(device.layer, apart.network, AWGN(20), 4)
    betas = (1e-6, 1.0)
    x, noise = torch.randn(2, 3, 5), torch.randn(2, 2, 3, 4)
    gate = partial(FreeGate, betas=betas)
    ordered, like = (opened(hyperize(system, 0, gate), betas) for system in (apart, one))
    with at(betas):
        pairs = [(apart, one), (hyperize(apart), hyperize(one)), (ordered, like)]
        for system, other in pairs:
            for found, expected in zip(system(x, noise), other(x, noise), strict=True):
                torch.testing.assert_close(found, expected)
        gated = ordered(x, noise)
    for k, beta in enumerate(betas):
        folded = fold(ordered, beta)(x[k : k + 1], noise[:, k : k + 1])
        torch.testing.assert_close(folded.mean[0], gated.mean[k])


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda y: {"out": y}, "'dict of out'"),
        (lambda y: None, "'NoneType'"),
        (lambda y: y.detach().numpy(), "'ndarray'"),
        (lambda y: y.argmax(-1), r"'torch.int64 \(3,\)'"),
        (lambda y: y[1:], r"\(2, 8\)"),
        (lambda y: (y[:, :4], y[:, 4:], y), r"'tuple of \(3, 4\), \(3, 4\), \(3, 8\)'"),
    ],
)
def test_outputs_that_are_no_tensor_of_each_example_are_named(
    end: Callable[[torch.Tensor], Any], told: str
) -> None:
    x, noise = torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4)
    system = System(Ends((5, 8), end), nn.Linear(4, 8), AWGN(20), 4)
    with pytest.raises(ValueError, match=rf"device output = {told}: .* 2 \* features = 8"):
        system(x, noise)
    system = System(nn.Linear(5, 8), Ends((4, 8), end), AWGN(20), 4)
    with pytest.raises(ValueError, match=rf"network output = {told}: return one tensor"):
        system(x, noise)


@pytest.mark.parametrize(
    "end",
    [lambda y: (y[:, :3], y[:, 3:]), lambda y: (y[:, :4], None), lambda y: y[:, None]],
)
def test_halves_of_another_width_are_not_joined(end: Callable[[torch.Tensor], Any]) -> None:
    system = System(Ends((5, 8), end), nn.Linear(4, 8), AWGN(20), 4)
    with pytest.raises(ValueError, match=r"device output = .* 2 \* features = 8"):
        system(torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4))


IMAGES = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 8))
TOKENS = nn.Sequential(nn.Embedding(17, 2), nn.Flatten(), nn.Linear(8, 8))


@pytest.mark.parametrize(
    ("device", "x", "says"),
    [
        (
            IMAGES,
            torch.zeros(3, 8, 8),
            r"x = \(3, 8, 8\) of float32: .* is Conv2d.*add the channel axis",
        ),
        (IMAGES, torch.zeros(3, 64), r"x = \(3, 64\) .*takes \(N, 1, height, width\)"),
        (IMAGES, torch.zeros(3, 8, 8, 1), r"x = .*x.movedim\(-1, 1\)"),
        (IMAGES, torch.zeros(3, 1, 9, 9), r"input of device.2.* = \(3, 98\) .*give it 72 numbers"),
        (IMAGES, torch.zeros(3, 1, 8, 8).long(), r"x = .*of int64.*give reals, x.float\(\)"),
        (nn.Sequential(nn.BatchNorm2d(1), IMAGES), torch.zeros(3, 8, 8), "device.0 is BatchNorm2d"),
        (nn.Linear(64, 8), torch.zeros(3, 8, 8), r"device is Linear.*put nn.Flatten\(\) before it"),
        (nn.Linear(64, 8), torch.zeros(3, 64).long(), "token numbers: give reals"),
        (TOKENS, torch.zeros(3, 4), "device.0 is Embedding.*give token numbers as int64"),
        (TOKENS, torch.full((3, 4), 17), "go from 17 to 17: give 0 to 16"),
    ],
)
def test_what_a_layer_cannot_take_is_named(device: nn.Module, x: torch.Tensor, says: str) -> None:
    system = System(device, nn.Linear(4, 2), AWGN(20), 4)
    with pytest.raises(ValueError, match=says):
        system(x[None], torch.randn(2, 1, 3, 4))
    gated = hyperize(system)
    with at(1e-3), pytest.raises(ValueError, match=says.replace("device is", "device.layer is")):
        gated(x[None], torch.randn(2, 1, 3, 4))


def test_a_network_for_other_features_is_named() -> None:
    system = System(nn.Linear(5, 8), nn.Linear(3, 2), AWGN(20), 4)
    with pytest.raises(ValueError, match=r"input of network = \(3, 4\) .*give it 3 numbers"):
        system(torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4))


def test_an_error_of_the_model_s_own_stays() -> None:
    def fails(y: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mine")

    system = System(Ends((5, 8), fails), nn.Linear(4, 2), AWGN(20), 4)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        system(torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4))


def test_double_precision_stays_double() -> None:
    system = hyperize(System(nn.Linear(5, 8), nn.Linear(4, 2), AWGN(20), 4))
    double = copy.deepcopy(system).double()
    x, noise = torch.randn(1, 3, 5), torch.randn(2, 1, 3, 4)
    with at(1e-3):
        single = system(x, noise)
        for given in (x, x.double()):
            for found, expected in zip(double(given, noise), single, strict=True):
                assert found.dtype == torch.float64
                torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)
    plain = System(nn.Linear(5, 8), nn.Linear(4, 2), AWGN(20), 4).double()
    assert {p.dtype for p in hyperize(plain).parameters()} == {torch.float64}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_formats_are_refused(kind: torch.dtype) -> None:
    system = System(nn.Linear(5, 8), nn.Linear(4, 2), AWGN(20), 4)
    says = rf"network.weight.dtype = {kind}: weights .* call model.float\(\)"
    for model in (system, Stacked([system, system])):
        assert one_of(model) is system
    system.network.to(kind)
    with pytest.raises(ValueError, match=says):
        one_of(system)
    with pytest.raises(ValueError, match=says):
        Stacked([system, system])
    one_of(system.float())


@pytest.mark.parametrize("model", [nn.Linear(3, 2), None, System, hyperize(nn.Linear(3, 2))])
def test_what_is_no_system_is_refused(model: Any) -> None:
    says = rf"'{type(model).__name__}': give a System"
    for use in (one_of, lambda m: Stacked([m, m]), lambda m: opened(m, (1e-6, 1.0))):
        with pytest.raises(ValueError, match=says):
            use(model)


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
