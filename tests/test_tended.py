"""The remedies: β that rises, averages of the weights, and the best epoch on validation."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import run_of
from torch import Tensor, nn

from hvib.channel import AWGN
from hvib.data import Data
from hvib.evaluation import evaluate
from hvib.hyper import hyperize
from hvib.methods import METHODS
from hvib.methods.method import Method
from hvib.methods.tended import AVERAGE, WARM_UP
from hvib.methods.training import training_by, training_of
from hvib.run import Run
from hvib.system import System, mlp
from hvib.train import fit, steps

PER_EPOCH = 1197 // 128


def built(run: Run) -> System:
    model = METHODS.find(run.method).build(run)
    assert isinstance(model, System)
    return model


def copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def course(run: Run, data: Data) -> tuple[list[dict[str, Tensor]], list[float]]:
    """The weights after each step of a plain training, and each epoch's validation objective."""
    model, states, objectives = built(run), [], []
    for step, _ in enumerate(steps(model, data, run, "cpu"), 1):
        states.append(copy(model))
        if step % PER_EPOCH == 0:
            (row,) = evaluate(model, data.validation, run.betas, draws=2)
            objectives.append(row["objective"])
    return states, objectives


def averaged(states: list[dict[str, Tensor]], count: int, total: int) -> dict[str, Tensor]:
    """The exponential average of the first states, from its definition and in double precision."""
    keep = 1 - 1 / (AVERAGE * total + 1)
    weights = torch.tensor([keep ** (count - 1 - step) for step in range(count)]).double()
    weights /= weights.sum()
    return {
        name: sum(w * state[name].double() for w, state in zip(weights, states, strict=False))
        for name in states[0]
    }


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-4, atol=1e-5)


def test_beta_rises_over_its_share_of_the_steps() -> None:
    run = run_of("vib-warm-up", 0.2)
    training = training_by(run, built(run), torch.device("cpu"), 40)
    drawn = [training.draw(8).betas.item() for _ in range(40)]
    rise = round(WARM_UP * 40)
    assert drawn[:rise] == pytest.approx([0.2 * step / rise for step in range(1, rise + 1)])
    assert drawn[rise:] == [torch.tensor(0.2).item()] * (40 - rise)


def test_without_a_warm_up_beta_is_the_run_s_from_the_first_step_on() -> None:
    run = run_of("vib", 0.2)
    training = training_by(run, built(run), torch.device("cpu"), 40)
    assert {training.draw(8).betas.item() for _ in range(3)} == {torch.tensor(0.2).item()}


def test_training_rises_with_it(digits: Data) -> None:
    run = run_of("vib-warm-up", 10.0, epochs=1)
    first = next(steps(built(run), digits, run, "cpu"))
    plain = next(steps(built(run), digits, replace(run, method="vib"), "cpu"))
    assert first < plain  # at a fraction of β the rate costs a fraction


@pytest.mark.parametrize("method", ["vib-averaged", "hyper-vib-ordered-averaged"])
def test_training_ends_with_the_average_of_its_weights(method: str, digits: Data) -> None:
    run = run_of(method, *((1e-3,) if "ordered" not in method else (1e-3, 1.0)))
    plain = replace(run, method="vib" if "ordered" not in method else "hyper-vib-ordered")
    states = []
    model = built(plain)
    for _ in steps(model, digits, plain, "cpu"):
        states.append(copy(model))
    ended = built(run)
    found = fit(ended, digits, run, device="cpu")
    assert found.epoch_objectives == fit(built(plain), digits, plain).epoch_objectives
    total = 3 * PER_EPOCH
    assert_near(copy(ended), averaged(states, total, total))
    apart = [not torch.allclose(states[-1][name], value) for name, value in copy(ended).items()]
    assert any(apart)


def test_training_ends_with_the_epoch_that_is_best_on_validation(digits: Data) -> None:
    rolled = replace(digits, validation=replace(digits.validation, y=digits.validation.y.roll(1)))
    run = run_of("vib-best-epoch", 1e-4, epochs=5)
    states, objectives = course(replace(run, method="vib"), rolled)
    best = min(range(5), key=objectives.__getitem__)
    assert best < 4  # wrong classes on validation: what trains longer is worse
    model = built(run)
    fit(model, rolled, run, device="cpu")
    assert all(
        torch.equal(value, states[(best + 1) * PER_EPOCH - 1][name])
        for name, value in copy(model).items()
    )


def test_what_is_compared_is_what_training_would_end_with(digits: Data) -> None:
    """Of a method that averages, the averages; and the comparison leaves the training alone."""
    rolled = replace(digits, validation=replace(digits.validation, y=digits.validation.y.roll(1)))
    tended = replace(METHODS.find("vib-tended"), name="made-up", warm_up=0.0)
    METHODS.register(tended)
    try:
        run = run_of("made-up", 1e-4, epochs=5)
        states, _ = course(replace(run, method="vib"), rolled)
        model, total = built(run), 5 * PER_EPOCH
        fit(model, rolled, run, device="cpu")
        candidates, objectives = [], []
        for epoch in range(1, 6):
            candidate = built(run)
            values = averaged(states, epoch * PER_EPOCH, total)
            candidate.load_state_dict({name: value.float() for name, value in values.items()})
            (row,) = evaluate(candidate, rolled.validation, run.betas, draws=2)
            objectives.append(row["objective"])
            candidates.append(values)
        best = min(range(5), key=objectives.__getitem__)
        assert best < 4
        assert_near(copy(model), candidates[best])
    finally:
        METHODS.forget("made-up")


def test_a_norm_s_statistics_are_averaged_and_its_count_is_not(digits: Data) -> None:
    def made() -> System:
        torch.manual_seed(0)
        device = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())
        return System(device.append(nn.Linear(32, 16)), mlp([8, 10]), AWGN(20), 8)

    run = Run(**{**run_of("vib", 1e-3).to_json(), "betas": (1e-3,), "features": 8, "task": "yours"})
    plain, ended, states = made(), made(), []
    for _ in steps(plain, digits, run, "cpu"):
        states.append(copy(plain))
    fit(ended, digits, replace(run, method="vib-averaged"), device="cpu")
    total = 3 * PER_EPOCH
    expected = averaged(states, total, total)
    found = copy(ended)
    count = found.pop("device.2.num_batches_tracked")
    del expected["device.2.num_batches_tracked"]
    assert_near(found, expected)
    assert count == total


class Watched:
    """Mini-batches that note the weights before each step."""

    def __init__(self, data: Data, model: nn.Module) -> None:
        self.batches = [
            (data.train.x[i : i + 128], data.train.y[i : i + 128])
            for i in range(0, 128 * PER_EPOCH, 128)
        ]
        self.model, self.states = model, list[dict[str, Tensor]]()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches:
            self.states.append(copy(self.model))
            yield batch


def test_mini_batches_from_elsewhere_are_averaged_too(digits: Data) -> None:
    def made() -> System:
        torch.manual_seed(0)
        return System(mlp([64, 32, 16]), mlp([8, 10]), AWGN(20), 8)

    settings: dict[str, Any] = {"epochs": 2, "betas": [1e-3], "device": "cpu"}
    plain, ended = made(), made()
    watched = Watched(digits, plain)
    fit(plain, watched, **settings)
    fit(ended, watched.batches, method="vib-averaged", **settings)
    states = [*watched.states[1:], copy(plain)]
    assert_near(copy(ended), averaged(states, 2 * PER_EPOCH, 2 * PER_EPOCH))


def test_what_needs_a_validation_split_or_a_length_says_so(digits: Data) -> None:
    system = System(mlp([64, 16]), mlp([8, 10]), AWGN(20), 8)
    settings: dict[str, Any] = {"betas": [1e-3], "epochs": 1, "device": "cpu"}
    says = "method = 'vib-best-epoch': .*best on validation data: give Data with such a split"
    batches = [(digits.train.x[:64], digits.train.y[:64])]
    for data in (digits.train, batches):
        with pytest.raises(ValueError, match=says):
            fit(system, data, method="vib-best-epoch", **settings)
    for method, why in (("vib-averaged", "it averages over"), ("vib-warm-up", "its β rises over")):
        with pytest.raises(ValueError, match=f"method = '{method}': {why} a share of the steps"):
            fit(system, iter(batches), method=method, **settings)


def test_a_loop_of_ones_own_is_told_what_it_would_lack() -> None:
    plain = System(mlp([64, 16]), mlp([8, 10]), AWGN(20), 8)
    says = "method = '{}': it does more in training than a step's loss says: use hvib.fit"
    gated = hyperize(plain, method="hyper-vib-averaged", betas=(1e-4, 1.0))
    with pytest.raises(ValueError, match=says.format("hyper-vib-averaged")):
        training_of(gated)
    with pytest.raises(ValueError, match=says.format("vib-best-epoch")):
        training_of(plain, method="vib-best-epoch", betas=(1e-3,))
    with pytest.raises(ValueError, match="method = 'vib-warm-up': its β rises over a share"):
        training_of(plain, method="vib-warm-up", betas=(1e-3,))


def test_a_method_that_cannot_be_is_refused() -> None:
    vib, gated = METHODS.find("vib"), METHODS.find("hyper-vib")
    refused: list[tuple[Method, dict[str, Any], str]] = [
        (vib, {"warm_up": 1.5}, r"warm_up = 1\.5: give a share of the steps, in \[0, 1\]"),
        (vib, {"average": -0.1}, r"average = -0\.1: give a share"),
        (gated, {"warm_up": 0.5}, r"warm_up = 0\.5: β is drawn anew in each step"),
        (gated, {"keeps_best": True}, "keeps_best = True: it compares epochs by .* at one β"),
        (METHODS.find("vib-batched"), {"keeps_best": True}, "keeps_best = True"),
    ]
    for method, fields, says in refused:
        with pytest.raises(ValueError, match=says):
            replace(method, **fields)
