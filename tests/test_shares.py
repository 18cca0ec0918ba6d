"""Models whose rows are not M equal shares, one for each β, are refused in whatever form."""

from collections.abc import Callable

import pytest
import torch
from small import run_of
from torch import Tensor, nn

import hvib
from hvib.book.probes import feature_rates, share_right
from hvib.checks.shares import require_equal_shares
from hvib.data import Data
from hvib.gates.closing import FreeGate
from hvib.hyper import Gate, hyperize
from hvib.system import draw_noise
from hvib.train import Diverged


class TwoViews(nn.Module):
    """Joins the halves of each example along the batch, so that all left ones come first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(32, 16), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.flatten(1).chunk(2, 1)
        return self.head(torch.cat(self.encoder(torch.cat([left, right])).chunk(2), 1))


class InTraining(TwoViews):
    """Does so in training alone, as with two augmentations of each image."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.flatten(1).chunk(2, 1)
        apart = torch.cat([self.encoder(left), self.encoder(right)], 1)
        return super().forward(x) if self.training else self.head(apart)


class Branch(TwoViews):
    """Does so in a branch that weighs nothing when training starts."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.flatten(1).chunk(2, 1)
        apart = self.head(torch.cat([self.encoder(left), self.encoder(right)], 1))
        return apart + 1e-6 * super().forward(x)


class OwnNorm(nn.Module):
    """Takes its statistics from the batch in training, as PyTorch's batch norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 16)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        if self.training:
            self.mean.lerp_(h.detach().mean(0), 0.1)  # type: ignore[operator]
        return self.last(h - (h.mean(0) if self.training else self.mean))


class OverBatch(nn.Module):
    """Subtracts the mean over the batch, also in evaluation: the shares mix."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(64, 16), nn.BatchNorm1d(16, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x.flatten(1)))


class Noisy(nn.Module):
    """Random by itself, so that nothing can be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.flatten(1))
        return h + torch.randn_like(h)


def free(size: int) -> Gate:
    return FreeGate(size, betas=(1e-6, 1.0))


def system(device: nn.Module, gate: Callable[[int], Gate] = Gate) -> hvib.System:
    return hyperize(hvib.System(device, nn.Linear(8, 10), hvib.AWGN(20), 8), gate=gate)


KINDS = pytest.mark.parametrize(("gate", "method"), [(Gate, "hyper-vib"), (free, "hyper-vib-free")])


@KINDS
@pytest.mark.parametrize("device", [TwoViews, OverBatch, InTraining, Branch])
def test_training_refuses_mixed_shares(
    device: type[nn.Module], gate: Callable[[int], Gate], method: str, digits: Data
) -> None:
    mixed = system(device(), gate)
    with pytest.raises(ValueError, match="differs by this much from that of the same share"):
        hvib.fit(mixed, digits, run_of(method, features=8))


@KINDS
def test_evaluation_refuses_mixed_shares(
    gate: Callable[[int], Gate], method: str, digits: Data
) -> None:
    mixed, betas = system(TwoViews(), gate), (1e-6, 1e-3, 1.0)
    for told in (hvib.evaluate, hvib.predict, share_right, feature_rates):
        with pytest.raises(ValueError, match=r"difference of what reaches device\.encoder = "):
            told(mixed, digits.test, betas)
        told(mixed, digits.test, [1.0])  # one β is one share


@pytest.mark.parametrize(
    "device", [nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), Noisy(), OwnNorm()]
)
def test_right_and_random_models_pass_and_stay_as_they_were(
    device: nn.Module, digits: Data
) -> None:
    model = system(device)
    model.train()
    model.network.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    betas = torch.tensor([1e-4, 1e-2, 1.0])
    noise = draw_noise(3, 6, 8, torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    require_equal_shares(model, digits.test.x[:18].unflatten(0, (3, 6)), noise, betas)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any("modulation" in vars(module) for module in model.modules())


def test_a_model_outside_a_system_is_checked_at_its_first_pass() -> None:
    mixed, right = hyperize(TwoViews()), hyperize(nn.Linear(64, 16))
    x = torch.rand(8, 64)
    with hvib.at(1e-3):
        mixed(x)
    with hvib.at([1e-3, 1.0]):
        assert right(x).shape == (8, 16)
        with pytest.raises(ValueError, match="difference of what reaches encoder = "):
            mixed(x)


class Many(nn.Module):
    """Takes and gives several things."""

    def __init__(self) -> None:
        super().__init__()
        self.views = TwoViews()

    def forward(self, given: dict[str, Tensor], scale: Tensor) -> dict[str, tuple[Tensor, int]]:
        return {"y": (self.views(given["x"] * scale), 1)}


def test_so_is_one_that_takes_and_gives_other_things_than_one_tensor() -> None:
    model, x = hyperize(Many()).eval(), torch.rand(8, 64)
    with hvib.at([1e-3, 1.0]), pytest.raises(ValueError, match=r"reaches views\.encoder = "):
        model({"x": x}, scale=torch.tensor(2.0))


def test_a_model_outside_a_system_is_checked_in_each_mode() -> None:
    model, x = hyperize(InTraining()).eval(), torch.rand(8, 64)
    with hvib.at([1e-3, 1.0]):
        model(x)
        model.train()
        with pytest.raises(ValueError, match="of the same share in another order"):
            model(x)


def test_numbers_that_are_not_finite_are_no_matter_of_shares(digits: Data) -> None:
    model = system(hvib.mlp([64, 16]))
    nn.init.constant_(model.network.get_parameter("layer.bias"), torch.nan)
    with pytest.raises(Diverged, match="not finite in step 0"):
        hvib.fit(model, digits, run_of("hyper-vib", features=8))


def test_a_model_in_half_products_is_checked_in_them() -> None:
    model, x = hyperize(nn.Linear(64, 16)), torch.rand(8, 64)
    with hvib.at([1e-3, 1.0]), torch.autocast("cpu", torch.bfloat16):
        assert model(x.bfloat16()).dtype == torch.bfloat16


class Counting(TwoViews):
    """Counts its passes in training, as a norm keeps its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("passes").add_(float(self.training))
        return super().forward(x)


def test_a_refused_model_stays_as_it_was() -> None:
    model, x = hyperize(Counting()), torch.rand(8, 64)
    with hvib.at([1e-3, 1.0]), pytest.raises(ValueError, match="difference of what reaches"):
        model(x)
    assert model.get_buffer("passes") == 0
    assert model.training
    assert all(module.training for module in model.modules())
