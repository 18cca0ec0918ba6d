"""Several devices: blocks, prices, gates of each device's own β, losses, and records."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

import hvib
from hvib.channels import Erasure, Steady
from hvib.devices import Devices, Silenced, channels_of, each_of, halves, joined
from hvib.gates.joint import JointGate
from hvib.hyper import Gated
from hvib.ledger.execution import execute
from hvib.methods import METHODS
from hvib.methods.training import training_of
from hvib.objective import Terms
from hvib.run import Run
from hvib.system import System
from hvib.tasks import TASKS
from hvib.tasks.registry import build

BETAS = (1e-4, 1.0)
METHODS_OF_SEVERAL = sorted(name for name, method in METHODS.all().items() if method.joint)


def plain(blocks: tuple[int, ...] = (3, 2)) -> System:
    torch.manual_seed(0)
    devices = [hvib.mlp([4, 8, 2 * block]) for block in blocks]
    network = hvib.mlp([sum(blocks), 8, 3])
    return System(Devices(devices, each_of, blocks), network, Steady(10.0), sum(blocks))


def steep(system: System) -> System:
    """With gates that differ clearly between β."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in system.named_parameters():
            if name.endswith((".u", ".out.weight")):
                p.copy_(0.5 * torch.randn(p.shape, generator=g))
    return system.eval()


@pytest.mark.parametrize("ordered", [False, True])
def test_each_device_reads_its_own_beta_and_the_network_all(ordered: bool) -> None:
    system = steep(joined(plain(), BETAS, ordered=ordered))
    x, noise = torch.randn(1, 6, 2, 4), torch.zeros(2, 1, 6, 5)

    def at(*betas: float) -> hvib.system.Output:
        with hvib.at([betas]), torch.no_grad():
            return system(x, noise)

    one, other = at(1e-3, 1e-3), at(1e-3, 0.5)
    assert torch.equal(one.mean[..., :3], other.mean[..., :3])
    assert not torch.allclose(one.mean[..., 3:], other.mean[..., 3:])
    # The network reads the second β too: it differs where the features are the same.
    with hvib.at([(1e-3, 1e-3), (1e-3, 0.5)]), torch.no_grad():
        same = system.network(torch.ones(2, 5))
    assert not torch.allclose(same[0], same[1])


def test_devices_that_are_told_all_betas_read_them() -> None:
    system = steep(joined(plain(), BETAS, everywhere=True))
    x, noise = torch.randn(1, 6, 2, 4), torch.zeros(2, 1, 6, 5)
    means = []
    for second in (1e-3, 0.5):
        with hvib.at([(1e-3, second)]), torch.no_grad():
            means.append(system(x, noise).mean[..., :3])
    assert not torch.allclose(*means)


@pytest.mark.parametrize("ordered", [False, True])
def test_one_beta_is_the_same_for_all(ordered: bool) -> None:
    system = steep(joined(plain(), BETAS, ordered=ordered))
    x, noise = torch.randn(2, 3, 2, 4), torch.randn(2, 2, 3, 5)
    with hvib.at([1e-3, 0.1]):
        one = system(x, noise)
    with hvib.at([(1e-3, 1e-3), (0.1, 0.1)]):
        both = system(x, noise)
    for part, same in zip(one, both, strict=True):
        torch.testing.assert_close(part, same)


@pytest.mark.parametrize("ordered", [False, True])
def test_the_fold_at_a_beta_for_each_is_the_gated_system_there(ordered: bool) -> None:
    system = steep(joined(plain(), BETAS, ordered=ordered))
    x, noise = torch.randn(1, 4, 2, 4), torch.randn(2, 1, 4, 5)
    with hvib.at([(1e-3, 0.2)]):
        gated = system(x, noise)
    folded = hvib.fold(system, [(1e-3, 0.2)])
    assert not any(isinstance(m, Gated) for m in folded.modules())
    for one, other in zip(folded(x, noise), gated, strict=True):
        torch.testing.assert_close(one, other)


def test_the_objective_has_each_devices_price() -> None:
    rows = hvib.evaluate(
        steep(joined(plain(), BETAS)),
        hvib.Split(torch.randn(50, 2, 4), torch.randint(3, (50,))),
        [(1e-3, 0.2), (0.2, 1e-3)],
    )
    for row, (first, second) in zip(rows, ((1e-3, 0.2), (0.2, 1e-3)), strict=True):
        assert row["betas"] == [first, second]
        assert row["beta"] == first
        one, other = row["rates_nats"]
        assert row["rate_nats"] == pytest.approx(one + other)
        expected = row["distortion"] + first * one + second * other
        assert row["objective"] == pytest.approx(expected)


def test_prices_of_another_number_of_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="betas"):
        Terms(torch.ones(1), torch.ones(1)).objective(torch.ones(1, 2))
    gate = JointGate(3, 2)
    with pytest.raises(ValueError, match="number of β at once = 3"):
        gate(torch.zeros(1, 3))
    gated = hvib.hyperize(hvib.mlp([4, 2]))
    with hvib.at([(0.1, 0.2)]), pytest.raises(ValueError, match="number of β at once"):
        gated(torch.randn(2, 4))


def test_the_draws_of_a_step_cover_the_square() -> None:
    training = training_of(joined(plain(), BETAS), method="hyper-vib-joint", betas=BETAS, shares=8)
    seen = []
    for _ in range(50):
        betas = training.draw(16).betas
        assert betas.shape == (8, 2)
        # Each device's β is stratified: one in each of eight parts of the range.
        strata = ((betas.log() / math.log(1e-4) - 1).neg() * 8).floor().sort(0).values
        assert torch.equal(strata, torch.arange(8.0)[:, None].expand(8, 2))
        seen.append(betas.log())
    both = torch.cat(seen)
    assert abs(torch.corrcoef(both.T)[0, 1]) < 0.2


def test_a_stated_rate_is_that_of_the_block() -> None:
    system = plain()
    x, noise = torch.randn(1, 30, 2, 4), torch.randn(2, 1, 30, 5)
    out = system(x, noise)
    from hvib.objective import terms

    found = terms(out, torch.randint(3, (1, 30)), None, system.blocks)
    assert found.of_devices is not None
    torch.testing.assert_close(found.of_devices[0, 0], out.rates[0, :, :3].sum(-1).mean())
    torch.testing.assert_close(found.rate, found.of_devices.sum(-1))


def test_a_silenced_device_sends_nothing_and_costs_nothing() -> None:
    system = plain()
    x, noise = torch.randn(1, 30, 2, 4), torch.randn(2, 1, 30, 5)
    whole = system(x, noise)
    system.channel = Silenced(system.channel, system.blocks, {0})
    other = system(torch.cat([torch.randn(1, 30, 1, 4), x[:, :, 1:]], 2), noise)
    silent = system(x, noise)
    torch.testing.assert_close(other.prediction, silent.prediction)
    assert (silent.rates[..., :3] == 0).all()
    torch.testing.assert_close(silent.rates[..., 3:], whole.rates[..., 3:])
    with pytest.raises(ValueError, match="lost"):
        Silenced(system.channel, system.blocks, {2})


def test_devices_are_lost_whole() -> None:
    channel = Erasure(Steady(20.0), 0.3, 6, together=3)
    z = torch.ones(1, 20_000, 6)
    received = channel(z, torch.randn(1, 20_000, 6 + channel.chances), None)
    lost = (received.value == 0).view(-1, 2, 3)
    assert torch.equal(lost.all(2), lost.any(2))
    assert ((lost[..., 0].double().mean(0) - 0.3).abs() < 0.015).all()
    with pytest.raises(ValueError, match="together"):
        Erasure(Steady(20.0), 0.3, 6, together=4)


@pytest.mark.parametrize("method", [*METHODS_OF_SEVERAL, "hyper-vib", "vib"])
@pytest.mark.parametrize("task", ["digits-halves", "anchors"])
def test_each_method_files_all_combinations_and_each_loss(task: str, method: str) -> None:
    betas = (1e-3,) if method == "vib" else (1e-4, 1e-2, 1.0)
    more: dict[str, Any] = {"prices": (1.0, 10.0)} if method == "vib" else {}
    run = hvib.make_run(task, method, "smoke", betas=betas, limit=256, batch_size=128, **more)
    record = execute(run)
    rows = record.rows("test")
    if METHODS.find(method).joint:
        pairs = [tuple(row["betas"]) for row in rows]
        assert pairs == list(itertools.product(betas, repeat=2))
    else:
        assert [row["beta"] for row in rows] == list(betas)
    if method == "vib":
        assert rows[0]["betas"] == [1e-3, pytest.approx(1e-2)]
    for lost in (0, 1):
        without = record.rows(f"test without {lost}")
        assert len(without) == len(rows)
        assert all(row["rates_nats"][lost] == 0 for row in without)


def test_prices_train_each_device_at_its_own() -> None:
    """A dear device ends with a lower rate than a cheap one."""
    x = torch.randn(400, 1, 4, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1)
    split = hvib.Split(x.contiguous(), (x[:, 0, 0] > 0).long())
    rates = {}
    for prices in ((1.0, 100.0), (100.0, 1.0)):
        system = plain((2, 2))
        run = hvib.Run(
            **{"task": "yours", "method": "vib", "profile": "yours", "seed": 0},  # type: ignore[arg-type]
            **{"betas": (1e-2,), "epochs": 60, "features": 4, "batch_size": 100},  # type: ignore[arg-type]
            **{"snr_db": 10.0, "prices": prices, "learning_rate": 1e-2},  # type: ignore[arg-type]
        )
        hvib.fit(system, split, run)
        rates[prices] = hvib.evaluate(system, split, [1e-2])[0]["rates_nats"]
    assert rates[1.0, 100.0][0] > 3 * rates[1.0, 100.0][1]
    assert rates[100.0, 1.0][1] > 3 * rates[100.0, 1.0][0]


@pytest.mark.parametrize("prices", [(0.0, 1.0), (math.nan, 1.0), (-1.0,), "12"])
def test_prices_that_are_none_are_refused(prices: object) -> None:
    with pytest.raises(ValueError, match="prices"):
        hvib.make_run("digits-halves", "vib", betas=(1e-3,), prices=prices)


def test_views_are_cut_as_stated_and_bad_ones_refused() -> None:
    images = torch.arange(2 * 6 * 4 * 4.0).view(2, 6, 4, 4)
    upper, lower = halves(images)
    torch.testing.assert_close(torch.cat([upper, lower], 2), images)
    assert [part.shape[1] for part in channels_of(3)(images)] == [2, 2, 2]
    with pytest.raises(ValueError, match="rows"):
        halves(images[..., :3, :])
    with pytest.raises(ValueError, match="channels"):
        channels_of(4)(images)
    with pytest.raises(ValueError, match="blocks"):
        Devices([nn.Identity()], each_of, (2, 2))
    with pytest.raises(ValueError, match="number of views"):
        Devices([nn.Identity()], each_of, (2,))(torch.randn(3, 2, 4))
    with pytest.raises(ValueError, match="system"):
        joined(System(nn.Identity(), nn.Identity(), Steady(3.0), 2), BETAS)


def test_features_are_shared_evenly_or_refused() -> None:
    run = hvib.make_run("digits-halves", "vib", betas=(1e-3,))
    assert build(run).blocks == (32, 32)
    with pytest.raises(ValueError, match="features"):
        build(hvib.make_run("digits-halves", "vib", betas=(1e-3,), features=7))
    assert {"mnist-halves", "anchors"} <= set(TASKS.all())


def test_a_run_says_its_prices() -> None:
    run = hvib.make_run("digits-halves", "vib", betas=(1e-3,), prices=(1, 10))
    assert run.prices == (1.0, 10.0)
    assert Run.from_json(run.to_json()) == run
