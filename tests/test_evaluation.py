"""Evaluation over β: that it averages what it says."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import run_of, trained

from hvib.book.probes import share_right
from hvib.data import Data, Split
from hvib.evaluation import evaluate, predict
from hvib.hyper import hyperize
from hvib.methods import METHODS
from hvib.system import System
from hvib.tasks import build
from hvib.train import fit, steps


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"draws": 0}, "draws = 0: give at least 1"),
        ({"chunk": -1}, "chunk = -1: give at least 1"),
        ({"betas": ()}, "number of betas = 0"),
        ({"split": Split(torch.zeros(4, 1, 8, 8), torch.zeros(3))}, r"x and y = \(4, 3\)"),
        ({"split": Split(torch.zeros(0, 1, 8, 8), torch.zeros(0))}, r"x and y = \(0, 0\)"),
    ],
)
def test_an_evaluation_of_nothing_is_refused(
    change: dict[str, Any], says: str, digits: Data
) -> None:
    system = build(run_of("vib", 1e-3))
    settings: dict[str, Any] = {"split": digits.test, "betas": (1e-3,)} | change
    with pytest.raises(ValueError, match=says):
        evaluate(system, **settings)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (
            lambda y: y + 1,
            r"^y = \(1, 10\): the network ends in 10 logits: give classes from 0 to 9",
        ),
        (lambda y: y.to(torch.int8) - 1, r"^y = \(-1, 8\): the network ends in 10 logits"),
        (lambda y: y[:, None], r"^y = \(300, 1\): a class is one whole number an example"),
        (lambda y: y.float(), r"^y = \(300,\): the network ends in 10 numbers: give \(N, 10\)"),
    ],
)
def test_targets_that_the_network_cannot_name_are_refused(
    y: Callable[[torch.Tensor], torch.Tensor], says: str, digits: Data
) -> None:
    system = build(run_of("vib", 1e-3))
    with pytest.raises(ValueError, match=says):
        evaluate(system, Split(digits.test.x, y(digits.test.y)), (1e-3,))


@pytest.mark.parametrize("measure", [evaluate, predict, share_right])
def test_what_is_no_system_or_no_split_is_refused(
    measure: Callable[..., object], digits: Data
) -> None:
    system = build(run_of("vib", 1e-3))
    with pytest.raises(ValueError, match=r"split = 'Data': give a Split, as data.test"):
        measure(system, digits, (1e-3,))
    with pytest.raises(ValueError, match="model = 'Linear': give a System"):
        measure(torch.nn.Linear(64, 10), digits.test, (1e-3,))
    system.device = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"x = \(300, 8, 8\) of .*: add the channel axis"):
        measure(system, Split(digits.test.x[:, 0], digits.test.y), (1e-3,))


def test_numbers_that_measure_nothing_are_refused(digits: Data) -> None:
    system, test = build(run_of("vib", 1e-3)), digits.test
    for x, y, message in (
        (torch.where(test.x > 0, test.x, torch.nan), test.y, "x = 'NaN or infinite'"),
        (test.x.to(torch.complex64), test.y, r"x\.dtype = torch\.complex64"),
        (test.x, test.y.to(torch.complex64), r"y\.dtype = torch\.complex64"),
    ):
        for told in (evaluate, predict):
            with pytest.raises(ValueError, match=message):
                told(system, Split(x, y), (1e-3,))


def test_betas_may_be_held_by_anything(digits: Data) -> None:
    system, split = build(run_of("vib", 1e-3)), digits.test.first(8)
    rows = evaluate(system, split, [0.5, 1.0], draws=1)
    several: tuple[Any, ...] = (np.array([0.5, 1]), torch.tensor([0.5, 1]), (b for b in (0.5, 1)))
    for betas in several:
        assert evaluate(system, split, betas, draws=1) == rows
    others: tuple[Any, ...] = (1e-3, "1e-3", ["a"])
    for betas in others:
        with pytest.raises(ValueError, match=r"betas = .*: give several numbers"):
            predict(system, split, betas)


def test_a_compiled_system_is_checked_and_knows_its_range(digits: Data) -> None:
    plain = build(run_of("vib", 1e-3))
    compiled: Any = torch.compile(hyperize(plain, betas=(1e-3, 1e-1)), backend="eager")
    with pytest.warns(UserWarning, match="the model was made for β from"):
        evaluate(compiled, digits.test, (1e-6, 1e-2), draws=1)


def test_labels_of_any_width_and_arrays_are_measured_alike(digits: Data) -> None:
    run = run_of("hyper-vib", epochs=1)
    x, y = digits.test.x.numpy(), digits.test.y.numpy()
    results = []
    for kind in ("int64", "uint8", "int32"):
        split = Split(x, y.astype(kind))  # type: ignore[arg-type]
        model = trained(run, Data(*[split] * 3))
        share = share_right(model, split, (1e-3,), draws=2)
        results.append((evaluate(model, split, (1e-3,)), share.tolist()))
    assert results[0] == results[1] == results[2]


def test_a_system_in_double_precision_is_measured_as_in_single(digits: Data) -> None:
    run = run_of("hyper-vib", epochs=2)
    rows = []
    for kind in (torch.float32, torch.float64):
        model = METHODS.find("hyper-vib").build(run).to(kind)
        fit(model, digits, run, device="cpu")
        rows.append(evaluate(model, digits.test, (1e-3,))[0])
    for row in rows:
        row.pop("by_class")
    assert rows[0] == pytest.approx(rows[1], rel=1e-2)


def test_real_targets_in_any_format_are_measured_alike() -> None:
    x, y = torch.randn(40, 3), torch.randn(40, 1).half()
    run = run_of("vib", 1e-3, features=4)
    system = System(torch.nn.Linear(3, 8), torch.nn.Linear(4, 1), build(run).channel, 4)
    rows = [evaluate(system, Split(x, t), (1e-3,)) for t in (y, y.float(), y.double())]
    assert rows[0] == rows[1] == rows[2]


def test_a_stack_is_evaluated_at_as_many_betas_as_it_has_systems(digits: Data) -> None:
    stack = METHODS.find("vib-batched").build(run_of("vib-batched", 1e-3, 1e-2))
    with pytest.raises(ValueError, match="give the 2 that it was trained at"):
        evaluate(stack, digits.test, (1e-3,))


def test_evaluation_averages_draws_and_reports_what_it_says(digits: Data) -> None:
    run = run_of("vib", 1e-3, epochs=10)
    model = trained(run, digits)
    assert isinstance(model, System)
    split = digits.test
    rows = evaluate(model, split, (1e-3,), draws=3, seed=5, chunk=len(split))
    g = torch.Generator().manual_seed(5)
    accuracy, distortion, rate, power = [], [], [], []
    with torch.no_grad():
        for _ in range(3):
            noise = torch.randn(2, 1, len(split), run.features, generator=g)
            out = model(split.x[None], noise)
            logits = out.prediction[0]
            accuracy.append((logits.argmax(-1) == split.y).float().mean())
            distortion.append(torch.nn.functional.cross_entropy(logits, split.y))
            rate.append(out.rates.sum(-1).mean())
            power.append((out.mean**2 + out.variance).mean())
    expected = {
        "metric": accuracy,
        "distortion": distortion,
        "rate_nats": rate,
        "tx_power": power,
    }
    for name, values in expected.items():
        assert rows[0][name] == pytest.approx(float(sum(values) / 3), rel=1e-4)
    assert rows[0]["objective"] == pytest.approx(
        rows[0]["distortion"] + 1e-3 * rows[0]["rate_nats"]
    )


def test_evaluation_of_many_betas_is_that_of_each(digits: Data) -> None:
    model = trained(run_of("hyper-vib", epochs=5), digits)
    betas = (1e-5, 1e-2, 1.0)
    together = evaluate(model, digits.test, betas, draws=2)
    for row, beta in zip(together, betas, strict=True):
        alone = evaluate(model, digits.test, (beta,), draws=2)[0]
        assert row.pop("by_class") == pytest.approx(alone.pop("by_class"), rel=1e-4)
        assert row == pytest.approx(alone, rel=1e-4)


def test_accuracy_of_each_class_is_that_of_its_examples(digits: Data) -> None:
    model = trained(run_of("hyper-vib", epochs=5), digits)
    split = digits.test
    rows = evaluate(model, split, (1e-4, 1.0), draws=3, chunk=70)
    share = torch.bincount(split.y) / len(split)
    for row in rows:
        assert len(row["by_class"]) == 10
        assert float(share @ torch.tensor(row["by_class"])) == pytest.approx(row["metric"])
    threes = Split(split.x[split.y == 3], split.y[split.y == 3])
    alone = evaluate(model, threes, (1e-4,), draws=8)[0]
    assert rows[0]["by_class"][3] == pytest.approx(alone["metric"], abs=0.1)
    assert alone["by_class"][:3] == [0, 0, 0]


def test_predictions_are_those_that_evaluation_measures(digits: Data) -> None:
    model = trained(run_of("hyper-vib", epochs=5), digits)
    betas = (1e-4, 1e-1)
    logits = predict(model, digits.test, betas)
    rows = evaluate(model, digits.test, betas, draws=1)
    for guess, row in zip(logits.argmax(-1), rows, strict=True):
        assert float((guess == digits.test.y).float().mean()) == pytest.approx(row["metric"])


def test_real_targets_are_measured_by_mean_squared_error() -> None:
    x, y = torch.randn(40, 3), torch.randn(40, 1)
    split = Split(x, y)
    run = run_of("vib", 1e-3, batch_size=20, features=4, epochs=1)
    system = System(torch.nn.Linear(3, 8), torch.nn.Linear(4, 1), build(run).channel, 4)
    fit(system, Data(split, split, split), run, device="cpu")
    row = evaluate(system, split, (1e-3,))[0]
    assert row["metric"] == row["distortion"]


def test_an_evaluation_between_steps_leaves_training_as_it_was(digits: Data) -> None:
    run = run_of("hyper-vib", network="digits-convolutions", epochs=1)
    model = METHODS.find(run.method).build(run)
    for _ in steps(model, digits, run, "cpu"):
        evaluate(model, digits.validation.first(20), (1e-3,), draws=1)
        assert all(module.training for module in model.modules())
    fit(model, digits, run, device="cpu")
    assert not any(module.training for module in model.modules())
