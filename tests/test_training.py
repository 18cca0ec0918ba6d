"""A training loop of one's own: what it draws, and the loss that it takes."""

import nbformat
import pytest
import torch
from small import run_of

import hvib
from hvib.data import Batcher, Data
from hvib.house.project import PROJECT
from hvib.methods import METHODS
from hvib.methods.training import RunningObjective, training_of
from hvib.objective import draw_betas, terms
from hvib.system import draw_noise
from hvib.train import steps


def ordered() -> hvib.System:
    system = METHODS.find("hyper-vib-ordered").build(run_of("hyper-vib-ordered", 1e-4, 1e-2, 1.0))
    assert isinstance(system, hvib.System)
    return system


def test_a_loop_of_ones_own_trains(digits: Data) -> None:
    system, batches = ordered(), Batcher(digits.train)
    training = training_of(system, seed=0)
    optimizer = torch.optim.AdamW(system.parameters(), lr=3e-3)
    for step in range(60):
        x, y = batches(torch.arange(128) + 128 * (step % 9), training.generator)
        draw = training.draw(len(x))
        with hvib.at(draw.betas):
            output = system(draw.shares(x), draw.noise)
            loss = training.loss(draw, output, y)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    system.eval()
    assert hvib.evaluate(system, digits.validation, [1e-3])[0]["metric"] > 0.8


def test_its_steps_are_those_of_fit(digits: Data) -> None:
    run = run_of("hyper-vib-ordered", 1e-4, 1e-2, 1.0)
    theirs = next(steps(ordered(), digits, run, "cpu"))
    training = training_of(ordered(), seed=run.seed)
    order = torch.randperm(len(digits.train), generator=training.generator)
    x, y = Batcher(digits.train)(order[: run.batch_size], training.generator)
    draw, system = training.draw(len(x)), ordered()
    with hvib.at(draw.betas):
        ours = training.objectives(draw, system(draw.shares(x), draw.noise), y)
    torch.testing.assert_close(ours.detach(), theirs)


def test_the_loss_is_weighted_as_the_method_says(digits: Data) -> None:
    system, generator = ordered(), torch.Generator().manual_seed(3)
    training, running = training_of(system, seed=3, shares=4), RunningObjective(0.5)
    x, y = digits.train.x[:20], digits.train.y[:20]
    for _ in range(2):
        draw = training.draw(20)
        more = 10**0.25  # the ordered method draws a quarter decade beyond its range
        assert torch.equal(draw.betas, draw_betas(1e-4 / more, more, 4, generator))
        assert torch.equal(draw.noise, draw_noise(4, 5, system.features, generator))
        with hvib.at(draw.betas):
            output = system(draw.shares(x), draw.noise)
        objectives = terms(output, y.view(4, 5)).objective(draw.betas)
        expected = (running.weights(objectives) * objectives).mean()
        assert torch.equal(training.loss(draw, output, y), expected)


def test_what_a_training_needs_to_know_is_asked_for() -> None:
    plain = hvib.System(hvib.mlp([64, 16]), hvib.mlp([8, 10]), hvib.AWGN(20), 8)
    with pytest.raises(ValueError, match="method = None: the system does not say it"):
        training_of(plain)
    with pytest.raises(ValueError, match="betas = None: the system does not say it"):
        training_of(plain, method="hyper-vib")
    with pytest.raises(ValueError, match="examples = 21: give a multiple of the M = 8 shares"):
        training_of(ordered()).draw(21)


def test_the_pages_loop_with_accelerate_trains(digits: Data) -> None:
    cells = nbformat.read(PROJECT / "notebooks" / "10-your-own.ipynb", as_version=4).cells
    (source,) = [c.source for c in cells if "from accelerate import" in c.source]
    snippet = source.split("```python\n")[1].split("```")[0]
    mine = ordered()
    before = hvib.evaluate(mine, digits.validation, [1e-3])[0]["objective"]
    optimizer = torch.optim.AdamW(mine.parameters(), lr=3e-3)
    session = {
        "hvib": hvib,
        "mine": mine,
        "optimizer": optimizer,
        "whole": digits.train.first(1080),
    }
    exec(compile(snippet, "10-your-own.ipynb", "exec"), session)
    mine.eval()
    assert hvib.evaluate(mine, digits.validation, [1e-3])[0]["objective"] < before
