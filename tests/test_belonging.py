"""Gates, method and range of β that do not belong together are refused, or warned of."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from small import run_of
from torch import nn

import hvib
from hvib.closing import FreeGate, opened
from hvib.data import Data
from hvib.hyper import Gate, hyperize
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
