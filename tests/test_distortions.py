"""Distortions other than the default: ready-made ones, and functions of one's own."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small import run_of
from torch import Tensor, nn

import hvib
from hvib import ledger
from hvib.book.probes import share_right
from hvib.data import Data, Split
from hvib.distortions import (
    BY_KIND,
    Distortion,
    Own,
    Part,
    absolute_error,
    as_distortion,
    multi_label,
    several,
    weighted_cross_entropy,
)
from hvib.methods import Method
from hvib.methods.training import training_of
from hvib.objective import feature_kl, terms
from hvib.run import Run
from hvib.system import Output
from hvib.tasks import ACCURACY, SQUARED_ERROR, TASKS, Metric, Task, make_run
from hvib.tasks.networks import power_limited

Register = Callable[[Task | Method], None]

X = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, :3] > 0).long()


def system(k: int, distortion: Any = None) -> hvib.System:
    torch.manual_seed(0)
    device, network = hvib.mlp([6, 16, 8]), hvib.mlp([4, 16, k])
    return hvib.System(device, network, hvib.AWGN(20), 4, distortion)


def limited(system: hvib.System) -> hvib.System:
    return power_limited(lambda run: system)(run_of("vib", 1.0))


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    assert prediction.dim() == 2
    return F.huber_loss(prediction, target, reduction="none").sum(-1)


def test_labels_cost_the_binary_cross_entropy_of_each() -> None:
    logits, labels = torch.randn(2, 5, 3, requires_grad=True), torch.randint(2, (2, 5, 3))
    p = logits.sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum(-1)
    found = multi_label(logits, labels)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, multi_label(logits, labels.float()))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(slope, p.detach() - labels)
    right = torch.tensor([[2.0, -1.0, 0.5, -3.0]]), torch.tensor([[1, 0, 0, 1]])
    assert multi_label.metric(*right).tolist() == [0.5]


def test_a_class_s_weight_multiplies_its_cross_entropy() -> None:
    logits, classes = torch.randn(2, 5, 3, requires_grad=True), torch.randint(3, (2, 5))
    weights = torch.tensor([1.0, 0.0, 2.5])
    weighted = weighted_cross_entropy(weights)
    found = weighted(logits, classes)
    theirs = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weights, reduction="none")
    torch.testing.assert_close(found, theirs.view(2, 5))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    by_hand = weights[classes][..., None] * (logits.softmax(-1) - F.one_hot(classes, 3))
    torch.testing.assert_close(slope, by_hand.detach())
    assert torch.equal(weighted.metric(logits, classes), (logits.argmax(-1) == classes).float())


def test_an_absolute_error_is_the_sum_over_the_numbers() -> None:
    prediction, counts = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[3, 1], [0, 0]])
    assert absolute_error(prediction, counts).tolist() == [5.0, 0.5]
    assert absolute_error.metric(prediction, counts.double()).tolist() == [5.0, 0.5]


def test_several_is_the_weighted_sum_of_its_parts() -> None:
    both = several(
        Part(slice(0, 3), 0),
        Part(slice(3, 5), slice(1, 3), weight=0.5),
        Part(slice(5, 6), slice(3, None), huber, weight=2.0),
    )
    prediction, y = torch.randn(2, 4, 6), torch.randn(2, 4, 4)
    y[..., 0] = torch.randint(3, (2, 4))
    expected = BY_KIND(prediction[..., :3], y[..., 0].long())
    expected = expected + 0.5 * (prediction[..., 3:5] - y[..., 1:3]).square().sum(-1)
    expected = expected + 2 * F.huber_loss(prediction[..., 5], y[..., 3], reduction="none")
    torch.testing.assert_close(both(prediction, y), expected)
    assert torch.equal(both.metric(prediction, y), both(prediction, y))
    both.require_targets("y", y[0], 6)


def test_a_function_of_ones_own_is_the_distortion_of_the_objective() -> None:
    prediction, y = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    mean, variance = torch.randn(2, 4, 5), torch.rand(2, 4, 5)
    output = Output(prediction, mean, variance, feature_kl(mean, variance + 0.1))
    expected = F.huber_loss(prediction, y, reduction="none").sum(-1).mean(-1)
    torch.testing.assert_close(terms(output, y, huber).distortion, expected)
    assert torch.equal(terms(output, y, huber).rate, terms(output, y).rate)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (nn.L1Loss(), r"value of the distortion = \(\): return one number for each of the 8 ex"),
        (nn.L1Loss(reduction="none"), r"value of the distortion = \(8, 3\): .*\(8,\): a loss of"),
        (lambda p, y: 1.0, "value of the distortion = 'float'"),
        (lambda p, y: (p > y).float().sum(-1), "distortion = '<lambda>': it has no gradient"),
    ],
)
def test_a_function_that_is_no_distortion_is_refused(function: Any, says: str) -> None:
    prediction = torch.randn(2, 4, 3, requires_grad=True)
    with pytest.raises(ValueError, match=says):
        as_distortion(function)(prediction, torch.randn(2, 4, 3))


@pytest.mark.parametrize("given", ["mse", nn.MSELoss, 3])
def test_what_cannot_be_called_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"distortion = .*give a function of \(pred"):
        system(3, given)


def test_every_form_of_a_system_keeps_its_distortion() -> None:
    for distortion in (multi_label, huber, nn.GaussianNLLLoss()):
        own = system(3, distortion)
        assert len(list(own.modules())) == len(list(system(3).modules()))
        gated = hvib.hyperize(own, method="ordered", betas=(1e-4, 1.0))
        parts = [gated, hvib.hyperize(own), hvib.fold(gated, 0.1), copy.deepcopy(own)]
        parts += [hvib.opened(own, (1e-4, 1.0)), limited(own)]
        assert {id(part.distortion) for part in parts} == {id(own.distortion)}
        stack = hvib.Stacked([hvib.fold(gated, beta) for beta in (0.1, 1.0)])
        assert stack.template.distortion is own.distortion
    with pytest.raises(ValueError, match=r"systems = '2 kinds': stack systems of one .*distortion"):
        hvib.Stacked([system(3), system(3, multi_label)])
    assert "distortion" not in repr(system(3))
    assert "MultiLabel()" in repr(system(3, multi_label))


@pytest.mark.parametrize("method", ["hyper-vib", "hyper-vib-ordered"])
@pytest.mark.parametrize("labels", [LABELS, LABELS.float(), LABELS.bool().numpy()])
def test_labels_are_learnt_whatever_their_type(method: str, labels: Any) -> None:
    gated = hvib.hyperize(system(3, multi_label), method=method, betas=(1e-3, 0.1))
    split = Split(X, labels)
    settings: dict[str, Any] = {"batch_size": 32, "learning_rate": 2e-2, "device": "cpu"}
    hvib.fit(gated, split, epochs=15, **settings)
    (row,) = hvib.evaluate(gated, split, [1e-3])
    assert row["metric"] > 0.9
    assert "by_class" not in row
    logits = hvib.predict(gated, split, [1e-3])
    assert float(((logits[0] > 0) == LABELS).float().mean()) == pytest.approx(
        row["metric"], abs=0.03
    )


def test_an_evaluation_tells_the_metric_that_goes_with_a_distortion() -> None:
    classes = LABELS[:, 0]

    def close(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.argmax(-1) - target).abs() < 2

    smooth = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    rows = {}
    for name, own in {
        "default": None,
        "weighted": weighted_cross_entropy([1, 1, 1]),
        "function": smooth,
        "measured": Own(smooth, BY_KIND.metric),
        "close": Own(smooth, close),
    }.items():
        (rows[name],) = hvib.evaluate(system(3, own), Split(X, classes), [1e-2])
    assert rows["default"] == rows["weighted"]
    assert rows["function"]["metric"] == rows["function"]["distortion"]
    assert rows["measured"]["metric"] == rows["default"]["metric"]
    assert rows["measured"]["distortion"] == rows["function"]["distortion"]
    assert rows["close"]["metric"] > rows["default"]["metric"]
    assert [name for name, row in rows.items() if "by_class" in row] == ["default", "weighted"]


def test_a_loop_of_ones_own_trains_on_it() -> None:
    gated = hvib.hyperize(system(3, huber), betas=(1e-2, 1.0), method="paper")
    training = training_of(gated, shares=4)
    draw = training.draw(8)
    with hvib.at(draw.betas):
        output = gated(draw.shares(X[:8]), draw.noise)
    found = training.objectives(draw, output, X[:8, :3])
    expected = F.huber_loss(output.prediction, X[:8, :3].view(4, 2, 3), reduction="none")
    rate = terms(output, X[:8, :3].view(4, 2, 3)).rate
    torch.testing.assert_close(found, expected.sum(-1).mean(-1) + draw.betas * rate)


def test_a_distortion_below_0_trains_by_the_mean_objective_alone() -> None:
    def likelihood(prediction: Tensor, target: Tensor) -> Tensor:
        return F.gaussian_nll_loss(
            prediction[:, 0], target[:, 0], prediction[:, 1].exp() * 1e-6, reduction="none"
        )

    for method in ("paper", "ordered"):
        gated = hvib.hyperize(
            system(2, lambda p, y: likelihood(p, y) - 1e6), method=method, betas=(1e-3, 1.0)
        )
        settings: dict[str, Any] = {"epochs": 1, "batch_size": 32, "device": "cpu"}
        if method == "paper":
            assert hvib.fit(gated, Split(X, X[:, :1]), **settings).epoch_objectives[0] < 0
        else:
            with pytest.raises(ValueError, match=r"objective = .* method hyper-vib-ordered div"):
                hvib.fit(gated, Split(X, X[:, :1]), **settings)


INTEGERS = LABELS + 1


@pytest.mark.parametrize(
    ("distortion", "y", "says"),
    [
        (None, LABELS, r"y = \(160, 3\): a class is one whole number an example"),
        (weighted_cross_entropy([1, 2, 3]), LABELS, r"y = \(160, 3\): a class is one whole num"),
        (weighted_cross_entropy([1, 2]), LABELS[:, 0], r"weights = \(1.0, 2.0\): the network ends"),
        (weighted_cross_entropy([1, 2, 3]), X[:, :3], "y.dtype = torch.float32: weights are for"),
        (weighted_cross_entropy([1, 2, 3]), LABELS[:, 0] + 2, r"y = \(2, 3\): the network ends in"),
        (multi_label, INTEGERS, r"y = \[2\]: a label holds or does not: give 0 and 1"),
        (multi_label, LABELS * 0.5, r"y = \[0.5\]: a label holds or does not"),
        (multi_label, LABELS[:, 0], r"y = \(160,\): the network ends in 3 numbers: give \(N, 3\)"),
        (absolute_error, LABELS[:, :2], r"y = \(160, 2\): the network ends in 3 numbers"),
        (several(Part(slice(0, 3), 0)), LABELS[:, 0], r"y = \(160,\): give the columns of all"),
        (several(Part(slice(0, 3), 0)), X, r"y\[:, 0\] = 'no whole numbers': give a column of"),
        (several(Part(slice(0, 3), 3)), LABELS, r"y\[:, 3\] = 3: y has 3 columns"),
        (several(Part(slice(0, 2), 0)), LABELS, r"outputs in no part = \[2\]: the network ends"),
        (several(Part(slice(0, 3), 0)), INTEGERS + 1, r"y\[:, 0\] = \(2, 3\): the network ends"),
        (several(Part(slice(0, 3), slice(1))), LABELS, r"y\[:, :1\] = \(160, 1\): the network"),
    ],
)
def test_targets_that_do_not_go_with_a_distortion_are_refused(
    distortion: Distortion | None, y: Tensor, says: str
) -> None:
    own = system(3, distortion)
    with pytest.raises(ValueError, match=says):
        hvib.evaluate(own, Split(X, y), [0.1])
    with pytest.raises(ValueError, match=says):
        hvib.fit(own, Split(X, y), epochs=1, betas=[0.1], device="cpu")


def test_a_distortion_by_itself_broadcasts_no_targets() -> None:
    prediction, y = torch.zeros(2, 4, 3), torch.zeros(2, 4, 1)
    for distortion in (multi_label, absolute_error):
        with pytest.raises(ValueError, match=r"targets = \(2, 4, 1\): for predictions"):
            distortion(prediction, y)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: weighted_cross_entropy([]), r"weights = \(\): give a finite number"),
        (lambda: weighted_cross_entropy([1, -1]), r"weights = \(1.0, -1.0\)"),
        (lambda: weighted_cross_entropy([0, 0]), r"weights = \(0.0, 0.0\)"),
        (lambda: several(), r"parts = \(\): give at least one Part"),
        (lambda: several(multi_label), "part = 'MultiLabel': give a Part"),  # type: ignore[arg-type]
        (lambda: several(Part(0, 0)), "outputs = 0: give a slice"),  # type: ignore[arg-type]
        (lambda: several(Part(slice(1), "y")), "targets = 'y': give a column"),  # type: ignore[arg-type]
        (lambda: several(Part(slice(1), 0, weight=0)), "weight = 0: give a finite number > 0"),
        (lambda: several(Part(slice(1), 0, nn.MSELoss)), "distortion = 'MSELoss': give a func"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_distortion_are_refused(
    make: Callable[[], Distortion], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_no_answer_is_right_where_there_are_no_classes() -> None:
    with pytest.raises(ValueError, match=r"split.y.dtype = torch.int64: an answer is right of"):
        share_right(system(3, multi_label), Split(X, LABELS), [0.1])


def task_of(metric: Metric, distortion: Any, y: Tensor) -> Task:
    def build(run: Run) -> hvib.System:
        return system(3, distortion)

    data = Data(*[Split(X, y)] * 3)
    digits = TASKS.find("digits")
    profiles = {"smoke": {"features": 4, "epochs": 1, "batch_size": 32, "draws": 2}}
    own = {"name": "mine", "metric": metric, "load": lambda: data, "networks": {"": build}}
    return replace(digits, **own, profiles=profiles)  # type: ignore[arg-type]


SHARE = Metric("labels right", "%", 100, 2, higher_is_better=True, of_distortion=True)


def test_a_task_may_be_judged_by_its_distortion(register: Register) -> None:
    for y in (LABELS, LABELS.float()):
        register(task_of(SHARE, multi_label, y))
        record = ledger.execute(make_run("mine", "hyper-vib", "smoke"))
        assert 0 < record.curve[0]["metric"] < 1
    register(task_of(ACCURACY, weighted_cross_entropy([1, 2, 3]), LABELS[:, 0]))
    assert "by_class" in ledger.execute(make_run("mine", "hyper-vib", "smoke")).curve[0]


@pytest.mark.parametrize(
    ("metric", "distortion", "y", "says"),
    [
        (ACCURACY, multi_label, LABELS[:, 0], r"distortion of task mine = MultiLabel\(\): its"),
        (SQUARED_ERROR, absolute_error, X[:, :3], "not 'MSE': give Metric"),
        (SQUARED_ERROR, weighted_cross_entropy([1, 2, 3]), X[:, :3], "not 'MSE'"),
        (ACCURACY, multi_label, LABELS.float(), "train.y.dtype = torch.float32: task mine's"),
        (SHARE, None, LABELS.float(), "of_distortion = True: the systems have the default"),
    ],
)
def test_a_record_calls_no_measure_by_another_s_name(
    metric: Metric, distortion: Any, y: Tensor, says: str, register: Register
) -> None:
    register(task_of(metric, distortion, y))
    with pytest.raises(ValueError, match=says):
        ledger.execute(make_run("mine", "hyper-vib", "smoke"))
