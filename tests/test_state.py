"""Gates of (log β, SNR): the plane, the fold, who is told, and what is drawn."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import run_of

import hvib
from hvib.channel import Channel
from hvib.channels import Faded, Steady
from hvib.gates.state import StateGate, StateOpening
from hvib.hyper import Gate, Gated
from hvib.ledger.execution import execute
from hvib.methods import METHODS
from hvib.methods.state import stateful
from hvib.methods.training import training_of
from hvib.run import Run
from hvib.system import System

BETAS, SNRS = (1e-4, 1.0), (-5.0, 25.0)


def plain(channel: Channel | None = None) -> System:
    torch.manual_seed(0)
    return System(hvib.mlp([5, 8, 6]), hvib.mlp([3, 8, 2]), channel or Steady(20.0), 3)


def steep(system: torch.nn.Module) -> torch.nn.Module:
    """With gates that differ clearly between states."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in system.named_parameters():
            if name.endswith(("gate.w", "gate.d", "gate.out.weight")):
                p.copy_(torch.randn(p.shape, generator=g))
    return system.eval()


@pytest.mark.parametrize("ordered", [False, True])
def test_a_batch_of_mixed_states_gives_each_example_its_own(ordered: bool) -> None:
    system = steep(stateful(plain(), BETAS, ordered=ordered))
    x, noise = torch.randn(2, 3, 5), torch.randn(2, 2, 3, 3)
    snrs = torch.tensor([-5.0, 10.0, 25.0, 3.0, 20.0, 0.0])
    with hvib.at([1e-3, 0.1], snr_db=snrs):
        together = system(x, noise)
    for m, beta in enumerate((1e-3, 0.1)):
        for i in range(3):
            with hvib.at(beta, snr_db=snrs[3 * m + i]):
                alone = system(x[m : m + 1, i : i + 1], noise[:, m : m + 1, i : i + 1])
            for one, both in zip(alone, together, strict=True):
                torch.testing.assert_close(both[m, i], one[0, 0])


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("ends", [("device", "network"), ("network",), ("device",)])
def test_the_fold_is_the_gated_system_at_one_state(ordered: bool, ends: tuple[str, ...]) -> None:
    system = steep(stateful(plain(), BETAS, ordered=ordered, ends=ends))  # type: ignore[arg-type]
    x, noise = torch.randn(1, 4, 5), torch.randn(2, 1, 4, 3)
    for beta, snr in ((1e-3, -5.0), (0.3, 12.0)):
        with hvib.at(beta, snr_db=snr):
            gated = system(x, noise)
        folded = hvib.fold(system, beta, snr)
        assert not any(isinstance(m, Gated) for m in folded.modules())
        with hvib.at(1.0, snr_db=snr):  # of its channel
            for one, other in zip(folded(x, noise), gated, strict=True):
                torch.testing.assert_close(one, other)


def test_an_end_that_is_not_told_does_not_depend_on_the_state() -> None:
    x, noise = torch.randn(1, 4, 5), torch.zeros(2, 1, 4, 3)
    for ends in (("network",), ("device",)):
        system = steep(stateful(plain(), BETAS, ends=ends))
        means = []
        for snr in (-5.0, 25.0):
            with hvib.at(1e-2, snr_db=snr):
                means.append(system(x, noise).mean)
        assert torch.equal(*means) == (ends == ("network",))
        assert isinstance(system, System)
        kinds = {type(m.gate) for m in system.network.modules() if isinstance(m, Gated)}
        assert kinds == {StateGate if "network" in ends else Gate}


def test_fading_tells_the_gates_the_state_of_each_draw() -> None:
    system = steep(stateful(plain(Faded(10.0)), BETAS))
    assert isinstance(system, System)
    x, noise = torch.randn(1, 2, 5), torch.randn(2, 1, 6, 5)  # three draws of two examples
    with hvib.at(1e-2):
        together = system(x, noise)
        for k in range(6):
            i = k % 2
            alone = system(x[:, i : i + 1], noise[:, :, k : k + 1])
            for one, both in zip(alone, together, strict=True):
                torch.testing.assert_close(both[:, k], one[:, 0])
    assert not torch.equal(together.mean[0, 0], together.mean[0, 2])  # one example, two states
    # A device that is not told runs once for all draws, and gives one code for all.
    blind = steep(stateful(plain(Faded(10.0)), BETAS, ends=("network",)))
    calls = []
    assert isinstance(blind, System)
    blind.device.register_forward_hook(lambda m, args, out: calls.append(len(args[0])))
    with hvib.at(1e-2):
        out = blind(x, noise)
    assert calls == [2]
    assert torch.equal(out.mean[0, 0], out.mean[0, 2])


def test_state_gates_outside_a_system_read_what_at_says() -> None:
    model = steep(stateful(hvib.mlp([5, 8, 2]), BETAS))
    x = torch.randn(4, 5)
    with hvib.at(0.1, snr_db=[0.0, 20.0]):
        two = model(x)
    with hvib.at(0.1, snr_db=20.0):
        torch.testing.assert_close(model(x)[2:], two[2:])
    with hvib.at(0.1), pytest.raises(RuntimeError, match="snr_db"):
        model(x)


@pytest.mark.parametrize("snr", [float("nan"), "10", [], [math.inf]])
def test_an_snr_that_is_none_is_refused(snr: object) -> None:
    with pytest.raises(ValueError, match="snr_db"), hvib.at(0.1, snr_db=snr):  # type: ignore[arg-type]
        pass


def test_a_wrong_number_of_snrs_is_refused() -> None:
    system, noise = plain(), torch.zeros(2, 2, 4, 3)
    with hvib.at([0.1, 1.0], snr_db=[1.0, 2.0, 3.0]), pytest.raises(ValueError, match="snr_db"):
        system(torch.randn(2, 4, 5), noise)


@pytest.mark.parametrize("snrs", [(5.0, 5.0), (25.0, -5.0), (0.0,), (0.0, math.nan)])
def test_a_range_of_snr_that_is_none_is_refused(snrs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="snrs"):
        StateGate(3, snrs)  # type: ignore[arg-type]


def test_the_paper_s_gate_is_the_state_gate_without_w() -> None:
    gate, paper = StateGate(4), Gate(4)
    with torch.no_grad():
        gate.w.zero_()
        paper.u.copy_(gate.u), paper.v.copy_(gate.v)
    log_beta = torch.tensor([-3.0, -1.0])
    from hvib.channel import snr_db_now

    token = snr_db_now.set(torch.tensor([17.0]))
    try:
        torch.testing.assert_close(gate(log_beta), paper(log_beta))
    finally:
        snr_db_now.reset(token)


def test_an_opening_starts_as_that_of_beta_alone() -> None:
    opening = StateOpening(4, BETAS)
    assert (opening.d == 0).all()


def test_training_draws_all_snrs_in_every_share() -> None:
    system = hvib.hyperize(plain(), method="snr", betas=BETAS)
    training = training_of(system, snrs=SNRS, shares=4)
    draw = training.draw(64)
    assert draw.snr_db is not None
    shares = draw.snr_db.view(4, 16)
    # One in each sixteenth of the range, in each share.
    strata = ((shares + 5) / 30 * 16).floor()
    assert torch.equal(strata.sort(1).values, torch.arange(16.0).expand(4, 16))
    x = torch.randn(64, 5)
    with hvib.at(draw.betas, snr_db=draw.snr_db):
        output = system(draw.shares(x), draw.noise)
        training.loss(draw, output, torch.zeros(64).long()).backward()


def test_draws_without_mixed_snr_are_those_of_before() -> None:
    system = hvib.hyperize(plain(), method="paper", betas=BETAS)
    one, other = training_of(system).draw(64), training_of(system, snrs=SNRS).draw(64)
    assert one.snr_db is None
    assert torch.equal(one.betas, other.betas)
    assert torch.equal(one.noise, other.noise)


@pytest.mark.parametrize(
    "method", [*sorted(name for name in METHODS.all() if "-snr" in name), "hyper-vib", "vib"]
)
def test_each_method_runs_over_mixed_snr_and_files_the_plane(method: str) -> None:
    betas = (1e-3,) if method == "vib" else BETAS
    settings: dict[str, Any] = {"channel": "rayleigh", "snrs": (-5, 10, 25), "mixed_snr": True}
    record = execute(hvib.make_run("digits", method, "smoke", betas=betas, **settings))
    assert record.config.snrs == (-5.0, 10.0, 25.0)
    for snr in record.config.snrs:
        rows = record.rows("test", snr)
        assert [row["beta"] for row in rows] == list(betas)
    assert len(record.rows("test")) == 3 * len(betas)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"snrs": (10, -5)}, "snrs"),
        ({"snrs": (math.nan,)}, "snrs"),
        ({"snrs": "10"}, "snrs"),
        ({"mixed_snr": True}, "mixed_snr"),
        ({"snrs": (5,), "mixed_snr": True}, "mixed_snr"),
        ({"snrs": (500,)}, "snrs"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(run_of("hyper-vib"), **settings)  # type: ignore[arg-type]


def test_old_records_read_as_runs_without_a_plane() -> None:
    new = ("snrs", "channel", "mixed_snr")
    old = {k: v for k, v in run_of("hyper-vib").to_json().items() if k not in new}
    assert Run.from_json(old) == run_of("hyper-vib")
