"""Rival gates of the SNR: their formulas, counts and starts, mixed batches, and the fold."""

import math
from typing import Any

import pytest
import torch
from small import run_of
from torch import Tensor, nn

import hvib
from hvib.channel import Channel
from hvib.channels import Faded, Steady
from hvib.gates.rivals import AffineGate, Attended, AttentionGate, Followed
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.ledger.execution import execute
from hvib.methods import METHODS
from hvib.methods.belonging import MadeFor, made_for
from hvib.system import Stacked, System, draw_noise
from hvib.tasks import build

NAMES = ("affine", "attention")
ENDS = (1e-4, 1.0)
PLANE = [(1e-4, -5.0), (1e-2, 10.0), (1.0, 25.0), (0.1, 3.0)]


def plain(channel: Channel | None = None) -> System:
    torch.manual_seed(0)
    return System(hvib.mlp([5, 8, 6]), hvib.mlp([3, 8, 2]), channel or Steady(20.0), 3)


def made(name: str, network: str = "", **settings: Any) -> System:
    run = run_of(f"hyper-vib-{name}", *ENDS, features=8, network=network, **settings)
    system = METHODS.find(run.method).build(run)
    assert isinstance(system, System)
    return system


def steep(model: nn.Module) -> nn.Module:
    """With gates that differ clearly between states, in double precision."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.double().named_parameters():
            if name.endswith(("gate.w", "inner.weight", "outer.weight")):
                p.copy_(torch.randn(p.shape, generator=g, dtype=p.dtype))
    return model.eval()


def of(name: str, channel: Channel | None = None) -> System:
    system = steep(hyperize(plain(channel), method=name, betas=ENDS))
    assert isinstance(system, System)
    return system


def gates_of(model: nn.Module) -> list[Gate]:
    return [m for m in model.modules() if isinstance(m, Gate)]


def t_of(snr_db: float) -> float:
    """The SNR in dB, if −5 is −1 and 25 is 1."""
    return (snr_db - 10) / 15


def images() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(1, 4, 1, 8, 8, generator=g, dtype=torch.float64)
    return x, draw_noise(1, 4, 8, g).double()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_mixed_states_gives_each_example_its_own(name: str) -> None:
    system = of(name)
    x, noise = torch.randn(2, 3, 5).double(), torch.randn(2, 2, 3, 3).double()
    snrs = torch.tensor([-5.0, 10.0, 25.0, 3.0, 20.0, 0.0])
    with at([1e-3, 0.1], snr_db=snrs):
        together = system(x, noise)
    for m, beta in enumerate((1e-3, 0.1)):
        for i in range(3):
            with at(beta, snr_db=snrs[3 * m + i]):
                alone = system(x[m : m + 1, i : i + 1], noise[:, m : m + 1, i : i + 1])
            for one, both in zip(alone, together, strict=True):
                torch.testing.assert_close(both[m, i], one[0, 0])
    assert not torch.allclose(together.mean[0, 0], together.mean[0, 2], rtol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_fading_tells_the_gates_the_state_of_each_draw(name: str) -> None:
    system = of(name, Faded(10.0))
    x, noise = torch.randn(1, 2, 5).double(), torch.randn(2, 1, 6, 5).double()
    with at(1e-2):
        together = system(x, noise)  # three draws of two examples
        for k in range(6):
            i = k % 2
            alone = system(x[:, i : i + 1], noise[:, :, k : k + 1])
            for one, both in zip(alone, together, strict=True):
                torch.testing.assert_close(both[:, k], one[:, 0])
    assert not torch.equal(together.mean[0, 0], together.mean[0, 2])  # one example, two states


@pytest.mark.parametrize("network", ["", "digits-convolutions"])
@pytest.mark.parametrize("name", NAMES)
def test_the_fold_is_the_gated_system_at_one_state(name: str, network: str) -> None:
    system = steep(made(name, network))
    x, noise = images()
    for beta, snr in PLANE:
        with torch.no_grad(), at(beta, snr_db=snr):
            gated = system(x, noise)
        before = torch.get_rng_state()
        folded = fold(system, beta, snr)
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(isinstance(m, Gate | Gated) for m in folded.modules())
        with torch.no_grad(), at(1.0, snr_db=snr):  # of its channel
            for one, other in zip(folded(x, noise), gated, strict=True):
                torch.testing.assert_close(one, other)
    with pytest.raises(RuntimeError, match="no SNR is set"):
        fold(system, 1e-2)


def test_affine_scales_fold_into_the_weights() -> None:
    names = dict(plain().named_parameters())
    folded = fold(hyperize(plain(), method="affine"), 1e-2, 7.0)
    assert {n: p.shape for n, p in folded.named_parameters()} == {
        n: p.shape for n, p in names.items()
    }


def test_attention_stays_behind_the_folded_layers() -> None:
    gated = hyperize(plain(), method="attention")
    folded = fold(gated, 1e-2, 7.0)
    layers = [m for m in folded.modules() if isinstance(m, Followed)]
    assert [m.out_features for m in layers] == [8, 6, 8, 2]  # the layer answers
    # The SNR is in the bias, so that no column of A is left for it.
    shapes = [tuple(m.attention.inner.weight.shape) for m in layers]
    assert shapes == [(4, m) for m in (8, 6, 8, 2)]
    assert all(p.requires_grad for p in folded.parameters())
    frozen = fold(gated.requires_grad_(False), 1e-2, 7.0)
    assert not any(p.requires_grad for p in frozen.parameters())
    # Folded systems of several states are of one architecture.
    assert isinstance(folded, System)
    stack = Stacked([fold(of("attention"), *state).float() for state in PLANE])
    x, noise = torch.randn(1, 4, 5), torch.randn(2, 1, 4, 3)
    torch.testing.assert_close(
        stack(x, noise).mean[1], fold(of("attention"), *PLANE[1]).float()(x, noise).mean[0]
    )


@pytest.mark.parametrize("name", NAMES)
def test_fixed_layers_in_the_fold_train(name: str) -> None:
    folded = fold(of(name), 1e-2, 7.0)
    out = folded(torch.randn(1, 4, 5).double(), torch.randn(2, 1, 4, 3).double())
    (out.prediction.square().sum() + out.variance.sum()).backward()
    assert all(p.grad is not None for p in folded.parameters())


def test_the_second_factor_is_affine_in_the_snr() -> None:
    gate = AffineGate(4)
    with torch.no_grad():
        gate.w.copy_(torch.randn(4)), gate.c.copy_(torch.randn(4))
    for beta, snr in PLANE:
        model = Gated(nn.Linear(3, 4), gate, -1)
        h = torch.randn(2, 3)
        with torch.no_grad(), at(beta, snr_db=snr):
            found = model(h)
        s = torch.sigmoid(gate.u * math.log(beta) + gate.v) * (gate.w * t_of(snr) + gate.c)
        torch.testing.assert_close(found, s.detach() * model.layer(h).detach())


def attended(gate: AttentionGate, h: Tensor, p: Tensor, snr: float) -> Tensor:
    """What the attention makes of one example's channels, by its formula."""
    inner, outer = gate.attention.inner, gate.attention.outer
    read = torch.cat([p, torch.tensor([t_of(snr)], dtype=p.dtype)])
    s = torch.sigmoid(outer.weight @ torch.relu(inner.weight @ read + inner.bias) + outer.bias)
    return h * s.view(-1, *[1] * (h.dim() - 1))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (nn.Linear(5, 4), (6, 5), -1),
    "linear along a sequence": (nn.Linear(5, 4), (6, 3, 5), -1),
    "Conv1d": (nn.Conv1d(3, 4, 3), (6, 3, 9), 1),
    "Conv2d": (nn.Conv2d(3, 4, 3, bias=False), (6, 3, 5, 6), 1),
    "Conv3d": (nn.Conv3d(2, 4, 2), (6, 2, 3, 3, 3), 1),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_attention_reads_the_mean_of_each_channel_and_the_snr(kind: str) -> None:
    layer, size, axis = LAYERS[kind]
    model = steep(hyperize(nn.Sequential(layer), method="attention", betas=ENDS))
    gate = model[0].gate  # type: ignore[index]
    assert isinstance(gate, AttentionGate)
    assert isinstance(model[0], Attended)  # type: ignore[index]
    x = torch.randn(size).double()
    betas, snrs = torch.tensor([1e-3, 1e-2, 0.1]).double(), [-5.0, 10.0, 25.0, 0.0, 5.0, 20.0]
    with torch.no_grad(), at(betas, snr_db=snrs):
        found = model(x)
    for i, snr in enumerate(snrs):
        h = layer.double()(x[i : i + 1])[0].movedim(axis - (axis > 0), 0)  # (m, …)
        s = torch.sigmoid(gate.u * betas[i // 2].log() + gate.v)
        h = s.view(-1, *[1] * (h.dim() - 1)) * h
        expected = attended(gate, h, h.flatten(1).mean(1) if h.dim() > 1 else h, snr)
        torch.testing.assert_close(found[i].movedim(axis - (axis > 0), 0), expected.detach())
        folded = fold(model, betas[i // 2].item(), snr)
        torch.testing.assert_close(folded(x[i : i + 1]).detach()[0], found[i])


def test_the_paper_s_gate_is_the_affine_gate_that_ignores_the_snr() -> None:
    gate, paper = AffineGate(4), Gate(4)
    with torch.no_grad():
        gate.w.zero_()
        paper.u.copy_(gate.u), paper.v.copy_(gate.v)
    layer, x = nn.Linear(3, 4), torch.randn(6, 3)
    with torch.no_grad(), at([1e-3, 0.1], snr_db=17.0):
        torch.testing.assert_close(Gated(layer, gate, -1)(x), Gated(layer, paper, -1)(x))


def test_the_counts_are_those_of_the_sources() -> None:
    for m in (4, 10, 256):
        # The paper's u and v; then a weight and a bias of Linear(1, m).
        assert sum(p.numel() for p in AffineGate(m).parameters()) == 2 * m + 2 * m
        # The paper's; then Dense(m + 1, h) and Dense(h, m), with h = m/16 where that is enough.
        h = {4: 4, 10: 4, 256: 16}[m]
        count = 2 * m + (m + 1) * h + h + h * m + m
        assert sum(p.numel() for p in AttentionGate(m).parameters()) == count


@pytest.mark.parametrize("network", ["", "digits-convolutions"])
@pytest.mark.parametrize("name", NAMES)
def test_they_start_near_the_paper_s_gates(name: str, network: str) -> None:
    x, noise = images()
    system, alike = made(name, network).double().eval(), made("affine", network).double().eval()
    layers = [m for m in system.modules() if isinstance(m, Gated)]
    seen: list[Tensor] = []
    for m in layers:
        m.register_forward_hook(lambda m, args, h: seen.append(h))
        m.layer.register_forward_hook(lambda m, args, h: seen.append(h))
    for beta, snr in PLANE:
        seen.clear()
        with torch.no_grad(), at(beta, snr_db=snr):
            system(x, noise)
        for before, after, layer in zip(seen[::2], seen[1::2], layers, strict=True):
            shape = [1] * before.dim()
            shape[layer.axis] = -1
            paper = torch.sigmoid(layer.gate.u * math.log(beta) + layer.gate.v).view(shape)
            ratio = (after / (paper * before))[before.abs() > 1e-6]
            assert 0.8 < ratio.min() <= ratio.max() < 1.11
    assert len(layers) == len(gates_of(alike))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_parameter(name: str) -> None:
    system = made(name).double()
    x, noise = images()
    with at([1e-4, 1e-2, 0.1, 1.0], snr_db=[-5.0, 5.0, 15.0, 25.0]):
        output = system(x.expand(4, -1, -1, -1, -1), noise.expand(-1, 4, -1, -1))
    (output.prediction.square().sum() + output.variance.sum()).backward()
    for path, p in system.named_parameters():
        assert p.grad is not None, path
        assert p.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", NAMES)
def test_the_gates_are_made_for_the_range_of_the_run(name: str) -> None:
    for snrs, ends in (
        ((0.0, 10.0, 20.0), (0.0, 20.0)),
        ((), (-5.0, 25.0)),
        ((3.0,), (-5.0, 25.0)),
    ):
        system = made(name, snrs=snrs)
        assert {vars(g)["snrs"] for g in gates_of(system)} == {ends}
        assert made_for(system) == MadeFor(f"hyper-vib-{name}", ENDS)
        assert {type(g) for g in gates_of(system)} == METHODS.find(f"hyper-vib-{name}").gates
    with pytest.raises(ValueError, match="snrs"):
        (AffineGate if name == "affine" else AttentionGate)(3, (5.0, 5.0))


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused(name: str) -> None:
    model = hyperize(hvib.mlp([5, 8, 2]), method=name)
    with at(0.1), pytest.raises(RuntimeError, match="snr_db"):
        model(torch.randn(4, 5))
    with pytest.raises(RuntimeError, match="no β is set"):
        model(torch.randn(4, 5))
    with at([0.1, 1.0], snr_db=3.0), pytest.raises(ValueError, match="multiple of the 2 values"):
        model(torch.randn(5, 5))
    with pytest.raises(ValueError, match="gated already; fold it first"):
        hyperize(model, method=name)


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_over_mixed_snr_and_files_the_plane(name: str) -> None:
    settings: dict[str, Any] = {"channel": "rayleigh", "snrs": (-5, 10, 25), "mixed_snr": True}
    record = execute(hvib.make_run("digits", f"hyper-vib-{name}", "smoke", betas=ENDS, **settings))
    for snr in (-5.0, 10.0, 25.0):
        rows = record.rows("test", snr)
        assert [row["beta"] for row in rows] == list(ENDS)
        assert all(math.isfinite(row["objective"]) for row in rows)
    count = sum(p.numel() for p in build(record.config).parameters())
    assert record.parameters > count


def test_each_looks_like_no_other_of_its_figure() -> None:
    shown = [m for name, m in METHODS.all().items() if "snr" in name or name[10:] in NAMES]
    assert len(shown) >= 6
    for each in (
        [m.style.color for m in shown],
        [m.style.marker for m in shown],
        [m.label for m in shown],
    ):
        assert len(set(each)) == len(shown)
