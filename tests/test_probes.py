"""What pages look at inside a trained system."""

import numpy as np
import pytest
import torch
from small import run_of, trained

from hvib.book import probes
from hvib.book.probes import feature_rates, share_right, survivors_of
from hvib.data import Data
from hvib.evaluation import evaluate


def test_share_right_averages_to_the_accuracy(digits: Data) -> None:
    model = trained(run_of("hyper-vib", epochs=5), digits)
    betas = (1e-4, 1.0)
    shares = share_right(model, digits.test, betas, draws=3)
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


def test_survivors_are_pictures_of_each_class_with_how_far_they_come(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("hyper-vib", 1e-4, 1e-2, 1.0, limit=25)
    counts = np.arange(25) % 4  # of the three β
    where = []
    monkeypatch.setattr(probes.ledger, "trained", lambda run, device: where.append(device))
    shares = torch.from_numpy(counts[None] > np.arange(3)[:, None]).float()
    monkeypatch.setattr(
        probes, "share_right", lambda model, split, betas: shares[: len(betas), : len(split)]
    )
    found = survivors_of(run, device="cpu")
    assert found["all"].tolist() == counts.tolist()
    assert where == ["cpu"]
    classes = digits.test.y[:25].numpy()
    labels = np.unique(classes).tolist()
    assert found["y"].tolist() == labels * 2
    longest, soonest = found["count"].reshape(2, -1).tolist()
    of_class = [counts[classes == label] for label in labels]
    assert longest == [count.max() for count in of_class]
    assert soonest == [min([c for c in count if c] or [0]) for count in of_class]
    for x, y, count in zip(found["x"], found["y"], found["count"], strict=True):
        fitting = (classes == int(y)) & (counts == int(count))
        assert torch.equal(x, digits.test.x[int(np.flatnonzero(fitting)[0])])
    assert survivors_of(run, device="cpu", count=7)["all"].tolist() == counts[:7].tolist()
