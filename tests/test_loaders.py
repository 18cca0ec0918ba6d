"""Training and evaluation on mini-batches that are made elsewhere."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import hvib
from hvib.book.probes import feature_rates
from hvib.data import Split
from hvib.distortions import multi_label
from hvib.methods.optimiser import optimizer_of
from hvib.methods.training import training_of
from hvib.methods.yours import run_of

G = torch.Generator().manual_seed(0)
X = torch.randn(120, 6, generator=G)
Y = (X[:, 0] > 0).long()
PAIRS = list(zip(X.split(40), Y.split(40), strict=True))


def system(method: str = "ordered", **settings: Any) -> hvib.System:
    torch.manual_seed(0)
    device, network = hvib.mlp([6, 16, 8]), hvib.mlp([4, 16, 2])
    plain = hvib.System(device, network, hvib.AWGN(20), 4, **settings)
    return hvib.hyperize(plain, method=method, betas=(1e-3, 1.0))


def fit(model: hvib.System, data: Any, epochs: int = 2, **settings: Any) -> Any:
    return hvib.fit(model, data, epochs=epochs, device="cpu", **settings)


class Stream:
    """Mini-batches that do not say how many they are."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        begin = 0
        for size in self.sizes:
            yield X[begin : begin + size], Y[begin : begin + size]
            begin += size


class Lying(Stream):
    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("known", [True, False], ids=["one cycle", "constant rate"])
def test_its_steps_are_those_of_a_loop_of_ones_own(known: bool) -> None:
    ours, theirs = system(), system()
    course = fit(theirs, PAIRS if known else Stream(40, 40, 40), precision="float32")
    training, run = training_of(ours), run_of(ours, None, 2)
    optimizer, schedule = optimizer_of(ours.train(), run, 6 if known else None)
    means = []
    for x, y in PAIRS * 2:
        draw = training.draw(40)
        with hvib.at(draw.betas):
            losses = training.objectives(draw, ours(draw.shares(x), draw.noise), y)
            optimizer.zero_grad()
            training.weighted(losses).backward()
        optimizer.step()
        schedule.step()
        means.append(losses.detach().mean())
    assert course.steps == 6
    assert course.epoch_objectives == torch.stack(means).view(2, 3).mean(1).tolist()
    assert optimizer.param_groups[0]["lr"] == 2e-3 or known
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])
    assert not theirs.training


def test_a_data_loader_trains_as_a_split_does() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=40, shuffle=True)
    settings: dict[str, Any] = {"epochs": 25, "learning_rate": 2e-2}
    one, other = system(), system()
    torch.manual_seed(1)
    fit(one, loader, **settings)
    fit(other, Split(X, Y), batch_size=40, **settings)
    for model in (one, other):
        assert hvib.evaluate(model, loader, [1e-3])[0]["metric"] > 0.9


def test_mini_batches_are_measured_as_the_split_is() -> None:
    model, split = system(), Split(X, Y)
    for given, chunk in ((PAIRS, 500), (iter(PAIRS), 40), ([(X, Y)], 40)):
        assert hvib.evaluate(model, given, chunk=chunk) == hvib.evaluate(model, split, chunk=40)
    arrays = [(x.numpy(), y.numpy().astype(np.uint8)) for x, y in PAIRS]
    assert hvib.evaluate(model, arrays) == hvib.evaluate(model, split, chunk=40)
    assert hvib.predict(model, PAIRS, [0.1]).shape == (1, 120, 2)
    rates = feature_rates(model, PAIRS, [0.1])  # type: ignore[arg-type]
    told = hvib.evaluate(model, PAIRS, [0.1], draws=1)[0]["rate_nats"]
    assert float(rates.sum()) == pytest.approx(told, rel=1e-5)


def test_mini_batches_are_cut_to_whole_shares() -> None:
    """The last of a pass without a word; others with a warning; one of less than M is left out."""
    seen: list[int] = []
    model = system()
    model.device.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))

    def lengths(*sizes: int) -> list[int]:
        seen.clear()
        fit(model, Stream(*sizes), epochs=1)
        return [length for length in seen if length >= 16]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lengths(40, 40, 37)[-2:] == [40, 32]
        assert lengths(40, 40, 7)[-2:] == [40, 40]
    with pytest.warns(UserWarning, match="mini-batches of 37 examples: each is cut to a multiple"):
        assert lengths(37, 40)[-2:] == [32, 40]


def test_more_mini_batches_than_told_are_told_of() -> None:
    with pytest.warns(UserWarning, match="more than the 2 mini-batches that its length tells"):
        fit(system(), Lying(40, 40))


def test_one_epoch_needs_one_pass_only() -> None:
    assert fit(system(), iter(PAIRS), epochs=1).steps == 3
    assert fit(system(), (pair for pair in PAIRS), epochs=1).steps == 3
    with pytest.raises(ValueError, match="data = 'list_iterator': it can be passed over once: for"):
        fit(system(), iter(PAIRS))

    class Once:
        def __init__(self) -> None:
            self.rest = iter(PAIRS)

        def __iter__(self) -> Iterator[Any]:
            return self.rest

    with pytest.raises(ValueError, match="data = 'no mini-batch': give at least one, in each pass"):
        fit(system(), Once())


class Singles(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]

    def __len__(self) -> int:
        return len(X)


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X, Y, strict=True))


def test_a_stream_of_examples_is_made_mini_batches_by_a_loader() -> None:
    assert fit(system(), DataLoader(Streamed(), batch_size=24), epochs=2).steps == 10
    assert fit(system(), DataLoader(Singles(), batch_size=24), epochs=1).steps == 5


def changed(index: int, x: Any = None, y: Any = None) -> list[Any]:
    pairs: list[Any] = list(PAIRS)
    pairs[index] = (pairs[index][0] if x is None else x, pairs[index][1] if y is None else y)
    return pairs


OF_BATCHES = [
    (None, r"= 'NoneType': give .*, or any iterable of mini-batches \(x, y\)"),
    (Singles(), r"= 'Singles': wrap it, as torch.utils.data.DataLoader\(dataset"),
    ([], "= 'no mini-batch': give at least one"),
    (X, r"mini-batch 0 = 'Tensor': give pairs \(x, y\); of one x and one y make hvib.Split"),
    ((X, Y), "mini-batch 0 = 'Tensor': give pairs"),
    ({"x": X, "y": Y}, "mini-batch 0 = 'str': give pairs"),
    ([{"x": X, "y": Y}], "mini-batch 0 = 'dict': give pairs"),
    ([(X, Y, Y)], "mini-batch 0 = 'tuple': give pairs"),
    (Streamed(), r"y = \(\): give one entry for each example"),
    (changed(1, y=Y[:39]), r"mini-batch 1.x and mini-batch 1.y = \(40, 39\): give as many"),
    (changed(1, x=X[:40] / 0), "mini-batch 1.x = 'NaN or infinite': give finite values"),
    (changed(2, x=X[:40, :5]), r"mini-batch 2.x = .* give \(6,\) of torch.float32, as in mini"),
    (changed(2, y=Y[:40] + 1.0), r"mini-batch 2.y = .* of torch.int64, as in mini-batch 0.y"),
    (changed(1, y=Y[:40] + 1), r"y = \(1, 2\): the network ends in 2 logits"),
    (changed(0, y=torch.eye(40).long()), r"mini-batch 0.y = \(40, 40\): a class is one whole"),
]


@pytest.mark.parametrize(("data", "says"), OF_BATCHES)
def test_what_are_no_mini_batches_is_refused(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit(system(), data)
    with pytest.raises(ValueError, match=says):
        hvib.evaluate(system(), data)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": None}, "epochs = None: say how often"),
        ({"batch_size": 8}, "batch_size = 8: it is not for mini-batches that you make"),
        ({"shift": 2}, "shift = 2: it is not for mini-batches"),
        ({"resume": "here"}, "resume = 'here': it is not for mini-batches"),
        ({"method": "hyper-vib-tuned"}, "method = 'hyper-vib-tuned': it trains several systems"),
        ({"shares": 64}, "length of mini-batch 0 = 40: give .* multiple of the M = 64 shares"),
        ({"betas": (1e-6, 1.0)}, r"betas = \(1e-06, 1.0\): the model's gates are made for"),
    ],
)
def test_settings_that_are_not_for_mini_batches_are_refused(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        fit(system(), PAIRS, **settings)


def test_a_run_is_for_splits() -> None:
    run = run_of(system(), None, 2)
    with pytest.raises(ValueError, match=r"run = .*it is not for mini-batches that you make"):
        hvib.fit(system(), PAIRS, run)


def test_labels_come_in_mini_batches_too() -> None:
    labels = [(x, (x[:, :2] > 0).long()) for x, _ in PAIRS]
    model = system("paper", distortion=multi_label)
    fit(model, labels, epochs=60, learning_rate=2e-2, shares=5)
    assert hvib.evaluate(model, labels, [1e-3])[0]["metric"] > 0.9


def test_a_plain_system_trains_at_one_beta() -> None:
    torch.manual_seed(0)
    plain = hvib.System(hvib.mlp([6, 8]), hvib.mlp([4, 2]), hvib.AWGN(20), 4)
    course = fit(plain, [(X[:37], Y[:37])], epochs=20, betas=[1e-3], learning_rate=2e-2)
    assert course.epoch_objectives[-1] < course.epoch_objectives[0]
