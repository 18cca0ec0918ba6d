"""The hypernetworks that the paper cites: their formulas, counts, starts, and what they refuse."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import run_of, trained
from torch import Tensor, nn

import hvib
from hvib.checks.shares import require_equal_shares
from hvib.data import Data
from hvib.evaluation import evaluate
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.methods import METHODS
from hvib.methods.belonging import MadeFor, made_for
from hvib.methods.cited import DeviceGate, Generated, Generator, NetworkGate, SelfTuned, SelfTuning
from hvib.system import System, draw_noise
from hvib.tasks import build

NAMES = ("full", "self-tuning", "multi-rate")
ENDS = (1e-6, 1.0)
GRID = torch.tensor([1e-6, 1e-4, 1e-2, 1.0])


def made(name: str, network: str = "", **settings: Any) -> System:
    run = run_of(f"hyper-vib-{name}", features=8, network=network, **settings)
    system = METHODS.find(run.method).build(run)
    assert isinstance(system, System)
    return system


def plain(network: str = "") -> System:
    return build(run_of("vib", 1e-3, features=8, network=network))


def moved(model: nn.Module) -> nn.Module:
    """The model with all its parameters somewhere else, as if trained, in double precision."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.double().parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=0.1)
    return model.eval()


def inputs(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, draw_noise(1, count, 8, generator).double()


def t_of(beta: float) -> float:
    """Log β with mean 0 and variance 1, if uniform from log 1e-6 to log 1."""
    low, high = map(math.log, ENDS)
    return (math.log(beta) - (low + high) / 2) / ((high - low) / math.sqrt(12))


@pytest.mark.parametrize("network", ["", "digits-convolutions"])
@pytest.mark.parametrize("name", NAMES)
def test_a_share_is_what_it_is_alone_and_what_it_folds_to(name: str, network: str) -> None:
    system = moved(made(name, network))
    x, noise = inputs()
    together = x.expand(len(GRID), *x.shape), noise.expand(-1, len(GRID), -1, -1)
    with torch.no_grad(), at(GRID):
        all_four = system(*together)
    names = dict(plain(network).named_parameters())
    for share, beta in enumerate(GRID.tolist()):
        with torch.no_grad(), at(beta):
            alone = system(x[None], noise)
        folded = fold(system, beta)
        assert not any(isinstance(m, Gate | Gated) for m in folded.modules())
        assert {n: p.shape for n, p in folded.named_parameters()} == {
            n: p.shape for n, p in names.items()
        }
        for part in ("prediction", "mean", "variance"):
            got = getattr(all_four, part)[share]
            torch.testing.assert_close(got, getattr(alone, part)[0])
            torch.testing.assert_close(got, getattr(folded(x[None], noise), part)[0].detach())
    assert not torch.allclose(all_four.mean[0], all_four.mean[3], rtol=1e-2)


LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "linear": lambda: (nn.Linear(5, 4), (12, 5)),
    "linear without bias": lambda: (nn.Linear(5, 4, bias=False), (12, 5)),
    "linear along a sequence": lambda: (nn.Linear(5, 4), (12, 3, 5)),
    "one to one": lambda: (nn.Linear(1, 1), (12, 1)),
    "Conv1d": lambda: (nn.Conv1d(3, 4, 3, stride=2, padding=1), (12, 3, 9)),
    "Conv2d without bias": lambda: (nn.Conv2d(3, 4, 3, bias=False), (12, 3, 5, 6)),
    "Conv2d in groups": lambda: (
        nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="circular"),
        (12, 4, 5, 5),
    ),
    "Conv3d": lambda: (nn.Conv3d(2, 3, 2), (12, 2, 3, 3, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ["full", "self-tuning"])
def test_every_kind_of_layer_has_its_effective_weights(name: str, kind: str) -> None:
    torch.manual_seed(0)
    layer, size = LAYERS[kind]()
    model = hyperize(nn.Sequential(layer, nn.ReLU()), method=name, betas=ENDS)
    moved(model)
    h = torch.randn(size, dtype=torch.float64)
    with torch.no_grad(), at(GRID):
        found = model(h).chunk(4)
    for part, share, beta in zip(h.chunk(4), found, GRID.tolist(), strict=True):
        folded = fold(model, beta)
        assert type(folded[0]) is type(layer)
        torch.testing.assert_close(folded(part).detach(), share)
    assert found[0].abs().max() > 0


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(3, 4, 3)])
def test_self_tuned_weights_are_affine_in_t(layer: nn.Module) -> None:
    model = moved(hyperize(nn.Sequential(layer), method="self-tuning", betas=ENDS))
    gate = model[0].gate  # type: ignore[index]
    assert isinstance(gate, SelfTuning)
    for beta in GRID.tolist():
        folded = fold(model, beta)[0]  # type: ignore[index]
        for i in range(4):
            w = model[0].layer.weight[i] + t_of(beta) * gate.v[i] * gate.other.weight[i]  # type: ignore[index]
            b = model[0].layer.bias[i] + t_of(beta) * gate.c[i] * gate.bias[i]  # type: ignore[index]
            torch.testing.assert_close(folded.weight[i], w, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(folded.bias[i], b, atol=1e-6, rtol=1e-6)


def test_generated_weights_are_made_chunk_by_chunk() -> None:
    model = moved(hyperize(nn.Sequential(nn.Linear(5, 4)), method="full", betas=ENDS))
    gate = model[0].gate  # type: ignore[index]
    assert isinstance(gate, Generator)
    assert gate.bias is not None
    for beta in GRID.tolist():
        folded = fold(model, beta)[0]  # type: ignore[index]
        embedded = torch.tanh(t_of(beta) * gate.u + gate.w)
        for i in range(4):
            before = gate.hidden.weight @ embedded + gate.hidden.bias + 10 * gate.chunks[:, i]
            hidden = torch.tanh(before) * 8 / 256
            torch.testing.assert_close(
                folded.weight[i], gate.weight.T @ hidden, atol=1e-6, rtol=1e-6
            )
            torch.testing.assert_close(folded.bias[i], gate.bias @ hidden, atol=1e-6, rtol=1e-6)


def test_the_gates_of_multi_rate_vae() -> None:
    for kind, scale in (
        (DeviceGate, lambda h: 1 / (1 + math.exp(-h))),
        (NetworkGate, lambda h: math.sqrt(max(1 - math.exp(h), 0))),
    ):
        gate = kind(3, ENDS).double()
        with torch.no_grad():
            gate.u.copy_(torch.tensor([1.5, -1.0, 0.3]))
            gate.v.copy_(torch.tensor([-0.5, 0.2, 0.4]))
        found = gate(GRID.double().log())
        for share, beta in enumerate(GRID.tolist()):
            for i in range(3):
                h = gate.u[i].item() * t_of(beta) + gate.v[i].item()
                assert float(found[share, i].detach()) == pytest.approx(scale(h), abs=1e-6)
        found.sum().backward()
        assert gate.u.grad is not None
        assert torch.isfinite(gate.u.grad).all()
    assert float(found[-1, 0].detach()) == 0.0  # closed at large β
    assert float(found[0, 0].detach()) > 0.9  # and open at small


def test_the_device_and_the_network_have_gates_of_their_own() -> None:
    system = made("multi-rate")
    for part, kind in ((system.device, DeviceGate), (system.network, NetworkGate)):
        kinds = [type(m) for m in part.modules() if isinstance(m, Gate)]
        assert kinds == [kind] * 3
    again = made("multi-rate").state_dict()
    assert all(torch.equal(p, again[name]) for name, p in system.state_dict().items())
    other = made("multi-rate", seed=1).state_dict()
    assert not torch.equal(other["network.1.gate.u"], again["network.1.gate.u"])


def sizes(network: str = "") -> list[tuple[int, int, bool]]:
    """m, n and whether there is a bias, of each linear and convolutional layer."""
    layers = [m for m in plain(network).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return [(len(m.weight), m.weight[0].numel(), m.bias is not None) for m in layers]


@pytest.mark.parametrize("network", ["", "digits-convolutions"])
def test_how_many_parameters_each_has(network: str) -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    own = sum(m * (n + bias) for m, n, bias in sizes(network))
    beside = count(plain(network)) - own  # of norms
    tuned = 2 * own + sum(m * (1 + bias) for m, _, bias in sizes(network))
    assert count(made("self-tuning", network)) == beside + tuned
    rest = 256 * 17 + 2 * 16
    generated = sum(256 * (m + n + bias) + rest for m, n, bias in sizes(network))
    assert count(made("full", network)) == beside + generated
    assert count(made("multi-rate", network)) == count(plain(network)) + 2 * sum(
        m for m, *_ in sizes(network)
    )
    if not network:
        assert beside == 0


def relative(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def test_where_each_starts() -> None:
    x, noise = (part.float() for part in inputs())
    expected = plain()(x[None], noise).mean.detach()

    def outputs(name: str, beta: float) -> Tensor:
        with torch.no_grad(), at(beta):
            return made(name)(x[None], noise).mean

    for beta in GRID.tolist():
        assert 0 < relative(outputs("self-tuning", beta), expected) < 0.05
        gates = [m for m in made("multi-rate").modules() if isinstance(m, Gate)]
        scales = torch.cat([g(torch.tensor([beta]).log())[0] for g in gates]).detach()
        assert 0.85 < float(scales.min()) < float(scales.max()) < 0.97
    # The weights that the full one generates are as large as the plain ones, and much the same at
    # all β.
    middle = fold(made("full"), 1e-3)
    for (name, own), (_, weight) in zip(
        plain().named_parameters(), middle.named_parameters(), strict=True
    ):
        power = (weight.square().mean() / own.square().mean()).item()
        # A bias has few numbers, and all of them come of one vector of K.
        assert power == pytest.approx(1, abs=0.1 if own.dim() > 1 else 0.6), name
    for end in ENDS:
        for own, weight in zip(
            middle.parameters(), fold(made("full"), end).parameters(), strict=True
        ):
            if own.dim() > 1:
                assert 0.05 < relative(weight, own) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_parameter(name: str) -> None:
    system = made(name)
    x, noise = (part.float() for part in inputs())
    with at(GRID):
        output = system(x.expand(4, *x.shape), noise.expand(-1, 4, -1, -1))
    (output.prediction.square().sum() + output.variance.sum()).backward()
    for path, p in system.named_parameters():
        assert p.grad is not None, path
        assert p.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_answers_the_grid(name: str, digits: Data) -> None:
    run = run_of(f"hyper-vib-{name}", epochs=10, learning_rate=1e-2)
    before = evaluate(METHODS.find(run.method).build(run), digits.test, run.betas, draws=1)
    model = trained(run, digits)
    after = evaluate(model, digits.test, draws=1)  # the grid that it knows
    assert [row["beta"] for row in after] == list(run.betas)
    assert all(
        a["objective"] < 0.9 * b["objective"] for a, b in zip(after[:10], before, strict=False)
    )
    assert made_for(model) == MadeFor(f"hyper-vib-{name}", ENDS)


@pytest.mark.parametrize("name", NAMES)
def test_its_state_is_filed_and_loaded(name: str) -> None:
    x, noise = (part.float() for part in inputs())
    first, second = moved(made(name)).float(), made(name, seed=1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad(), at(1e-2):
        assert torch.equal(first(x[None], noise).mean, second(x[None], noise).mean)
    narrow = hyperize(plain(), method=name, betas=(1e-3, 1e-1))
    with pytest.raises(RuntimeError, match=r"the weights are of a model for β from 1e-06 to 1"):
        narrow.load_state_dict(first.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused(name: str, digits: Data) -> None:
    with pytest.raises(ValueError, match=r"betas = None: give the ends of the range of β"):
        hyperize(plain(), method=name)
    with pytest.raises(ValueError, match="gated already; fold it first"):
        hyperize(made(name), method=name, betas=ENDS)
    system = made(name)
    x, noise = (part.float() for part in inputs())
    with pytest.raises(RuntimeError, match="no β is set"):
        system(x[None], noise)
    with at([1e-3, 1e-2]), pytest.raises(ValueError, match="multiple of the 2 values of β"):
        system(x[None, :5], noise[:, :, :5])
    other = {"full": "hyper-vib-self-tuning"}.get(name, "hyper-vib-full")
    with pytest.raises(ValueError, match=f"made by method hyper-vib-{name}"):
        hvib.fit(system, digits, run_of(other, features=8))


def test_the_gates_of_multi_rate_vae_need_both_ends_of_a_link() -> None:
    with pytest.raises(ValueError, match=r"model = 'Sequential': .*give a System"):
        hyperize(nn.Sequential(nn.Linear(3, 2)), method="multi-rate", betas=ENDS)


class TwoViews(nn.Module):
    """Joins the halves of each example along the batch, so that all left ones come first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(32, 16), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.flatten(1).chunk(2, 1)
        return self.head(torch.cat(self.encoder(torch.cat([left, right])).chunk(2), 1))


@pytest.mark.parametrize("name", NAMES)
def test_rows_out_of_order_are_seen(name: str) -> None:
    torch.manual_seed(0)
    mixed = System(TwoViews(), nn.Linear(8, 10), hvib.AWGN(20.0), 8)
    x, noise = (part.float() for part in inputs(8))
    batch = x.expand(4, *x.shape), noise.expand(-1, 4, -1, -1)
    require_equal_shares(made(name), *batch, GRID)
    with pytest.raises(ValueError, match=r"^difference of .* from that of the same share"):
        require_equal_shares(hyperize(mixed, method=name, betas=ENDS), *batch, GRID)


@pytest.mark.parametrize("name", ["full", "self-tuning"])
def test_norms_are_left_as_they_are(name: str) -> None:
    system = made(name, "digits-convolutions")
    norms = [m for m in system.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 6
    layers = [m for m in system.modules() if isinstance(m, Gated)]
    assert {type(m) for m in layers} == {Generated if name == "full" else SelfTuned}
    assert len(layers) == len(sizes("digits-convolutions"))
    assert not any(isinstance(m.layer, nn.BatchNorm2d) for m in layers)


def test_multi_rate_gates_are_behind_norms() -> None:
    layers = [
        m for m in made("multi-rate", "digits-convolutions").modules() if isinstance(m, Gated)
    ]
    assert [type(m.layer) for m in layers[:6]] == [nn.BatchNorm2d] * 6


def test_what_is_behind_a_layer_happens_once() -> None:
    for name, betas in itertools.product(("full", "self-tuning"), ([1e-3], [1e-3, 1e-2])):
        seen: list[int] = []
        model = nn.Sequential(nn.Linear(3, 2))
        model[0].register_forward_hook(lambda m, args, h, seen=seen: seen.append(len(h)))
        made_ = hyperize(model, method=name, betas=ENDS)
        before = len(seen)
        with at(betas):
            made_(torch.ones(4, 3))
        calls = seen[before:]
        assert calls[-1] == 4
        with at(1e-3):
            before = len(seen)
            made_(torch.ones(4, 3))
            assert seen[before:] == [4]


def test_frozen_weights_stay_frozen_in_the_fold() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    tuned = fold(hyperize(nn.Sequential(layer), method="self-tuning", betas=ENDS), 1e-2)
    assert not tuned[0].weight.requires_grad
    assert tuned[0].bias.requires_grad
    model = hyperize(nn.Sequential(layer), method="full", betas=ENDS)
    assert fold(model, 1e-2)[0].weight.requires_grad
    assert not fold(model.requires_grad_(False), 1e-2)[0].weight.requires_grad
