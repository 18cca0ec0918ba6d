"""Gates, method and range of β that do not belong together are refused, or warned of."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small import run_of
from torch import Tensor, nn

import hvib
from hvib.data import Data
from hvib.gates.closing import FreeGate, opened
from hvib.hyper import Gate, Gated, hyperize
from hvib.methods import METHODS
from hvib.methods.belonging import MadeFor, made_for
from hvib.methods.hyper_vib import converted
from hvib.tasks import build

GRID = (1e-3, 1e-2, 1e-1)
RUN = run_of("hyper-vib", *GRID, features=8)


def plain() -> hvib.System:
    return build(run_of("vib", 1e-3, features=8))


def free(size: int) -> Gate:
    return FreeGate(size, betas=(1e-3, 1e-1))


def test_gates_of_another_method_are_refused(digits: Data) -> None:
    papers = hyperize(plain())
    freely, ordered = (
        hyperize(plain(), gate=free),
        opened(hyperize(plain(), gate=free), (1e-3, 0.1)),
    )
    for model, method, has in (
        (papers, "hyper-vib-ordered", "the model has Gate"),
        (papers, "hyper-vib-free", "the model has Gate"),
        (freely, "hyper-vib", "the model has FreeGate"),
        (freely, "hyper-vib-ordered", "the model has FreeGate"),
        (ordered, "hyper-vib-free", "the model has FreeGate, Opening"),
    ):
        with pytest.raises(ValueError, match=f"method = '{method}': .*{has}"):
            hvib.fit(model, digits, replace(RUN, method=method))


def test_gates_made_for_another_range_are_refused(digits: Data) -> None:
    narrow = hyperize(plain(), gate=partial(FreeGate, betas=(1e-2, 1e-1)))
    with pytest.raises(ValueError, match=r"made for β from 0\.01 to 0\.1: give that range"):
        hvib.fit(narrow, digits, replace(RUN, method="hyper-vib-free"))


def test_a_model_that_a_method_built_is_trained_by_that_method_alone(digits: Data) -> None:
    for name in ("hyper-vib", "hyper-vib-log", "hyper-vib-ordered"):
        model = METHODS.find(name).build(replace(RUN, method=name))
        assert made_for(model) == MadeFor(name, (1e-3, 1e-1))
        other = "hyper-vib-power-0.5" if name == "hyper-vib" else "hyper-vib"
        with pytest.raises(ValueError, match=f"was made by method {name}"):
            hvib.fit(model, digits, replace(RUN, method=other))


def test_gates_of_your_own_train_under_the_papers_weights(digits: Data) -> None:
    class Own(Gate):
        """A kind that no method has."""

    hvib.fit(hyperize(plain(), gate=Own), digits, RUN)


def test_beyond_the_range_that_was_trained_evaluation_warns(digits: Data) -> None:
    model = hyperize(plain())
    hvib.fit(model, digits, RUN)
    hvib.evaluate(model, digits.test, GRID)
    with pytest.warns(UserWarning, match=r"betas = \[1e-06, 1\.0\]: the model was made for β from"):
        hvib.evaluate(model, digits.test, [1e-6, 1e-2, 1.0])
    folded = hvib.fold(model, 1e-2)
    assert made_for(folded) is None
    hvib.evaluate(folded, digits.test, [1.0])


@pytest.mark.parametrize("opening", [False, True])
def test_a_conversion_asks_for_what_it_needs(opening: bool) -> None:
    convert: Callable[..., nn.Module] = converted(FreeGate, opening=opening)
    with pytest.raises(ValueError, match="betas = None: give the ends of the range"):
        convert(plain(), None, 0)
    if opening:
        with pytest.raises(
            ValueError, match="model = 'Sequential': an opening is for the features"
        ):
            convert(nn.Sequential(nn.Linear(3, 2)), (1e-3, 1.0), 0)


def test_a_system_with_gates_is_not_trained_for_one_beta(digits: Data) -> None:
    with pytest.raises(ValueError, match=r"method = 'vib': it trains for one β, .* fold"):
        hvib.fit(hyperize(plain()), digits, run_of("vib", 1e-3, features=8))


def test_a_range_alone_is_of_the_papers_method() -> None:
    assert made_for(hyperize(plain(), betas=(1e-3, 1e-2))) == MadeFor("hyper-vib", (1e-3, 1e-2))
    with pytest.raises(ValueError, match=r"gate = .*a method brings its own"):
        hyperize(plain(), gate=free, betas=(1e-3, 1e-1))
    with pytest.raises(ValueError, match=r"gate = .*a method brings its own"):
        hyperize(plain(), method="log", behind_norms=False)


@pytest.mark.parametrize("betas", [(1.0, 1e-3), (1e-3,), 1e-3, GRID, "12", (1e-3, float("inf"))])
def test_a_range_has_two_ends(betas: Any) -> None:
    for method in ("paper", "ordered"):
        with pytest.raises(ValueError, match=r"betas = .*: give the ends of the range"):
            hyperize(plain(), method=method, betas=betas)


def test_a_loop_of_your_own_gets_what_the_model_is_for() -> None:
    ordered = hyperize(plain(), method="ordered", betas=(1e-3, 1e-1))
    with pytest.raises(ValueError, match="method = 'hyper-vib': the model was made by"):
        hvib.training_of(ordered, method="hyper-vib")
    with pytest.raises(ValueError, match=r"betas = .*made for β from 0\.001 to 0\.1"):
        hvib.training_of(ordered, betas=(1e-6, 1.0))


def test_an_example_goes_with_a_method(digits: Data) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            h = F.linear(x, self.first.weight) if float(x.sum()) > -1 else self.first(x)
            return self.last(h)

    system = hvib.System(Reads(), nn.Linear(8, 10), hvib.AWGN(20), 8)
    for method in ("ordered", "plain-heads"):
        model = hyperize(system, method=method, betas=(1e-3, 1.0), example=digits.train.x[:4])
        gated = [name for name, m in model.named_modules() if isinstance(m, Gated)]
        assert not any("first" in name for name in gated)


def saved(model: nn.Module) -> dict[str, Tensor]:
    """Its state dictionary, from a file."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


def test_weights_say_what_they_are_for(digits: Data) -> None:
    model = hyperize(plain())
    hvib.fit(model, digits, RUN)
    state = saved(model)
    for target in (hyperize(plain()), hyperize(plain(), method="log")):
        target.load_state_dict(state)
        known = made_for(target)
        assert known
        assert known.betas == (1e-3, 1e-1)
        with pytest.warns(UserWarning, match="the model was made for β from"):
            hvib.evaluate(target, digits.test, [1e-6])
    narrow = hyperize(plain(), method="free", betas=(1e-2, 1e-1))
    for other in (
        hyperize(plain(), method="free", betas=(1e-3, 1e-1)),
        hyperize(plain(), gate=free),
    ):
        with pytest.raises(RuntimeError, match=r"weights are of a model for β from 0\.01 to 0\.1"):
            other.load_state_dict(saved(narrow))
    folded = hvib.fold(narrow, 1e-2)
    folded.load_state_dict(saved(folded))
    assert made_for(copy.deepcopy(narrow)) == made_for(narrow)
