"""Linear systems, trained, against what is known of them."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from hvib.evaluation import evaluate
from hvib.gates.closing import FreeGate, opened
from hvib.hyper import Gated, at
from hvib.objective import feature_kl
from hvib.run import Run, beta_grid
from hvib.theory import linear
from hvib.theory.linear import (
    explained_power,
    joint_response,
    least_squares,
    sign_accuracy,
)
from hvib.theory.linear_systems import (
    exact_terms,
    examples,
    gaussian_data,
    learned_gates,
    learned_response,
    parallel_source,
    parallel_system,
    received_correlation,
    theorem1_system,
    theorem2_system,
)
from hvib.train import fit


def linear_run(**values: Any) -> Run:
    fixed = {
        "task": "linear",
        "method": "hyper-vib",
        "profile": "smoke",
        "seed": 0,
        "betas": beta_grid(2e-3, 2e3),
        "features": 1,
        "precision": "float32",
    }
    return Run(**{**fixed, **values})


def test_the_system_of_18_is_deterministic_and_trains_with_finite_gradients() -> None:
    data = gaussian_data(512, np.array([1.0, -2.0, 0.5]), 0.1, seed=0)
    system = theorem1_system(3, 1.5, 20, seed=0)
    assert [m.layer.out_features for m in system.modules() if isinstance(m, Gated)] == [3, 1]
    x = data.train.x[None]
    with at(1.0):
        out = system(x, torch.randn(2, 1, 512, 1))
    assert (out.variance == 0).all()
    torch.testing.assert_close(out.rates, feature_kl(out.mean, torch.tensor(0.01)))
    fit(system, data, linear_run(batch_size=256, epochs=1), device="cpu")
    gradients = [p.grad for p in system.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    found = learned_response(system, 3, np.array([1.0, 2.0]))
    assert found.shape == (2, 3)
    first, second = learned_gates(system, np.array([1.0, 2.0]))
    layers = system.device.mean
    W1, W2 = (m.layer.weight.detach().double().numpy() for m in layers)  # type: ignore
    np.testing.assert_allclose(found, second * (W2 * first) @ W1, rtol=1e-5)
    with at(2.0):
        z = system(x, torch.zeros(2, 1, 512, 1)).mean[0, :, 0]
    np.testing.assert_allclose(examples(data)[0] @ found[1], z.detach().numpy(), atol=1e-5)


def test_exact_terms_are_what_evaluation_estimates() -> None:
    data = gaussian_data(1000, np.array([1.0, -2.0]), 0.5, seed=0)
    system = theorem2_system(2, 20, seed=1)
    X, y = examples(data)
    for row in evaluate(system, data.train, (1e-2, 1.0), draws=400, chunk=1000):
        terms = exact_terms(system, X, y, row["beta"])
        assert row["rate_nats"] == pytest.approx(terms.rate, rel=1e-4)
        assert row["distortion"] == pytest.approx(terms.distortion, rel=5e-3)


def test_exact_terms_of_several_features_are_what_evaluation_estimates() -> None:
    data = parallel_source(1000, np.array([1.0, 0.3, 0.1]), seed=0)
    system = opened(parallel_system(3, 20, seed=1), (1e-2, 1.0))
    X = data.train.x.double().numpy()
    for row in evaluate(system, data.train, (1e-2, 1.0), draws=400, chunk=1000):
        terms = exact_terms(system, X, X, row["beta"])
        assert len(terms.rates) == 3
        assert row["rate_nats"] == pytest.approx(terms.rate, rel=1e-4)
        assert row["distortion"] == pytest.approx(terms.distortion, rel=5e-3)


def test_correlation_and_sign_accuracy_are_those_of_samples() -> None:
    data = gaussian_data(100_000, np.array([1.0, -2.0]), 0.5, seed=0)
    system = theorem2_system(2, 0, seed=1)
    X, y = examples(data)
    with at(0.1), torch.no_grad():
        noise = torch.randn(2, 1, len(X), 1)
        out = system(data.train.x[None], noise)
    sample = out.prediction[0, :, 0].double().numpy()
    sample = sample - sample.mean()
    found = received_correlation(system, X, y, 0.1)
    expected = np.corrcoef(sample, y)[0, 1]
    assert found == pytest.approx(abs(expected), abs=0.01)
    agreement = np.mean((sample > 0) == (np.sign(expected) * y > 0))
    assert sign_accuracy(found) == pytest.approx(agreement, abs=0.01)


def test_no_trained_linear_system_beats_theorem_2() -> None:
    data = gaussian_data(512, np.array([1.0, -0.5]), 0.5, seed=0)
    X, y = examples(data)
    run = linear_run(betas=beta_grid(1e-3, 10), batch_size=512, epochs=300, learning_rate=0.05)
    system = theorem2_system(2, 20, seed=0)
    fit(system, data, run, device="cpu")
    least = np.mean((y - X @ least_squares(X, y)) ** 2)
    best = joint_response(explained_power(X, y), np.array(run.betas), 0.01).objective
    for beta, minimum in zip(run.betas, best, strict=True):
        terms = exact_terms(system, X, y, beta)
        assert terms.distortion - least + beta * terms.rate >= minimum * (1 - 1e-6)


def test_no_trained_parallel_system_beats_the_sum_of_theorem_2() -> None:
    powers = np.array([1.0, 0.2, 0.04])
    data = parallel_source(512, powers, seed=0)
    X = data.train.x.double().numpy()
    betas = beta_grid(1e-1, 10)
    run = linear_run(
        method="hyper-vib-ordered",
        betas=betas,
        features=3,
        batch_size=512,
        shares=32,
        epochs=800,
        learning_rate=0.02,
    )
    gate = partial(FreeGate, betas=(betas[0], betas[-1]))
    system = opened(parallel_system(3, 20, seed=0, gate=gate), (betas[0], betas[-1]))
    fit(system, data, run, device="cpu")
    for beta in betas:
        minimum = sum(joint_response(p, np.array([beta]), 0.01).objective[0] for p in powers)
        terms = exact_terms(system, X, X, beta)
        reached = terms.distortion + beta * terms.rate
        assert reached >= minimum * (1 - 1e-6)
        if beta > 2 * powers[1]:  # one component at most is worth its rate
            assert reached <= 1.05 * minimum


def test_parallel_source_has_the_powers_asked_for_and_is_its_own_target() -> None:
    powers = np.array([2.0, 0.5, 0.01])
    data = parallel_source(500, powers, seed=0)
    x = data.train.x.double().numpy()
    np.testing.assert_allclose(x.T @ x / 500, np.diag(powers), atol=1e-6)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    assert torch.equal(data.train.x, data.train.y)
    assert data.md5 != parallel_source(500, powers, seed=1).md5
    with pytest.raises(ValueError, match=r"count = 3: give more than 3"):
        parallel_source(3, powers, seed=0)
    with pytest.raises(ValueError, match=r"powers = .*give a finite powers > 0"):
        parallel_source(9, np.array([1.0, 0.0]), seed=0)


def test_data_is_the_seed_s_and_centred() -> None:
    one, same = (gaussian_data(30, np.array([1.0, 2.0]), 0.1, seed=3) for _ in range(2))
    assert one.md5 == same.md5
    assert one.md5 != gaussian_data(30, np.array([1.0, 2.0]), 0.1, seed=4).md5
    X, y = examples(one)
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-7)
    assert y.mean() == pytest.approx(0, abs=1e-6)
    assert replace(one, test=one.train).test is one.train
    assert linear.__doc__
