"""The benchmark counts the work it divides by; the timings themselves are not tested."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from hvib import bench
from hvib.config import make_run
from hvib.models import build
from hvib.objective import terms


def test_products_of_a_step_are_counted_as_torch_counts_them() -> None:
    run = make_run("mnist", "vib", betas=(1e-3,), batch_size=64)
    x, y = torch.rand(1, 64, 1, 28, 28), torch.randint(10, (1, 64))
    counter = FlopCounterMode(display=False)
    with counter:
        output = build(run)(x, torch.randn(2, 1, 64, run.features))
        terms(output, y).objective(torch.tensor([1e-3])).sum().backward()
    assert bench.products_flops(run) == counter.get_total_flops()


def test_every_ratio_is_measured() -> None:
    ratios = bench.measure(rounds=3, warm=1)
    assert [ratio.what.split(":")[0] for ratio in ratios] == [
        "gated step / plain step",
        "matrix products' rate",
        "whole curve of 13 β at equal epochs",
        "whole curve of 13 β at equal epochs",
    ]
    assert all(0 < r.low <= r.median <= r.high for r in ratios)
