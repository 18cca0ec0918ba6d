"""Gates: equations (12) to (14), any model, folding."""

import contextvars
import copy
import math
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hvib.channel import AWGN
from hvib.gates.closing import FreeGate, Opening
from hvib.hyper import Gate, Gated, at, fold, hyperize
from hvib.layers.conditioned import Conditioned
from hvib.system import System

betas = st.floats(-8, 2).map(lambda e: 10**e)


seeds = st.integers(0, 2**31)


def shaken(model: nn.Module) -> nn.Module:
    """The model with gates well away from their common start."""
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, FreeGate):
                m.out.weight.normal_(0, 0.5)
                m.out.bias.normal_(0, 0.5)
            elif isinstance(m, Opening):
                m.c.normal_(0, 1)
                m.k.normal_(0, 1)
            elif isinstance(m, Gate):
                m.u.normal_(0, 0.5)
                m.v.normal_(0, 2)
    return model


@given(betas, st.integers(1, 9), st.integers(1, 9), seeds)
def test_gated_linear_is_equation_12(beta: float, m_in: int, m_out: int, seed: int) -> None:
    torch.manual_seed(seed)
    gated = shaken(Gated(nn.Linear(m_in, m_out), Gate(m_out), -1))
    assert isinstance(gated, Gated)
    gate, layer = gated.gate, gated.layer
    assert isinstance(layer, nn.Linear)
    s = torch.sigmoid(gate.u * math.log(beta) + gate.v)
    h = torch.randn(5, m_in)
    with at(beta):
        found = gated(h)
    expected = F.linear(h, s[:, None] * layer.weight, s * layer.bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@given(betas, st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 3]), seeds)
@settings(max_examples=40)
def test_gated_convolution_is_equation_14(
    beta: float, c_in: int, c_out: int, kernel: int, seed: int
) -> None:
    torch.manual_seed(seed)
    gated = shaken(Gated(nn.Conv2d(c_in, c_out, kernel), Gate(c_out), 1))
    assert isinstance(gated, Gated)
    layer = gated.layer
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    s = torch.sigmoid(gated.gate.u * math.log(beta) + gated.gate.v)
    h = torch.randn(2, c_in, 6, 5)
    with at(beta):
        found = gated(h)
    expected = F.conv2d(h, s[:, None, None, None] * layer.weight, s * layer.bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def models() -> dict[str, nn.Module]:
    """Models as a reader may bring them, for x of shape (N, 1, 8, 8)."""
    shared = nn.Linear(12, 12)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.blocks = nn.ModuleDict(
                {"a": nn.Conv2d(6, 6, 3, padding=1), "b": nn.Conv2d(6, 6, 1, bias=False)}
            )
            self.head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = F.relu(self.norm(self.stem(x)))
            h = h + self.blocks["b"](F.relu(self.blocks["a"](h)))
            return self.head(h.mean((2, 3)))

    return {
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 3)),
        "shared layer": nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), shared, nn.Tanh(), shared, nn.Linear(12, 3)
        ),
        "batch norms": nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, bias=False),
            nn.BatchNorm2d(5, affine=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80, 9),
            nn.BatchNorm1d(9),
            nn.Dropout(0.3),
            nn.Linear(9, 3, bias=False),
        ),
        "norms behind pools": nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.ReLU(),
            nn.GroupNorm(3, 6, affine=False),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        "residual": Residual(),
        "one layer": nn.Conv2d(1, 2, 3),
    }


GATES: dict[str, Callable[[int], Gate]] = {
    "sigmoid": Gate,
    "free": partial(FreeGate, betas=(1e-6, 1.0)),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", list(models()))
@given(beta=betas, seed=seeds)
@settings(max_examples=15)
def test_folded_model_gives_the_gated_model_s_outputs(
    name: str, gate: str, beta: float, seed: int
) -> None:
    torch.manual_seed(seed)
    hyper = shaken(hyperize(models()[name], seed % 1000, GATES[gate]))
    hyper.train()
    with at(beta):
        hyper(torch.randn(32, 1, 8, 8))  # gives batch norms statistics of their own
    hyper.eval()
    x = torch.randn(4, 1, 8, 8)
    with at(beta):
        expected = hyper(x)
    plain = fold(hyper, beta)
    assert not any(isinstance(m, Gate | Gated) for m in plain.modules())
    torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(models()))
def test_hyperize_leaves_the_original_alone_and_keeps_its_weights(name: str) -> None:
    model = models()[name]
    before = copy.deepcopy(model.state_dict())
    hyper = hyperize(model)
    assert not any(isinstance(m, Gated) for m in model.modules())
    kept = {k.replace("layer.", ""): v for k, v in hyper.state_dict().items() if "gate." not in k}
    assert kept.keys() == before.keys()
    for key, value in before.items():
        torch.testing.assert_close(kept[key], value)


@pytest.mark.parametrize(
    ("name", "gated_units"),
    [
        ("mlp", 23),
        ("shared layer", 27),
        ("batch norms", 21),
        ("norms behind pools", 13),
        ("residual", 21),
        ("one layer", 2),
    ],
)
def test_gates_add_two_parameters_for_each_output_unit(name: str, gated_units: int) -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    model = models()[name]
    assert count(hyperize(model)) - count(model) == 2 * gated_units


def test_gates_come_after_norms_which_would_cancel_them() -> None:
    def kinds(name: str, **settings: Any) -> list[str]:
        hyper = hyperize(models()[name], **settings)
        return [type(m.layer).__name__ for m in hyper.modules() if isinstance(m, Gated)]

    assert kinds("batch norms") == ["BatchNorm2d", "BatchNorm2d", "BatchNorm1d", "Linear"]
    assert kinds("norms behind pools") == ["BatchNorm2d", "GroupNorm", "Linear"]
    plain = ["Conv2d", "Conv2d", "Linear", "Linear"]
    assert kinds("batch norms", behind_norms=False) == plain


@pytest.mark.parametrize(
    "between",
    [
        *(nn.LeakyReLU(), nn.PReLU(), nn.ZeroPad2d(1), nn.Upsample(scale_factor=2)),
        *(nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.Dropout2d(0.5)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_gates_come_after_norms_behind_layers_that_pass_a_scale_on(between: nn.Module) -> None:
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), between, norm)
    (gated,) = (m for m in hyperize(model).modules() if isinstance(m, Gated))
    assert isinstance(gated.layer, nn.BatchNorm2d)


class Standardised(nn.Conv2d):
    """A convolution that standardises its weight, which divides any scale out of it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean()
        return self._conv_forward(input, weight / weight.std(), self.bias)


class Renamed(nn.Linear):
    """A linear layer by another name."""


def test_layers_that_make_another_use_of_their_weight_stay_plain() -> None:
    model = nn.Sequential(
        Standardised(1, 4, 3),
        nn.Flatten(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4 * 36, 5)),
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)),
        Renamed(5, 2),
    )
    hyper = shaken(hyperize(model)).eval()
    assert [type(m.layer) for m in hyper.modules() if isinstance(m, Gated)] == [Renamed]
    x = torch.randn(3, 1, 8, 8)
    with at(1e-3):
        expected = hyper(x)
    torch.testing.assert_close(fold(hyper, 1e-3)(x), expected)


def test_a_gate_before_a_batch_norm_is_cancelled_by_it() -> None:
    norm = nn.BatchNorm1d(5, eps=1e-12).double()
    before = nn.Sequential(shaken(Gated(nn.Linear(3, 5), Gate(5), -1)).double(), norm)
    after = hyperize(nn.Sequential(nn.Linear(3, 5).double(), norm))
    x = torch.randn(50, 3, dtype=torch.float64)

    def change(model: nn.Module) -> float:
        found = []
        for beta in (1e-6, 1.0):
            with at(beta):
                found.append(model(x).detach())
        return float((found[0] - found[1]).abs().max())

    assert change(before) < 1e-4
    assert change(shaken(after)) > 0.1


def test_m_betas_are_m_shares_of_the_batch() -> None:
    hyper = shaken(hyperize(models()["residual"])).eval()
    x = torch.randn(12, 1, 8, 8)
    several = [1e-5, 1e-2, 1.0]
    with at(several):
        together = hyper(x)
    for m, beta in enumerate(several):
        with at(beta):
            alone = hyper(x[4 * m : 4 * m + 4])
        torch.testing.assert_close(together[4 * m : 4 * m + 4], alone, rtol=1e-4, atol=1e-5)


def test_gate_lies_between_0_and_1_and_is_monotone_in_beta() -> None:
    gate = Gate(50)
    with torch.no_grad():
        gate.u.normal_()
    s = gate(torch.linspace(-14, 0, 30))
    assert s.shape == (30, 50)
    assert ((s >= 0) & (s <= 1)).all()
    slope = (s[1:] - s[:-1]) * gate.u.sign()
    assert (slope >= 0).all()


def test_gates_train_on_what_they_see() -> None:
    hyper = hyperize(models()["mlp"])
    with at([1e-4, 1e-1]):
        hyper(torch.randn(6, 1, 8, 8)).square().sum().backward()
    for m in hyper.modules():
        if isinstance(m, Gate):
            assert m.u.grad is not None
            assert m.u.grad.abs().sum() > 0


def test_attention_s_inner_projection_stays_plain() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.attention(x, x, x)[0])

    hyper = hyperize(Attends())
    with at(1e-3):
        assert hyper(torch.randn(4, 3, 8)).shape == (4, 3, 2)
    assert sum(isinstance(m, Gated) for m in hyper.modules()) == 1


def test_linear_layers_inside_a_sequence_model_gate_their_last_axis() -> None:
    hyper = shaken(hyperize(nn.Sequential(nn.Linear(8, 5))))
    x = torch.randn(4, 3, 8)
    with at([1e-4, 1e-1]):
        found = hyper(x)
    torch.testing.assert_close(found[2:], fold(hyper, 1e-1)(x[2:]))


def test_shared_weights_fold_each_with_its_own_gate() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).relu())

    hyper, x = shaken(hyperize(Tied())), torch.randn(6, 5)
    with at(1e-3):
        expected = hyper(x)
    torch.testing.assert_close(fold(hyper, 1e-3)(x), expected)


def test_a_first_axis_that_is_not_the_batch_is_refused() -> None:
    class Reader(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.batch_first = batch_first
            self.rnn = nn.GRU(3, 4, batch_first=batch_first)
            self.head = nn.Linear(4, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states = self.head(self.rnn(x if self.batch_first else x.transpose(0, 1))[0])
            return states[:, -1] if self.batch_first else states[-1]

    def passed(batch_first: bool) -> torch.Tensor:
        model = System(Reader(batch_first), nn.Linear(6, 2), AWGN(20), 6)
        noise = torch.randn(2, 4, 5, 6)
        with at([1e-4, 1e-3, 1e-2, 1e-1]):
            return hyperize(model)(torch.randn(4, 5, 8, 3), noise).prediction

    assert passed(batch_first=True).shape == (4, 5, 2)
    mend = r"gate input = \(8, 20, 12\): .* not the batch of 20; .* \(batch_first=True\)"
    with pytest.raises(ValueError, match=mend):
        passed(batch_first=False)

    class Turned(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.transpose(0, 1))

    model = System(nn.Sequential(Turned(3, 4), nn.Linear(4, 12)), nn.Linear(6, 2), AWGN(20), 6)
    with pytest.raises(ValueError, match=r"put the batch first$"), at([1e-4, 1e-3, 1e-2, 1e-1]):
        hyperize(model)(torch.randn(4, 5, 8, 3), torch.randn(2, 4, 5, 6))


def test_a_transformer_s_fast_path_is_not_taken() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    hyper, x = shaken(hyperize(layer)).eval(), torch.randn(4, 3, 8)
    with at(1e-3), torch.no_grad():
        expected = hyper(x)
        torch.testing.assert_close(fold(hyper, 1e-3)(x), expected)
    with at(1.0), torch.no_grad():
        assert not torch.allclose(hyper(x), expected)


@pytest.mark.parametrize(
    ("layer", "norm", "x"),
    [
        (nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4), torch.randn(6, 2, 9)),
        (nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), torch.randn(6, 2, 9, 9)),
        (nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), torch.randn(6, 2, 5, 5, 5)),
    ],
)
def test_every_norm_has_its_gate_behind_it(
    layer: nn.Module, norm: nn.Module, x: torch.Tensor
) -> None:
    hyper = shaken(hyperize(nn.Sequential(layer, norm))).eval()
    assert [isinstance(m, Gated) for m in hyper.children()] == [False, True]
    with at(1e-3), torch.no_grad():
        torch.testing.assert_close(fold(hyper, 1e-3)(x), hyper(x), rtol=1e-4, atol=1e-5)


def test_a_fold_is_at_one_beta() -> None:
    with pytest.raises(ValueError, match=r"beta = \[1e-06, 1.0\]: fold at one β"):
        fold(hyperize(nn.Linear(2, 2)), [1e-6, 1.0])  # type: ignore[list-item]


def test_misuse_is_named() -> None:
    hyper = hyperize(models()["mlp"])
    with pytest.raises(RuntimeError, match=r"no β is set: call a gated model inside `with at"):
        hyper(torch.randn(2, 1, 8, 8))
    with (
        pytest.raises(ValueError, match="batch size = 3: give a multiple of the 2 values"),
        at([1e-3, 1e-2]),
    ):
        hyper(torch.randn(3, 1, 8, 8))
    with pytest.raises(ValueError, match="gated already"):
        hyperize(hyper)
    with pytest.raises(ValueError, match="no Linear or Conv layer"):
        hyperize(nn.ReLU())


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf, []])
def test_beta_must_be_finite_and_positive(beta: Any) -> None:
    with pytest.raises(ValueError, match="beta = "), at(beta):
        pass
    with pytest.raises(ValueError, match="beta = "):
        fold(hyperize(models()["mlp"]), beta)


def test_a_fold_keeps_frozen_what_was_frozen() -> None:
    device = nn.Sequential(
        nn.Linear(4, 6),
        nn.Linear(6, 6, bias=False),
        nn.BatchNorm1d(6, affine=False),
        nn.Linear(6, 6, bias=False),
        nn.Linear(6, 2),
    )
    for layer in (device[0].weight, device[3].weight, device[4].bias):
        layer.requires_grad_(False)
    for gate in GATES.values():
        folded = fold(hyperize(device, 0, gate), 1e-3)
        trains = {name: p.requires_grad for name, p in folded.named_parameters()}
        shifts = {"3.bias": False} if "3.bias" in trains else {}
        assert trains == {
            **{"0.weight": False, "0.bias": True, "1.weight": True},
            **{"2.weight": True, "2.bias": True, "3.weight": False, **shifts},
            **{"4.weight": True, "4.bias": False},
        }
    hyper = hyperize(device).requires_grad_(False)
    assert not any(p.requires_grad for p in fold(hyper, 1e-3).parameters())


def test_a_thread_needs_a_beta_of_its_own() -> None:
    hyper, x = hyperize(models()["mlp"]), torch.randn(2, 1, 8, 8)
    with at(1e-3), ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match=r"each thread .* contextvars.copy_context\(\)\.run"):
            pool.submit(hyper, x).result()
        found = pool.submit(contextvars.copy_context().run, hyper, x).result()
        torch.testing.assert_close(found, hyper(x))


def test_a_layer_that_runs_again_in_a_backward_pass_s_own_thread_has_its_beta() -> None:
    hyper = shaken(hyperize(nn.Sequential(nn.Linear(3, 3))))
    ran: list[tuple[int, torch.Tensor]] = []

    class Deep(torch.autograd.Function):
        """Backward passes inside backward passes: PyTorch gives the deepest their own thread."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, depth: int) -> torch.Tensor:
            ctx.depth = depth
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            if ctx.depth == 0:
                ran.append((threading.get_ident(), hyper(gradient)))
            else:
                with torch.enable_grad():
                    x = torch.ones(2, 3, requires_grad=True)
                    Deep.apply(x, ctx.depth - 1).sum().backward()
            return gradient, None

    def backward() -> None:
        Deep.apply(torch.ones(2, 3, requires_grad=True), 70).sum().backward()

    with at(1e-1), at(1e-3):
        backward()
        expected = hyper(torch.ones(2, 3))
    ((thread, found),) = ran
    assert thread != threading.get_ident()
    torch.testing.assert_close(found, expected)
    with pytest.raises(RuntimeError, match="no β is set"):
        backward()


def test_log_beta_may_be_given_in_place_of_beta() -> None:
    hyper, x = shaken(hyperize(models()["mlp"])), torch.randn(6, 1, 8, 8)
    betas = torch.logspace(-5, 0, 6)
    with at(betas):
        expected = hyper(x)
    with at(log_beta=betas.log()):
        torch.testing.assert_close(hyper(x), expected)
    for i, one in enumerate(betas):  # as many β as examples: one each
        torch.testing.assert_close(fold(hyper, float(one))(x[i : i + 1]), expected[i : i + 1])
    for beta, log_beta in ((None, None), (0.1, betas.log())):
        mend = "give β, or log_beta in its place"
        with pytest.raises(ValueError, match=mend), at(beta, log_beta=log_beta):
            pass


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("each", [True, False], ids=["a β each", "one β"])
def test_a_gated_model_exports_with_log_beta_as_an_input(gate: str, each: bool) -> None:
    hyper = shaken(hyperize(models()["batch norms"], 0, GATES[gate])).eval()
    model, x = Conditioned(hyper), torch.randn(7, 1, 8, 8)
    log_beta = torch.linspace(-12, 0, 7 if each else 1)
    batch = torch.export.Dim("batch", min=2, max=64)
    sizes = ({0: batch}, {0: batch} if each else None)
    few = (x[:4], log_beta[: 4 if each else 1])
    exported = torch.export.export(model, few, dynamic_shapes=sizes).module()
    found = exported(x, log_beta)
    torch.testing.assert_close(found, model(x, log_beta), rtol=1e-5, atol=1e-5)
    with at(log_beta.exp()):
        torch.testing.assert_close(found, hyper(x), rtol=1e-4, atol=1e-5)


def test_only_a_gated_model_is_conditioned() -> None:
    with pytest.raises(ValueError, match="model = 'Linear': hyperize it first"):
        Conditioned(nn.Linear(2, 2))


@pytest.mark.parametrize("each", [True, False], ids=["a β each", "one β"])
def test_it_exports_to_onnx(each: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = Conditioned(shaken(hyperize(models()["batch norms"])).eval()).eval()
    x, log_beta = torch.randn(7, 1, 8, 8), torch.linspace(-12, 0, 7 if each else 1)
    batch = torch.export.Dim("batch", min=2, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter's own dependencies deprecate
        torch.onnx.export(
            model,
            (x[:4], log_beta[: 4 if each else 1]),
            tmp_path / "model.onnx",
            dynamo=True,
            verbose=False,
            input_names=["x", "log_beta"],
            dynamic_shapes=({0: batch}, {0: batch} if each else None),
        )
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"x": x.numpy(), "log_beta": log_beta.numpy()})
    expected = model(x, log_beta).detach()
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-5, atol=1e-5)


def test_a_compiled_model_has_one_graph_for_every_beta() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    hyper = shaken(hyperize(models()["batch norms"], 0, GATES["free"])).eval()
    torch._dynamo.reset()
    compiled, x = torch.compile(hyper, backend=backend, fullgraph=True), torch.randn(4, 1, 8, 8)
    for beta in (1e-6, 1e-3, 0.5, 1.0):
        with at(beta):
            torch.testing.assert_close(compiled(x), hyper(x))
    assert len(graphs) == 1
