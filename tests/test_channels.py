"""Each channel's statistics against their closed forms, and a channel of a reader's own."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import hvib
from hvib.channel import AWGN, Channel, Received
from hvib.channels import CHANNELS, Erasure, Faded, Limited, Quantised, Steady
from hvib.channels.digital import _log_cells
from hvib.objective import feature_kl

COUNT, N = 200_000, 4


def normals(width: int, seed: int = 0, count: int = COUNT) -> torch.Tensor:
    return torch.randn(1, count, width, generator=torch.Generator().manual_seed(seed))


def sent(channel: Channel, z: torch.Tensor, snr_db: float) -> tuple[Received, torch.Tensor]:
    """What a channel makes of z, and the state that each example met."""
    noise = normals(z.shape[-1] + channel.chances, 1, z.shape[1])
    state = channel.state(torch.full((1, 1, 1), snr_db), noise[..., z.shape[-1] :])
    return channel(z, noise, state), state


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("make", [AWGN, Steady, Faded, lambda snr: Faded(snr, 6.0)])
def test_received_features_have_the_gain_and_variance_that_the_channel_tells(
    make: type[Channel], snr_db: float
) -> None:
    z = torch.full((1, COUNT, N), 0.7)
    received, _ = sent(make(20.0), z, snr_db)
    # In units of its own deviation the added noise is standard normal.
    noise = (received.value - received.gain * z) / torch.as_tensor(received.variance).sqrt()
    assert abs(noise.mean()) < 0.01
    torch.testing.assert_close(noise.var(), torch.tensor(1.0), atol=0, rtol=0.01)


@pytest.mark.parametrize("name", ["awgn", "rayleigh", "rician"])
@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_a_feature_of_the_prior_is_received_as_the_prior_and_costs_nothing(
    name: str, snr_db: float
) -> None:
    channel = CHANNELS[name](20.0, N)
    received, _ = sent(channel, normals(N), snr_db)
    torch.testing.assert_close(received.value.var(), torch.tensor(1.0), atol=0, rtol=0.01)
    rates = channel.rates(torch.zeros(1, COUNT, N), torch.ones(1, COUNT, N), received)
    torch.testing.assert_close(rates, torch.zeros_like(rates), atol=1e-6, rtol=0)


def test_rayleigh_power_is_exponential() -> None:
    power = Faded(20.0).power(normals(2))
    assert abs(power.mean() - 1) < 0.01
    for level in (0.01, 0.1, 1.0, 3.0):
        expected = 1 - math.exp(-level)
        error = math.sqrt(expected * (1 - expected) / COUNT)
        assert abs((power < level).double().mean() - expected) < 4 * error


@pytest.mark.parametrize("k_db", [-10.0, 0.0, 6.0, 15.0])
def test_rician_power_has_mean_one_and_the_variance_of_its_k(k_db: float) -> None:
    k = 10 ** (k_db / 10)
    power = Faded(20.0, k_db).power(normals(2))
    assert abs(power.mean() - 1) < 0.01
    # Of |h|²: (1 + 2 K) / (1 + K)²
    torch.testing.assert_close(
        power.var(), torch.tensor((1 + 2 * k) / (1 + k) ** 2), atol=0, rtol=0.03
    )


def test_the_state_is_the_mean_snr_times_the_power() -> None:
    chances = normals(2)
    channel = Faded(20.0)
    state = channel.state(torch.full((1, 1, 1), 7.0), chances)
    torch.testing.assert_close(10 ** ((state - 7) / 10), channel.power(chances), rtol=1e-4, atol=0)


def test_without_gain_control_a_strong_example_is_received_large() -> None:
    z = torch.ones(1, COUNT, N)
    fixed, state = sent(Faded(10.0, equalised=False), z, 10.0)
    equal, again = sent(Faded(10.0), z, 10.0)
    assert torch.equal(state, again)
    torch.testing.assert_close(fixed.variance, equal.variance)  # and so the rate
    # y = |h| z + ε at the noise of 10 dB, over the root of the usual power 1 + σ².
    mean = (10 ** ((state - 10) / 20) / math.sqrt(1.1)).expand_as(z)
    noise = fixed.value - mean
    torch.testing.assert_close(noise.std(), torch.tensor(math.sqrt(0.1 / 1.1)), rtol=0.02, atol=0)


def test_limits_hold_for_every_z_that_is_sent() -> None:
    z = 3 * normals(N)
    peak = Limited(20.0, peak=2.0).limited(z)
    assert peak.square().max() <= 2 + 1e-5
    assert torch.equal(peak[z.square() < 1.99], z[z.square() < 1.99])
    average = Limited(20.0, average=1.0).limited(z)
    power = average.square().mean(-1)
    assert power.max() <= 1 + 1e-5
    inside = z.square().mean(-1) < 1
    assert torch.equal(average[inside], z[inside])
    torch.testing.assert_close(power[~inside], torch.ones_like(power[~inside]))


def test_the_rate_behind_a_limit_is_that_of_what_enters_it() -> None:
    channel = Limited(20.0, peak=1.0)
    mean, variance = torch.full((1, 2, N), 0.5), torch.full((1, 2, N), 0.1)
    received, _ = sent(channel, mean, 20.0)
    torch.testing.assert_close(channel.rates(mean, variance, received), feature_kl(mean, variance))


@pytest.mark.parametrize("limits", [{}, {"peak": 0.0}, {"average": -1.0}, {"peak": float("nan")}])
def test_a_limit_that_is_none_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"limits|peak|average"):
        Limited(20.0, **limits)


def test_features_are_lost_at_the_stated_share_and_cost_nothing_then() -> None:
    channel = Erasure(Steady(10.0), 0.2, N)
    z = torch.full((1, COUNT, N), 0.9)
    received, _ = sent(channel, z, 10.0)
    lost = received.value == 0
    share = lost.double().mean((0, 1))
    assert ((share - 0.2).abs() < 4 * math.sqrt(0.2 * 0.8 / COUNT)).all()
    # Each on its own: two are lost together at the product of their shares.
    both = (lost[..., 0] & lost[..., 1]).double().mean()
    assert abs(both - 0.04) < 4 * math.sqrt(0.04 / COUNT)
    rates = channel.rates(z, torch.full_like(z, 0.1), received)
    assert (rates[lost] == 0).all()
    assert (rates[~lost] > 0).all()


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_of_losses_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        Erasure(Steady(10.0), probability, N)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantised_features_are_the_middles_of_their_cells(bits: int) -> None:
    channel, z = Quantised(bits), normals(N, count=1000).requires_grad_()
    received, _ = sent(channel, z, 20.0)
    assert len(received.value.unique()) <= 2**bits
    inside = z.abs() < channel.span
    assert ((received.value - z).abs()[inside] <= channel.step / 2 + 1e-5).all()
    received.value.sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.ones_like(z))


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.4, 0.05), (-2.9, 1e-3), (3.3, 0.2)])
def test_the_rate_of_an_index_is_exact(bits: int, mean: float, variance: float) -> None:
    channel = Quantised(bits)
    z = mean + math.sqrt(variance) * normals(1)
    counted = torch.bincount(channel.index(z).long().flatten(), minlength=2**bits) / COUNT
    p = channel.log_probabilities(torch.tensor([mean]), torch.tensor([variance])).exp()[:, 0]
    assert ((counted - p).abs() < 4 * (p * (1 - p) / COUNT).sqrt() + 1e-6).all()
    assert abs(p.sum() - 1) < 1e-5
    q = channel.log_probabilities(torch.zeros(1), torch.ones(1)).exp()[:, 0]
    exact = (p * (p.clamp(min=1e-30).log() - q.log())).sum()
    ends = torch.tensor([[[mean]]]), torch.tensor([[[variance]]])
    rate = channel.rates(*ends, Received(ends[0], 0.0)).item()
    assert rate == pytest.approx(exact.item(), abs=1e-5)
    whole = kl_divergence(Normal(mean, math.sqrt(variance)), Normal(0.0, 1.0)).item()
    assert -1e-6 <= rate <= whole + 1e-6


def test_the_rate_of_an_index_has_finite_gradients_far_out() -> None:
    mean = torch.tensor([[[-30.0, 0.0, 30.0]]], requires_grad=True)
    log_variance = torch.tensor([[[-20.0, -40.0, 5.0]]], requires_grad=True)
    channel = Quantised(4)
    rates = channel.rates(mean, log_variance.exp(), Received(mean, 0.0))
    rates.sum().backward()
    for tensor in (rates, mean.grad, log_variance.grad):
        assert tensor is not None
        assert tensor.isfinite().all()


def test_bits_of_the_priors_index_are_its_entropy() -> None:
    assert Quantised(1).prior_bits == pytest.approx(1)
    # For fine cells: the differential entropy less the log of a cell's width.
    fine = Quantised(12, span=6.0)
    expected = 0.5 * math.log2(2 * math.pi * math.e) - math.log2(fine.step)
    assert fine.prior_bits == pytest.approx(expected, abs=1e-3)


def test_log_probabilities_of_far_cells_keep_their_digits() -> None:
    edges = torch.tensor([-9.0, 0.0, 9.0]).double()
    found = _log_cells(edges).exp()
    assert found[0] == pytest.approx(found[3])
    assert found[0] == pytest.approx(1.1286e-19, rel=1e-3)


@pytest.mark.parametrize("bits", [0, 17, 2.5])
def test_a_number_of_bits_that_is_none_is_refused(bits: float) -> None:
    with pytest.raises(ValueError, match="bits"):
        Quantised(bits)  # type: ignore[arg-type]


class Impulses(Channel):
    """A reader's own: one example in ten meets noise of ten times the variance."""

    chances = 1

    def forward(
        self, z: torch.Tensor, noise: torch.Tensor, snr_db: torch.Tensor | None = None
    ) -> Received:
        n = z.shape[-1]
        burst = noise[..., n:] < -1.2816  # of a standard normal, in one case of ten
        variance = self.noise_variance(snr_db) * (1 + 9 * burst)
        return Received(z + variance.sqrt() * noise[..., :n], variance)


class Bare(nn.Module):
    """The least that a channel is: no state, no class of ours."""

    variance = 0.25

    def forward(self, z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return z + 0.5 * noise


@pytest.mark.parametrize(
    "channel", [Impulses(10.0), Bare(), *(c(10.0, 3) for c in CHANNELS.values())]
)
def test_any_channel_trains_and_evaluates(channel: Channel) -> None:
    plain = hvib.System(hvib.mlp([5, 6]), hvib.mlp([3, 2]), channel, 3)
    system = hvib.hyperize(plain, method="paper", betas=(1e-3, 1.0))
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    split = hvib.Split(x, (x[:, 0] > 0).long())
    hvib.fit(system, split, epochs=2, batch_size=32)
    rows = hvib.evaluate(system, split, (1e-3, 1.0), draws=3)
    assert all(math.isfinite(row["objective"]) and row["rate_nats"] >= 0 for row in rows)
    one = hvib.evaluate(hvib.fold(system, 1e-3), split, (1e-3,), draws=3)[0]
    assert one["objective"] == pytest.approx(rows[0]["objective"], rel=1e-4)


def test_a_readers_rate_has_each_examples_own_variance() -> None:
    channel = Impulses(10.0)
    system = hvib.System(hvib.mlp([5, 6]), hvib.mlp([3, 2]), channel, 3)
    noise = torch.randn(2, 1, 400, 4, generator=torch.Generator().manual_seed(0))
    out = system(torch.randn(1, 400, 5), noise)
    added = torch.where(noise[1, ..., 3:] < -1.2816, 1.0, 0.1)
    torch.testing.assert_close(out.rates, feature_kl(out.mean, out.variance + added))


def test_a_module_that_is_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="channel"):
        hvib.System(nn.Flatten(), nn.Flatten(), nn.Identity(), 2)  # type: ignore[arg-type]


def test_a_run_names_its_channel_and_an_unknown_one_is_refused() -> None:
    run = hvib.make_run("digits", "vib", betas=(1e-3,), channel="rayleigh")
    from hvib.tasks.registry import build

    assert isinstance(build(run).channel, Faded)
    with pytest.raises(ValueError, match=r"channel = 'raleigh'.*rayleigh"):
        build(hvib.make_run("digits", "vib", betas=(1e-3,), channel="raleigh"))


def test_runs_without_a_channel_keep_their_names() -> None:
    run = hvib.make_run("digits", "vib", betas=(1e-3,))
    assert run.channel == ""
    assert run.slug.endswith(run.slug[-8:])
    assert "snrs" in run.to_json()
    assert hvib.Run.from_json(run.to_json()) == run
