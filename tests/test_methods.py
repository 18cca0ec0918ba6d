"""Methods: what each trains, and how it draws β."""

from dataclasses import replace

import pytest
import torch
from conftest import Register
from small import run_of, trained

from hvib.data import Data
from hvib.evaluation import evaluate
from hvib.hyper import fold
from hvib.methods import METHODS, method_of
from hvib.system import Stacked, System
from hvib.tasks import TASKS
from hvib.train import fit


def test_batched_grid_equals_separate_training(digits: Data) -> None:
    betas = (1e-4, 1e-2, 1.0)
    stack = trained(run_of("vib-batched", *betas, weight_decay=0.1, shift=1), digits)
    assert isinstance(stack, Stacked)
    for state, beta in zip(stack.unstack(), betas, strict=True):
        alone = trained(run_of("vib", beta, weight_decay=0.1, shift=1), digits).state_dict()
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4)


def test_warm_started_grid_goes_on_where_the_last_system_ended(digits: Data) -> None:
    run = run_of("vib-warm", 1e-4, 1e-2, epochs=6)
    stack = METHODS.find(run.method).build(run)
    course = fit(stack, digits, run, device="cpu")
    assert isinstance(stack, Stacked)
    assert len(course.epoch_objectives) == 6 + 2
    first, second = stack.unstack()
    system = trained(run_of("vib", 1e-4, epochs=6), digits)
    for name, value in system.named_parameters():
        assert torch.equal(first[name], value)
    fit(system, digits, run_of("vib", 1e-2, epochs=2), device="cpu")
    for name, value in system.named_parameters():
        assert torch.equal(second[name], value)


def test_a_tuned_system_is_the_folded_one_trained_for_a_tenth_more(digits: Data) -> None:
    betas = (1e-3, 1e-1)
    run = run_of("hyper-vib-tuned", *betas, epochs=11, learning_rate=1e-2)
    stack = METHODS.find(run.method).build(run)
    course = fit(stack, digits, run, device="cpu")
    assert isinstance(stack, Stacked)
    assert len(course.epoch_objectives) == 11 + 2 * 2
    gated = trained(run_of("hyper-vib-ordered", *betas, epochs=11, learning_rate=1e-2), digits)
    assert isinstance(gated, System)
    for beta, state in zip(betas, stack.unstack(), strict=True):
        system = fold(gated, beta)
        brief = run_of("vib", beta, epochs=2, learning_rate=1e-3)
        fit(system, digits, brief, device="cpu")
        for name, value in system.named_parameters():
            assert torch.equal(state[name], value)


def test_a_method_of_ones_own_joins_by_name(digits: Data, register: Register) -> None:
    mine = replace(METHODS.find("hyper-vib"), name="mine")
    register(mine)
    run = run_of("mine", epochs=1)
    assert method_of(run) is mine
    assert replace(mine, name="hyper-vib") == METHODS.find("hyper-vib")
    assert len(evaluate(trained(run, digits), digits.test, run.betas, draws=1)) == 13
    assert "mine" not in TASKS.all()


def test_ordered_codes_draw_beta_a_quarter_decade_beyond_the_range_and_no_other_does() -> None:
    for name, method in METHODS.all().items():
        chance = [torch.Generator().manual_seed(k) for k in range(4000)]
        draws = [method.draw_betas(1e-4, 1e-2, 8, generator) for generator in chance]
        ordered = "ordered" in name or name == "hyper-vib-answer"
        more = 10**0.25 if ordered else 1
        assert min(map(min, draws)) == pytest.approx(1e-4 / more, rel=0.05)
        assert max(map(max, draws)) == pytest.approx(1e-2 * more, rel=0.05)
