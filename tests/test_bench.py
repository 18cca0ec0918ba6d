"""The benchmark counts the work it divides by; the timings themselves are not tested."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from hvib import bench
from hvib.config import make_run
from hvib.models import build
from hvib.objective import terms
from hvib.train import product_dtype, torch_device


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
    run = make_run("mnist", "vib", betas=(1e-3,))
    dtype = str(product_dtype(run, torch_device()))[6:]
    assert [ratio.what for ratio in ratios] == [
        "MNIST, gated step / plain step",
        f"MNIST, matrix products' rate: plain step / the machine's own ({dtype}, 1024³)",
        "MNIST, whole curve of 13 β at equal epochs: grid one by one / Hyper-VIB",
        "MNIST, whole curve of 13 β at equal epochs: grid one by one / batched grid",
        "CIFAR-10, gated step / plain step",
        "CIFAR-10, freely gated step / plain step",
        "CIFAR-10, loading and augmentation / plain step",
        "CIFAR-10, images a second: plain step / the usual way",
        "bluetooth, responses simulated a second / 100,000",
        "wifi, responses simulated a second / 100,000",
    ]
    assert all(0 < r.low <= r.median <= r.high for r in ratios)


def test_the_usual_way_trains_on_the_same_pictures() -> None:
    data = bench.images(8, (3, 32, 32))
    run = make_run("cifar10", "vib", betas=(1e-3,), batch_size=4, shift=0)
    pictures = bench._Pictures(data.train, 0)
    x, y = pictures[3]
    whole = data.train.x[3].float() / 255
    assert torch.allclose(x, whole) or torch.allclose(x, whole.flip(-1))
    assert y == int(data.train.y[3])
    bench.usual_step(run, data)()
