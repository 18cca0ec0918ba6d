"""Layouts of β over a mini-batch, and the variance of the gradient estimate."""

import math

import pytest
import torch

from hvib import hyperize, make_run
from hvib.data import Split
from hvib.tasks import build
from hvib.theory.sampling import Layout, gradients, layouts, separate, spread


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_layouts_cost_the_same_passes() -> None:
    for layout in layouts(64).values():
        assert layout.examples(1000, 64, generator()).numel() == 64
        assert len(layout.betas(1e-6, 1.0, generator())) == layout.count


def test_draws_are_uniform_in_log_beta_stratified_or_not() -> None:
    for stratified in (False, True):
        betas = Layout(4000, stratified).betas(1e-6, 1.0, generator())
        logs = betas.log10()
        assert float(logs.mean()) == pytest.approx(-3, abs=0.1)
        assert float(logs.std()) == pytest.approx(6 / math.sqrt(12), abs=0.05)
        position = (logs.double() + 6) / 6 * 4000
        inside = ((position - torch.arange(4000)).abs() <= 1.01).float().mean()
        assert (float(inside) == 1) is stratified


def test_reuse_shows_every_draw_the_same_examples() -> None:
    index = Layout(4, reuse=True).examples(1000, 32, generator())
    assert (index == index[0]).all()
    own = Layout(4).examples(1000, 32, generator())
    assert not (own == own[0]).all()


def test_passes_must_divide() -> None:
    with pytest.raises(ValueError, match="passes = 10: give a multiple of M = 4"):
        Layout(4).examples(100, 10, generator())


def test_spread_of_known_samples() -> None:
    samples = torch.randn(4000, 3, generator=generator()) * torch.tensor([1.0, 2.0, 3.0])
    found = spread(samples)
    assert abs(found.variance - 14) < 4 * found.error
    assert found.variance == pytest.approx(float(samples.var(0).sum()), rel=1e-5)
    # tr Cov of ‖g − ḡ‖²: 2 Σ σ⁴ = 196 for a normal.
    assert found.error == pytest.approx(math.sqrt(196 / 4000), rel=0.1)


def test_layouts_share_a_mean_and_rank_as_the_lemma_says() -> None:
    run = make_run("digits", "hyper-vib", "smoke", features=2)
    model = hyperize(build(run))
    x, y = torch.rand(50, 1, 8, 8, generator=generator()), torch.arange(50) % 10
    spreads, means = {}, {}
    direction = None
    for seed, (name, layout) in enumerate(layouts(16, 4).items()):
        drawn = gradients(
            model, Split(x, y), layout, passes=16, repeats=150, betas=(1e-2, 10.0), seed=seed
        )
        direction = drawn.mean(0) if direction is None else direction
        along = drawn @ direction
        spreads[name] = spread(drawn)
        means[name] = (float(along.mean()), float(along.std()) / math.sqrt(150))
    reference, error = means["one β an example"]
    for name, (mean, own) in list(means.items())[1:]:
        assert abs(mean - reference) < 4 * math.hypot(own, error), name
    parts = separate(spreads, 16)
    assert parts.beta > 0
    shares = spreads["4 β, a share each"]
    predicted = parts.beta / 4 + parts.example / 16
    assert shares.variance == pytest.approx(predicted, rel=0.5)
    assert spreads["one β a step"].variance > 1.2 * spreads["4 β, stratified"].variance
    assert spreads["4 β, the same examples"].variance > shares.variance
