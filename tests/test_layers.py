"""Which layers of other people's models take a gate: by the calls of a forward pass."""

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from test_hyper import shaken
from torch import Tensor, nn
from torch.nn.utils import prune

from hvib.channel import AWGN
from hvib.hyper import Gated, at, fold, hyperize
from hvib.layers.kinds import NORMS, PASSED, outputs
from hvib.layers.watch import Watch
from hvib.system import System
from hvib.tasks import TASKS, build, make_run


def gated(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, Gated)]


def watched(module: nn.Module) -> bool:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(isinstance(getattr(hook, "__self__", None), Watch) for hook in hooks)


def check(model: nn.Module, x: Tensor, *, passes: int = 1, **settings: Any) -> list[str]:
    """The names of a model's gated layers, once its folds give what it gives itself."""
    hyper = shaken(hyperize(model, **settings)).eval()
    for _ in range(passes):
        with at([1e-4, 1e-1]), torch.no_grad():
            y = hyper(torch.cat([x, x]))
    for beta, share in zip((1e-4, 1e-1), y.chunk(2), strict=True):
        found = fold(hyper, beta)(x)
        assert not any(watched(m) for m in fold(hyper, beta).modules())
        torch.testing.assert_close(found, share, rtol=1e-4, atol=1e-5 * float(share.abs().max()))
    return gated(hyper)


def in_order_of_registration(model: nn.Module) -> list[nn.Module]:
    """The rule before calls were followed."""
    leaves = [
        m for m in model.modules() if next(m.children(), None) is None and not isinstance(m, PASSED)
    ]
    found = []
    for layer, following in itertools.zip_longest(leaves, leaves[1:]):
        size = outputs(layer)
        if size is None or isinstance(layer, NORMS):
            continue
        normed = isinstance(following, NORMS) and outputs(following) == (size[0], 1)
        found.append(following if normed else layer)
    return found


NETWORKS = [(name, network) for name, task in TASKS.all().items() for network in task.networks]


@pytest.mark.parametrize(("task", "network"), NETWORKS)
def test_in_the_tasks_networks_the_order_of_calls_is_that_of_registration(
    task: str, network: str
) -> None:
    model = build(make_run(task, "vib", network=network))
    registered = {id(m) for m in in_order_of_registration(model)}
    assert gated(hyperize(model)) == [n for n, m in model.named_modules() if id(m) in registered]


class Attention(nn.Module):
    """Attention that gives two layers' weights to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k = F.linear(x, self.q.weight, self.q.bias), x @ self.k.weight.t()
        scores = q @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        return x + self.out(scores.softmax(-1) @ self.v(x))


class Free(Attention):
    """The same, with a course that depends on values, so that placeholders cannot follow it."""

    def forward(self, *inputs: Any) -> Tensor:
        if float(inputs[0].detach().sum()) == 12345:
            raise AssertionError
        return super().forward(*inputs)


def test_a_layer_whose_weight_goes_to_a_function_stays_plain() -> None:
    x = torch.randn(3, 5, 8)
    assert check(Attention(), x) == ["v", "out"]
    assert check(Attention(), x, example=x[:1]) == ["v", "out"]
    assert check(Free(), x, example=x[:1]) == ["v", "out"]
    assert check(Free(), x, example=(x[:1],)) == ["v", "out"]
    assert check(nn.Sequential(nn.Linear(8, 8), Free()), x, example=x) == ["0", "1.v", "1.out"]


def test_so_does_one_whose_weight_is_tied_to_a_function() -> None:
    class Tied(nn.Module):
        def __init__(self, values: bool) -> None:
            super().__init__()
            self.values = values
            self.encode, self.middle = nn.Linear(6, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.middle(self.encode(x).relu())
            if self.values and float(h.detach().sum()) == 12345:
                raise AssertionError
            return F.linear(h, self.encode.weight.t())

    x = torch.randn(4, 6)
    assert check(Tied(False), x) == ["middle"]
    assert check(Tied(True), x, example=x) == ["middle"]
    with pytest.raises(ValueError, match=r"layers = \['encode'\]: .* `example`"):
        check(Tied(True), x)


def test_what_could_not_be_followed_is_watched_once_in_each_mode() -> None:
    x = torch.randn(2, 5, 8)
    hyper = hyperize(nn.Sequential(nn.Linear(8, 8), Free()))
    assert gated(hyper) == ["0", "1.q", "1.k", "1.v", "1.out"]
    with at(1e-3), pytest.raises(ValueError, match=r"layers = \['q', 'k'\]: .* `example` input"):
        hyper(x)

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.sum()) == 12345 or not self.training:
                return self.layer(x)
            return F.linear(x, self.layer.weight)

    late = hyperize(Late()).eval()
    with at(1e-3):
        late(x)
        late(x)
        with pytest.raises(ValueError, match=r"layers = \['layer'\]"):
            late.train()(x)
    with at(1e-3), pytest.raises(RuntimeError, match="shapes"):  # a failed pass leaves no trace
        hyperize(Late()).eval()(torch.randn(2, 3))
    assert torch.overrides._len_torch_function_stack() == 0


def test_a_model_may_look_at_its_layers_and_then_call_them() -> None:
    class Looks(nn.Module):
        def __init__(self, values: bool) -> None:
            super().__init__()
            self.values = values
            self.inner, self.out = nn.Linear(6, 8), nn.Conv1d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            if self.values and float(x.sum()) == 12345:
                raise AssertionError
            h = self.inner(x.to(self.inner.weight.dtype).to(self.out.weight))
            assert self.inner.weight.shape[1] == 6
            empty = torch.zeros_like(self.inner.bias)
            h = (h + empty).view(-1, self.out.in_channels, self.inner.out_features // 2)
            return self.out(h).flatten(1)

    x = torch.randn(4, 6)
    for values, example in itertools.product((False, True), (None, x)):
        assert check(Looks(values), x, passes=2, example=example) == ["inner", "out"]
    hyper = hyperize(Looks(False))
    with pytest.raises(AttributeError, match="nothing"):
        _ = hyper.inner.nothing


class NormsLast(nn.Module):
    """Convolutions first, then norms; called in turn, with functions between."""

    def __init__(self, values: bool) -> None:
        super().__init__()
        self.values = values
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(1, 4, 3),
            nn.Conv2d(4, 8, 3),
            nn.Conv2d(8, 8, 1),
        )
        self.bn1, self.bn2, self.fc = nn.BatchNorm2d(4), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.bn3 = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        if self.values and float(x.sum()) == 12345:
            raise AssertionError
        h = F.relu(self.bn1(F.dropout(F.max_pool2d(self.conv1(x), 2), 0.1, self.training)))
        h = self.conv2(h)
        h = h + self.bn3(self.conv3(h))  # conv2 has two users, a norm divides out neither
        return self.fc(self.bn2(F.relu(h).mean((2, 3))))


def test_the_norm_behind_a_layer_is_found_by_calls() -> None:
    x = torch.randn(4, 1, 8, 8)
    found = ["conv2", "bn1", "fc", "bn3"]
    assert check(NormsLast(False), x) == found
    assert check(NormsLast(True), x, example=x) == found
    # Without either, by registration: the last convolution is followed by bn1 there, of other size.
    assert check(NormsLast(True), x) == ["conv1", "conv2", "conv3", "fc"]
    assert "bn1" not in check(NormsLast(False), x, behind_norms=False)


def test_a_part_that_can_be_followed_is_so_inside_one_that_cannot() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.attention = NormsLast(False), Attention()
            self.last, self.norm = nn.Linear(3, 8), nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.last(self.inner(x))).unsqueeze(1)
            return self.attention(h) if float(h.detach().sum()) != 12345 else h

    inner = ["inner.conv2", "inner.bn1", "inner.fc", "inner.bn3"]
    assert check(Chooses(), torch.randn(4, 1, 8, 8)) == [
        *inner,
        "attention.v",
        "attention.out",
        "norm",
    ]


def test_a_layer_called_on_what_is_no_batch_stays_plain() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(5, 2))
            self.bias, self.head = nn.Linear(2, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            filled = torch.zeros(x.shape)
            filled[:] = x
            return self.head(filled + self.bias(self.table))

    x = torch.randn(3, 5, 8)
    assert check(Positions(), x, example=x) == ["head"]


def test_an_example_of_a_system_is_a_batch_of_x() -> None:
    system = System(nn.Sequential(NormsLast(True), nn.Linear(3, 4)), nn.Linear(2, 3), AWGN(20), 2)
    found = gated(hyperize(system, example=torch.randn(4, 1, 8, 8)))
    inner = [f"device.0.{name}" for name in ("conv2", "bn1", "fc", "bn3")]
    assert found == [*inner, "device.1", "network"]
    with pytest.raises(ValueError, match=r"device\.0\.conv1 is") as told:
        hyperize(system, example=torch.randn(4, 3, 8, 8))
    assert "`hyperize` passed its `example`" in str(told.value.__notes__)


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)


@pytest.mark.parametrize("example", [None, torch.randn(2, 3, 8)])
def test_layers_inside_a_transformer_of_pytorch_s(example: Tensor | None) -> None:
    found = check(encoder(), torch.randn(4, 3, 8), example=example)
    assert found == [f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)]
    hyper = hyperize(encoder(), example=example).eval()
    mask = torch.tensor([[False, False, True]] * 4)
    with at(1e-3), torch.no_grad():
        hyper(torch.randn(4, 3, 8), src_key_padding_mask=mask)


MODELS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "swin_t": (torchvision.models.swin_t, 29),  # all but qkv and proj of twelve attentions
    "swin_v2_t": (torchvision.models.swin_v2_t, 29),  # and the tables of relative positions
    "convnext_tiny": (torchvision.models.convnext_tiny, 59),
    "resnet18": (torchvision.models.resnet18, 21),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, 54),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, 82),
    # Small, in the rest as vit_b_16.
    "vit": (partial(torchvision.models.VisionTransformer, 32, 16, 2, 2, 16, 32), 6),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_torchvision_fold_to_what_they_are(name: str) -> None:
    make, count = MODELS[name]
    torch.manual_seed(0)
    model = make(num_classes=5).eval()
    assert len(check(model, torch.randn(2, 3, 32, 32))) == count


@pytest.mark.parametrize("kind", ["pruned", "pruned bias", "weight_norm", "spectral_norm"])
def test_a_layer_whose_weight_is_computed_stays_plain(kind: str) -> None:
    layer = nn.Linear(6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older norms are deprecated
        if "pruned" in kind:
            prune.l1_unstructured(layer, "bias" if "bias" in kind else "weight", 0.5)
        else:
            getattr(nn.utils, kind)(layer)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 3))
    hyper = hyperize(model)
    assert gated(hyper) == ["2"]
    x = torch.randn(4, 6)
    with at(1e-3):
        hyper(x).sum().backward()  # the copy's own weights train
    assert any(p.grad is not None for p in hyper[0].parameters())
    assert check(model, x) == ["2"]


def test_hyperize_leaves_chance_and_the_model_as_they_were() -> None:
    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return self.norm(self.layer(x + torch.rand(4)))

    model = Random()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    for example in (None, torch.randn(3, 4)):
        torch.set_rng_state(before)
        hyper = hyperize(model, example=example)
        assert torch.equal(torch.get_rng_state(), before)
        assert not hasattr(hyper, "seen")
        assert hyper.training
    assert not hasattr(model, "seen")
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


class Searched(nn.Module):
    """Finds a weight by its name, past the layer that has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        weights = dict(self.named_parameters())
        return self.last(self.first(x) * weights["first.weight"].norm())


def test_a_layer_whose_weight_is_found_by_its_name_stays_plain() -> None:
    assert check(Searched(), torch.randn(4, 6)) == ["last"]


class Asks(nn.Module):
    """Puts a ReLU behind layers of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)])

    def asked(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.Linear)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x = x.relu() if self.asked(layer) else x
        return x


class AsksWhatItHas(Asks):
    def asked(self, layer: nn.Module) -> bool:
        return hasattr(layer, "out_features")


@pytest.mark.parametrize("example", [None, torch.randn(4, 6)])
def test_a_course_that_depends_on_the_class_of_a_layer_is_refused(example: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"model = 'Asks': .* another course"):
        hyperize(Asks(), example=example)
    assert len(check(AsksWhatItHas(), torch.randn(4, 6), example=example)) == 3


def hooked(hook: Callable[..., Tensor]) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].register_forward_hook(hook)
    return model


def test_a_hook_behind_a_layer_is_behind_its_gate() -> None:
    model = hooked(lambda layer, args, output: output.clamp(-0.1, 0.1) + 1)
    assert check(model, torch.randn(4, 6)) == ["0", "2"]
    hyper = hyperize(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3)))
    hyper[0].register_forward_hook(lambda layer, args, output: output * 0)  # set later
    with at(1e-2):
        torch.testing.assert_close(fold(hyper, 1e-2)(torch.ones(2, 6)), hyper(torch.ones(2, 6)))


def test_a_hook_that_uses_the_weight_is_seen() -> None:
    x = torch.randn(4, 6)
    after = hooked(lambda layer, args, output: output + F.linear(args[0], layer.weight))
    before = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    before[0].register_forward_pre_hook(lambda layer, args: (args[0] * layer.weight.norm(),))
    for model in (after, before):
        with pytest.raises(ValueError, match=r"layers = \['0'\]: the model uses weights"):
            check(model, x)
        assert check(model, x, example=x) == ["2"]


def test_a_layer_that_was_compiled_alone_has_its_gate() -> None:
    layer: Any = torch.compile(nn.Linear(6, 6), backend="eager")
    model = nn.Sequential(layer, nn.Linear(6, 3))
    assert check(model, torch.randn(4, 6)) == ["0._orig_mod", "1"]


@pytest.mark.parametrize("example", [None, torch.randn(4, 6)])
def test_what_is_no_module_or_has_no_weights_yet_is_named(example: Tensor | None) -> None:
    with pytest.raises(ValueError, match="model = 'Sequential': call it on a batch first"):
        hyperize(nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 3)), example=example)
    for told in (hyperize, partial(fold, beta=1e-3)):
        with pytest.raises(ValueError, match=r"model = 'function': give an nn\.Module"):
            told(lambda x: x)  # type: ignore[type-var]
