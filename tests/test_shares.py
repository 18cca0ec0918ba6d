"""Models whose rows are not M equal shares, one for each β, are refused in whatever form."""

from collections.abc import Callable

import pytest
import torch
from small import run_of
from torch import Tensor, nn

import hvib
from hvib.book.probes import feature_rates, share_right
from hvib.checks.shares import require_equal_shares
from hvib.closing import FreeGate
from hvib.data import Data
from hvib.hyper import Gate, hyperize
from hvib.system import draw_noise


class TwoViews(nn.Module):
    """Joins the halves of each example along the batch, so that all left ones come first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(32, 16), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.flatten(1).chunk(2, 1)
        return self.head(torch.cat(self.encoder(torch.cat([left, right])).chunk(2), 1))


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
@pytest.mark.parametrize("device", [TwoViews, OverBatch])
def test_training_refuses_mixed_shares(
    device: type[nn.Module], gate: Callable[[int], Gate], method: str, digits: Data
) -> None:
    mixed = system(device(), gate)
    with pytest.raises(ValueError, match="the output of the last share differs by this much"):
        hvib.fit(mixed, digits, run_of(method, features=8))


@KINDS
def test_evaluation_refuses_mixed_shares(
    gate: Callable[[int], Gate], method: str, digits: Data
) -> None:
    mixed, betas = system(TwoViews(), gate), (1e-6, 1e-3, 1.0)
    for told in (hvib.evaluate, hvib.predict, share_right, feature_rates):
        with pytest.raises(ValueError, match="difference of the device's output = "):
            told(mixed, digits.test, betas)
        told(mixed, digits.test, [1.0])  # one β is one share


@pytest.mark.parametrize("device", [nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), Noisy()])
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
        with pytest.raises(ValueError, match="difference of the model's output = "):
            mixed(x)
