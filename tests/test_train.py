"""The training loop: what it minimises, that its forms agree, how it stops."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import needs_mnist
from small import run_of, trained
from torch.utils.checkpoint import checkpoint

from hvib import objective
from hvib.data import Data, Split
from hvib.evaluation import evaluate
from hvib.hyper import at, hyperize
from hvib.methods import METHODS
from hvib.methods.optimiser import parameter_groups
from hvib.objective import gaussian_kl
from hvib.run import Run
from hvib.system import Stacked, System
from hvib.tasks import build, load, make_run
from hvib.train import Diverged, fit, steps


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
    before = evaluate(METHODS.find(method).build(run), digits.test, run.betas, draws=2)
    after = evaluate(trained(run, digits), digits.test, run.betas, draws=2)
    for old, new in zip(before, after, strict=True):
        assert new["objective"] < 0.6 * old["objective"]
        assert new["metric"] > 0.8


def test_first_step_follows_the_gradient_of_equation_17(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's first gradient, against (17) written out share by share."""
    run = run_of("hyper-vib", epochs=1, shares=4, batch_size=64, limit=64)
    model = METHODS.find("hyper-vib").build(run)
    reference = METHODS.find("hyper-vib").build(run)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, closure=None: seen.extend(_grads(model))
    )
    fit(model, digits, run, device="cpu")

    g = torch.Generator().manual_seed(run.seed)
    index = torch.randperm(64, generator=g)
    x, y = digits.train.x[index], digits.train.y[index]
    betas = objective.draw_betas(run.betas[0], run.betas[-1], 4, g)
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
    model = METHODS.find("vib").build(run)
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
        ("train", "y", lambda y: y * 1j, "train.y.dtype = torch.complex64: give real and imag"),
        ("train", "y", lambda y: y[:-1], r"train.y = \(1197, 1196\): give as many"),
        ("validation", "x", lambda x: x[:0], r"validation.y = \(0, 300\): give as many"),
        ("train", "x", lambda x: x * torch.nan, "train.x = 'NaN or infinite': give finite values"),
        ("test", "x", lambda x: x / 0, "test.x = 'NaN or infinite'"),
        ("test", "y", lambda y: y + 1, r"test.y = \(1, 10\): the network ends in 10 logits: give"),
        ("train", "y", lambda y: y - 1, r"train.y = \(-1, 8\)"),
        ("train", "x", lambda x: x * 1j, "train.x.dtype = torch.complex64: give real and imag"),
        ("test", "x", lambda x: x[..., :7], r"test.x = \(\(1, 8, 7\), .* give \(1, 8, 8\)"),
        ("validation", "x", lambda x: x.double(), r"validation.x = .*float64\): give \(1, 8, 8\)"),
        ("test", "y", lambda y: y[:, None], r"test.y = \(300, 1\): a class is one whole number"),
    ],
)
def test_data_that_would_fail_later_are_refused_first(
    split: str, part: str, change: Callable[[torch.Tensor], torch.Tensor], says: str, digits: Data
) -> None:
    old = getattr(digits, split)
    new = replace(old, **{part: change(getattr(old, part))})
    with pytest.raises(ValueError, match=says):
        trained(run_of("vib", 1e-3), replace(digits, **{split: new}))


def test_a_checkpointed_model_trains_as_the_model_does(digits: Data) -> None:
    """Its layers run again in the backward pass, where their gates need the same β."""

    class Checkpointed(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    run = run_of("hyper-vib", epochs=1, limit=256)
    plain, checked = (METHODS.find("hyper-vib").build(run) for _ in range(2))
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
        model = METHODS.find(run.method).build(run)
        fit(model, digits, run, device=device)
        found.append(evaluate(model, digits.test, run.betas)[0]["metric"])
    assert found[1] == pytest.approx(found[0], abs=0.05)


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
