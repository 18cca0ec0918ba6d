"""The training loop: what it minimises, that its forms agree, how it stops."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import needs_mnist
from torch.utils.checkpoint import checkpoint

from hvib import config, train
from hvib.config import Run, make_run
from hvib.data import Batcher, Data, Split, load, reals
from hvib.hyper import at, fold, hyperize
from hvib.models import Stacked, System, build
from hvib.objective import gaussian_kl
from hvib.train import (
    METHODS,
    Diverged,
    evaluate,
    feature_rates,
    fit,
    method_of,
    parameter_groups,
    predict,
    steps,
)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def run_of(method: str, *betas: float, **settings: Any) -> Run:
    settings = {"precision": "float32", "epochs": 3, **settings}
    return make_run("digits", method, "smoke", betas=betas or None, **settings)


def trained(run: Run, data: Data) -> System | Stacked:
    model = METHODS[run.method].build(run)
    fit(model, data, run, device="cpu")
    return model


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
    stack = METHODS[run.method].build(run)
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
    stack = METHODS[run.method].build(run)
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


@pytest.mark.parametrize("method", ["vib", "hyper-vib", "hyper-vib-ordered"])
def test_training_is_the_seed_s(method: str, digits: Data) -> None:
    betas = (1e-3,) if method == "vib" else ()
    one, same = (trained(run_of(method, *betas, seed=1), digits) for _ in range(2))
    other = trained(run_of(method, *betas, seed=2), digits)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


@pytest.mark.parametrize("method", ["vib", "vib-batched", "hyper-vib", "hyper-vib-ordered"])
def test_training_lowers_the_test_objective_at_every_beta(method: str, digits: Data) -> None:
    betas = (1e-3,) if method == "vib" else (1e-4, 1e-3, 1e-2)
    run = run_of(method, *betas, epochs=20)
    before = evaluate(METHODS[method].build(run), digits.test, run.betas, draws=2)
    after = evaluate(trained(run, digits), digits.test, run.betas, draws=2)
    for old, new in zip(before, after, strict=True):
        assert new["objective"] < 0.6 * old["objective"]
        assert new["metric"] > 0.8


def test_first_step_follows_the_gradient_of_equation_17(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's first gradient, against (17) written out share by share."""
    run = run_of("hyper-vib", epochs=1, shares=4, batch_size=64, limit=64)
    model = METHODS["hyper-vib"].build(run)
    reference = METHODS["hyper-vib"].build(run)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, closure=None: seen.extend(_grads(model))
    )
    fit(model, digits, run, device="cpu")

    g = torch.Generator().manual_seed(run.seed)
    index = torch.randperm(64, generator=g)
    x, y = digits.train.x[index], digits.train.y[index]
    betas = train.objective.draw_betas(run.betas[0], run.betas[-1], 4, g)
    noise = torch.randn(2, 4, 16, run.features, generator=g)
    total = torch.zeros(())
    for m in range(4):
        with at(betas[m]):
            out = reference(x[None, 16 * m : 16 * m + 16], noise[:, m : m + 1])
        for n in range(16):
            d = torch.nn.functional.cross_entropy(out.prediction[0, n], y[16 * m + n])
            rate = gaussian_kl(out.mean[0, n], out.variance[0, n] + 0.01)
            total = total + (d + betas[m] * rate) / (4 * 16)
    total.backward()
    for found, expected in zip(seen, _grads(reference), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def _grads(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_bfloat16_products_train_to_nearly_the_same_objective(digits: Data) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        run = run_of("vib", 1e-3, epochs=30, precision=precision)
        model = trained(run, digits)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        found.append(evaluate(model, digits.validation, run.betas)[0]["objective"])
    assert found[1] == pytest.approx(found[0], rel=0.25)
    assert found[1] != found[0]


def test_weights_decay_and_nothing_else_does() -> None:
    run = run_of("hyper-vib")
    model = hyperize(build(run))
    decayed, kept = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))
    stacked = parameter_groups(Stacked([build(run)] * 2), 0.1)
    assert [len(g["params"]) for g in stacked] == [6, 6]


def test_a_loss_that_is_not_finite_stops_with_beta_step_and_weights(digits: Data) -> None:
    x = digits.train.x.clone()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x[order[128 * 2]] = 3e38  # reached in the third step, where a layer makes it infinite
    data = replace(digits, train=Split(x, digits.train.y))
    run = run_of("vib", 1e-3)
    model = METHODS["vib"].build(run)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        Diverged,
        match=r"the loss at beta = 0\.001 is not finite in step 2: lower "
        r"learning_rate \(now 0\.002\)",
    ) as caught:
        fit(model, data, run, device="cpu")
    assert caught.value.step == 2
    assert caught.value.beta == pytest.approx(1e-3)
    for name, value in caught.value.state.items():
        assert torch.equal(value, start[name])


@pytest.mark.parametrize(
    ("model", "run", "says"),
    [
        (build, run_of("hyper-vib"), "model = 'System': it has no gates, which method hyper-vib"),
        (build, run_of("vib-batched"), "model = 'System': method vib-batched needs a `Stacked`"),
        (build, run_of("vib-warm"), "model = 'System': give a `Stacked` of one system for each"),
        (build, run_of("vib", 1e-3, snr_db=5), "snr_db = 5.0: the model's channel has 20 dB"),
        (build, run_of("vib", 1e-3, features=8), "features = 8: the model has 64"),
    ],
)
def test_a_model_that_is_not_the_run_s_is_refused(
    model: Callable[[Run], System], run: Run, says: str, digits: Data
) -> None:
    own = model(run_of("vib", 1e-3))
    with pytest.raises(ValueError, match=says):
        fit(own, digits, run, device="cpu")


@pytest.mark.parametrize(
    ("split", "part", "change", "says"),
    [
        ("train", "y", lambda y: y.int(), "train.y.dtype = torch.int32: give classes as"),
        ("train", "y", lambda y: y[:-1], r"train.y = \(1197, 1196\): give as many"),
        ("validation", "x", lambda x: x[:0], r"validation.y = \(0, 300\): give as many"),
        ("train", "x", lambda x: x * torch.nan, "train.x = 'NaN or infinite': give finite values"),
        ("test", "x", lambda x: x / 0, "test.x = 'NaN or infinite'"),
        ("test", "y", lambda y: y + 1, r"test.y = \(1, 10\): the network ends in 10 logits: give"),
        ("train", "y", lambda y: y - 1, r"train.y = \(-1, 8\)"),
        ("train", "x", lambda x: x * 1j, "train.x.dtype = torch.complex64: give real and imag"),
        ("test", "x", lambda x: x[..., :7], r"test.x = \(\(1, 8, 7\), .* give \(1, 8, 8\)"),
        ("validation", "x", lambda x: x.double(), r"validation.x = .*float64\): give \(1, 8, 8\)"),
        ("test", "y", lambda y: y[:, None], r"an example of test.y = \(\(1,\), torch.int64\)"),
    ],
)
def test_data_that_would_fail_later_are_refused_first(
    split: str, part: str, change: Callable[[torch.Tensor], torch.Tensor], says: str, digits: Data
) -> None:
    old = getattr(digits, split)
    new = replace(old, **{part: change(getattr(old, part))})
    with pytest.raises(ValueError, match=says):
        trained(run_of("vib", 1e-3), replace(digits, **{split: new}))


@pytest.mark.parametrize(("shift", "flip", "erase"), [(1, False, 0), (0, True, 0), (0, False, 1)])
def test_augmentations_are_for_images(shift: int, flip: bool, erase: int) -> None:
    table = Split(torch.zeros(10, 44, 3), torch.zeros(10, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"for images \(N, C, H, W\) and x is \(10, 44, 3\)"):
        Batcher(table, shift, flip, erase)


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


def test_a_stack_is_evaluated_at_as_many_betas_as_it_has_systems(digits: Data) -> None:
    stack = METHODS["vib-batched"].build(run_of("vib-batched", 1e-3, 1e-2))
    with pytest.raises(ValueError, match="give the 2 that it was trained at"):
        evaluate(stack, digits.test, (1e-3,))


def test_a_checkpointed_model_trains_as_the_model_does(digits: Data) -> None:
    """Its layers run again in the backward pass, where their gates need the same β."""

    class Checkpointed(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    run = run_of("hyper-vib", epochs=1, limit=256)
    plain, checked = (METHODS["hyper-vib"].build(run) for _ in range(2))
    assert isinstance(checked, System)
    checked.device = Checkpointed(checked.device)
    courses = [fit(m, digits, run, device="cpu").epoch_objectives for m in (plain, checked)]
    assert courses[0] == courses[1]


def test_a_loss_that_is_not_finite_at_once_blames_no_learning_rate(digits: Data) -> None:
    data = replace(digits, train=Split(digits.train.x + 3e38, digits.train.y))
    run = run_of("vib", 1e-3)
    with pytest.raises(Diverged, match="step 0: it is so before any training") as caught:
        fit(build(run), data, run, device="cpu")
    start = build(run).state_dict()
    assert caught.value.state.keys() == start.keys()


def test_an_evaluation_between_steps_leaves_training_as_it_was(digits: Data) -> None:
    run = run_of("hyper-vib", network="digits-convolutions", epochs=1)
    model = METHODS[run.method].build(run)
    for _ in steps(model, digits, run, "cpu"):
        evaluate(model, digits.validation.first(20), (1e-3,), draws=1)
        assert all(module.training for module in model.modules())
    fit(model, digits, run, device="cpu")
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (run_of("hyper-vib", batch_size=20), "batch_size = 20: give a multiple of the M = 8"),
        (run_of("hyper-vib", batch_size=4), "batch_size = 4: give a multiple of the M = 8"),
        (run_of("vib", 1e-3, batch_size=5000), "batch_size = 5000: give at most the 1197"),
        (run_of("vib", 1e-3, limit=64), "batch_size = 128: give at most the 64"),
        (run_of("vib", 1e-3, 1e-2), "method vib trains for one β; give one"),
    ],
)
def test_settings_that_do_not_fit_are_named(run: Run, says: str, digits: Data) -> None:
    with pytest.raises(ValueError, match=says):
        fit(build(run), digits, run, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card here")
def test_cuda_asked_for_and_absent_is_named(digits: Data) -> None:
    run = run_of("vib", 1e-3)
    with pytest.raises(ValueError, match="device = 'cuda': no CUDA here; use 'cpu' or 'auto'"):
        fit(build(run), digits, run, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card here")
def test_cuda_trains_as_the_cpu_does(digits: Data) -> None:
    run = run_of("hyper-vib", epochs=20)
    found = []
    for device in ("cpu", "cuda"):
        model = METHODS[run.method].build(run)
        fit(model, digits, run, device=device)
        found.append(evaluate(model, digits.test, run.betas)[0]["metric"])
    assert found[1] == pytest.approx(found[0], abs=0.05)


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
            rate.append(gaussian_kl(out.mean, out.received_variance).mean())
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


def test_share_right_averages_to_the_accuracy(digits: Data) -> None:
    model = trained(run_of("hyper-vib", epochs=5), digits)
    betas = (1e-4, 1.0)
    shares = train.share_right(model, digits.test, betas, draws=3)
    assert shares.shape == (2, len(digits.test))
    assert set((3 * shares).round().flatten().tolist()) <= {0, 1, 2, 3}
    rows = evaluate(model, digits.test, betas, draws=3)
    for share, row in zip(shares, rows, strict=True):
        assert float(share.mean()) == pytest.approx(row["metric"])


def test_rates_of_features_sum_to_the_rate(digits: Data) -> None:
    run = run_of("vib-batched", 1e-3, 1e-1, epochs=1)
    model = trained(run, digits)
    rates = feature_rates(model, digits.test, run.betas)
    assert rates.shape == (2, 64)
    assert rates.min() >= 0
    expected = [row["rate_nats"] for row in evaluate(model, digits.test, run.betas, draws=1)]
    assert rates.sum(1).tolist() == pytest.approx(expected, rel=1e-5)


def test_real_targets_are_measured_by_mean_squared_error() -> None:
    x, y = torch.randn(40, 3), torch.randn(40, 1)
    split = Split(x, y)
    run = run_of("vib", 1e-3, batch_size=20, features=4, epochs=1)
    system = System(torch.nn.Linear(3, 8), torch.nn.Linear(4, 1), train.build(run).channel, 4)
    fit(system, Data(split, split, split), run, device="cpu")
    row = evaluate(system, split, (1e-3,))[0]
    assert row["metric"] == row["distortion"]


def test_training_leaves_the_arithmetic_as_it_was(digits: Data) -> None:
    tiny = torch.tensor(5e-324, dtype=torch.float64)
    assert tiny * 1 > 0
    run = run_of("vib", 1e-3, epochs=1)
    loops = [steps(build(run), digits, run, "cpu") for _ in range(2)]
    for loop in loops:  # side by side, as the benchmark runs them, and neither to its end
        next(loop)
        assert tiny * 1 > 0
    trained(run, digits)
    assert tiny * 1 > 0


def test_schedule_and_epochs_are_those_asked_for(digits: Data) -> None:
    run = run_of("vib", 1e-3, epochs=2)
    course = fit(build(run), digits, run, device="cpu")
    assert course.steps == 2 * (1197 // 128)
    assert len(course.epoch_objectives) == 2
    assert course.seconds > 0


def test_a_method_of_ones_own_joins_by_name(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "mine", replace(METHODS["hyper-vib"]))
    run = run_of("mine", epochs=1)
    assert method_of(run) == METHODS["hyper-vib"]
    assert len(evaluate(trained(run, digits), digits.test, run.betas, draws=1)) == 13
    assert "mine" not in config.PROFILES


def test_ordered_draws_beta_a_quarter_decade_beyond_the_range_and_no_other_does() -> None:
    for name, method in METHODS.items():
        draws = [method.draw(1e-4, 1e-2, 8, torch.Generator().manual_seed(k)) for k in range(4000)]
        more = 10**0.25 if name.startswith("hyper-vib-ordered") else 1
        assert min(map(min, draws)) == pytest.approx(1e-4 / more, rel=0.05)
        assert max(map(max, draws)) == pytest.approx(1e-2 * more, rel=0.05)


@needs_mnist
@pytest.mark.parametrize("method", ["vib", "hyper-vib", "vib-batched"])
def test_real_mnist_trains_a_few_steps_through_the_real_loader(method: str) -> None:
    data = load("mnist")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    betas = (1e-3,) if method == "vib" else (1e-4, 1e-3)
    run = make_run("mnist", method, "smoke", betas=betas, limit=8192)
    model = trained(run, data)
    small = Split(data.test.x[:1000], data.test.y[:1000])
    assert evaluate(model, small, run.betas, draws=1)[0]["metric"] > 0.6


def test_batches_shift_images_by_whole_pixels_with_zeros_behind() -> None:
    x = torch.arange(1, 37, dtype=torch.float32).view(1, 1, 6, 6)
    batches = Batcher(Split(x, torch.zeros(1)), shift=2)
    g = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        image = batches(torch.tensor([0]), g)[0][0, 0]
        moves = [
            (i, j)
            for i in range(-2, 3)
            for j in range(-2, 3)
            if torch.equal(image, _moved(x[0, 0], i, j))
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 25


def test_batches_mirror_half_of_the_images() -> None:
    x = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    batches = Batcher(Split(x, torch.zeros(1)), flip=True)
    images = batches(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))[0]
    mirrored = [torch.equal(image, reals(x[0]).flip(-1)) for image in images]
    assert all(m or torch.equal(i, reals(x[0])) for m, i in zip(mirrored, images, strict=True))
    assert 150 < sum(mirrored) < 250


def test_batches_blank_one_whole_square_anywhere_in_each_image() -> None:
    x = torch.arange(1, 61, dtype=torch.float32).view(1, 2, 5, 6)
    batches = Batcher(Split(x, torch.zeros(1)), erase=3)
    images = batches(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))[0]
    corners = set()
    for image in images:
        blank = image[0] == 0
        i, j = blank.nonzero()[0].tolist()
        wanted = x[0].clone()
        wanted[:, i : i + 3, j : j + 3] = 0
        assert blank.sum() == 9
        assert torch.equal(image, wanted)
        corners.add((i, j))
    assert corners == {(i, j) for i in range(3) for j in range(4)}
    with pytest.raises(ValueError, match="erase = 6: give at most the images' 5 pixels"):
        Batcher(Split(x, torch.zeros(1)), erase=6)


def _moved(image: torch.Tensor, i: int, j: int) -> torch.Tensor:
    moved = torch.roll(image, (i, j), (0, 1))
    rows, columns = torch.arange(6)[:, None] - i, torch.arange(6)[None] - j
    return moved * ((rows >= 0) & (rows < 6) & (columns >= 0) & (columns < 6))
