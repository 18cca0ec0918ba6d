"""The benchmark counts the work it divides by; the timings themselves are not tested."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hvib import objective
from hvib.book import bench
from hvib.tasks import build, make_run


def test_products_of_a_step_are_counted_as_torch_counts_them() -> None:
    run = make_run("mnist", "vib", betas=(1e-3,), batch_size=64)
    x, y = torch.rand(1, 64, 1, 28, 28), torch.randint(10, (1, 64))
    counter = FlopCounterMode(display=False)
    with counter:
        output = build(run)(x, torch.randn(2, 1, 64, run.features))
        objective.terms(output, y).objective(torch.tensor([1e-3])).sum().backward()
    assert bench.products_flops(run) == counter.get_total_flops()


def test_every_ratio_is_measured() -> None:
    ratios = bench.measure(rounds=3, warm=1)
    assert [ratio.what for ratio in ratios] == [
        "MNIST, gated step / plain step",
        "MNIST, ordered step / plain step",
        "MNIST, matrix products' rate: plain step / the machine's own (1024³)",
        "MNIST, whole curve of 13 β at equal epochs: grid one by one / Hyper-VIB",
        "MNIST, whole curve of 13 β at equal epochs: grid one by one / batched grid",
        "MNIST, Algorithm 1 as printed (8 passes, DataLoader, float32) / ours",
        "MNIST, inference: ordered and folded / plain",
        "Bluetooth, gated step / plain step",
        "Bluetooth, freely gated step / plain step",
        "Bluetooth, ordered step / plain step",
        "CIFAR-10, gated step / plain step",
        "CIFAR-10, ordered step / plain step",
        "CIFAR-10, loading and augmentation / plain step",
        "CIFAR-10, images a second: plain step / the usual way",
        "bluetooth, responses simulated a second / 100,000",
        "wifi, responses simulated a second / 100,000",
        "MNIST, peak memory: gated / plain",
        "MNIST, peak memory: ordered / plain",
        "MNIST, peak memory: batched grid / plain",
        "MNIST, peak memory: textbook gated / plain",
    ]
    assert all(0 < r.low <= r.median <= r.high for r in ratios)


def test_any_number_of_rounds_from_three_on_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_bluetooth", "_mnist", "_simulation"):
        monkeypatch.setattr(bench, name, lambda *_: [])
    monkeypatch.setattr(bench, "memory", lambda: [])
    assert len(bench.measure(rounds=60, warm=10)) == 4  # of five steps, which have no rise
    with pytest.raises(ValueError, match="rounds = 2: give at least 3"):
        bench.measure(rounds=2)


def test_the_usual_way_trains_on_the_same_pictures() -> None:
    data = bench.images(8, (3, 32, 32))
    run = make_run("cifar10", "vib", betas=(1e-3,), batch_size=4, shift=0)
    pictures = bench._Pictures(data.train, run)
    x, y = pictures[3]
    whole = data.train.x[3].float() / 255
    assert torch.allclose(x, whole) or torch.allclose(x, whole.flip(-1))
    assert y == int(data.train.y[3])
    bench.usual_step(run, data)()


@pytest.mark.parametrize("method", ["vib", "hyper-vib"])
def test_the_usual_way_lowers_the_objective(method: str) -> None:
    data = bench.images(64)
    betas = (1e-3,) if method == "vib" else (1e-4, 1e-2)
    run = make_run("mnist", method, "smoke", betas=betas, batch_size=32, shares=2)
    torch.manual_seed(0)
    seen: list[float] = []
    real = objective.terms

    def watched(*arguments: Any) -> objective.Terms:
        found = real(*arguments)
        seen.append(float(found.distortion.mean().detach()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "terms", watched)
        one = bench.usual_step(run, data)
        for _ in range(30):
            one()
    assert len(seen) == 30 * len(betas)  # as many passes as there are β
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])


def test_ratios_are_filed_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVIB_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="bench --record"):
        bench.recorded()
    ratios = [bench.Ratio("a / b", 1.5, 1.4, 1.6, "≤ 2"), bench.Ratio("c / d", 3.0, 2.0, 4.0)]
    bench.file_ratios(ratios)
    ((environment, found),) = bench.recorded()
    assert found == ratios
    assert environment["threads"] == torch.get_num_threads()


def test_ratios_that_changed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVIB_RESULTS", str(tmp_path))
    bench.file_ratios([bench.Ratio("a / b", 1.5, 1.4, 1.6)])
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace("1.5", "1.7"))
    with pytest.raises(ValueError, match="damaged"):
        bench.recorded()


def test_each_number_format_has_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVIB_RESULTS", str(tmp_path))
    for products, ratio in (("float32", 2.0), ("bfloat16", 1.0), ("float32", 3.0)):
        monkeypatch.setattr(bench.ledger, "environment", lambda *_, p=products: {"products": p})
        bench.file_ratios([bench.Ratio("a / b", ratio, ratio, ratio)])
    found = [(where["products"], ratios[0].median) for where, ratios in bench.recorded()]
    assert found == [("bfloat16", 1.0), ("float32", 3.0)]


@pytest.mark.parametrize(
    ("median", "aim", "missed"),
    [
        (1.11, "≤ 1.10", True),
        (1.10, "≤ 1.10", False),
        (0.69, "≥ 0.70", True),
        (0.70, "≥ 0.70", False),
        (1.03, "1", True),
        (1.01, "1", False),
        (9.0, "", False),
    ],
)
def test_a_ratio_tells_whether_its_aim_is_missed(median: float, aim: str, missed: bool) -> None:
    assert bench.Ratio("a / b", median, median, median, aim).missed is missed


def test_actions_take_turns_and_warming_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], []

    def action(name: str) -> None:
        log.append(name)
        clock[0] += len(log)  # the k-th call takes k seconds

    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    times = bench.in_turn([lambda: action("a"), lambda: action("b")], rounds=2, warm=1)
    assert log == ["a", "b"] * 3
    assert times == [[3, 5], [4, 6]]


def test_ratios_of_all_formats_stand_side_by_side() -> None:
    missed, met = (
        bench.Ratio("a / b", 2.5, 2.25, 2.75, "≤ 2"),
        bench.Ratio("a / b", 1.5, 1, 2, "≤ 2"),
    )
    alone = bench.Ratio("c / d", 3, 3, 3)
    rows = bench.ratio_rows(
        [({"products": "float32"}, [missed, alone]), ({"products": "bf"}, [met])]
    )
    assert rows == [
        {
            "ratio": "a / b",
            "float32 products": "**2.50** (2.25 to 2.75)",
            "bf products": "1.50 (1.00 to 2.00)",
            "aim": "≤ 2",
        },
        {
            "ratio": "c / d",
            "float32 products": "3.00 (3.00 to 3.00)",
            "bf products": "",
            "aim": "",
        },
    ]
