"""What a task's page runs."""

from dataclasses import replace

import pytest
from conftest import Register

from hvib.book.plan import page, plan, studies
from hvib.methods.hyper_vib import STEPS
from hvib.run import beta_grid
from hvib.tasks import TASKS, Task


def test_plan_holds_what_a_page_compares() -> None:
    runs = plan("mnist", "full")
    vib = [r for r in runs if r.method == "vib"]
    hyper = [r for r in runs if r.method == "hyper-vib"]
    assert len(vib) == 13 * 5
    assert {r.epochs for r in vib} == {20}
    assert sorted(r.epochs for r in hyper) == [20] * 5 + [40] * 5
    ordered = [r for r in runs if r.method == "hyper-vib-ordered"]
    assert [replace(r, method="hyper-vib") for r in ordered] == hyper
    assert {r.method for r in runs} == {"vib", "vib-batched", "hyper-vib", "hyper-vib-ordered"}
    assert {r.method for r in plan("wifi", "full")} == {"vib", *STEPS}
    assert [r.seed for r in runs if r.method == "vib-batched"] == [0]
    assert len({r.slug for r in runs}) == len(runs)


def test_a_task_of_yours_has_no_batched_grid_in_its_plan(register: Register) -> None:
    digits = TASKS.find("digits")
    register(
        Task(
            name="mine",
            label="mine",
            metric=digits.metric,
            load=digits.load,
            networks=digits.networks,
            profiles=digits.profiles,
        )
    )
    assert {r.method for r in plan("mine")} == {"vib", "hyper-vib", "hyper-vib-ordered"}


def test_a_page_is_its_plan_and_its_studies_each_run_once() -> None:
    runs = page("wifi", "smoke", seeds=(3,))
    assert len(set(runs)) == len(runs)
    parts = plan("wifi", "smoke", seeds=(3,)), *studies("wifi", "smoke", seeds=(3,)).values()
    assert set(runs) == set().union(*parts)
    assert runs[: len(parts[0])] == parts[0]


def test_studies_of_a_ranging_page() -> None:
    found = studies("wifi", "full", seeds=(0, 1))
    assert {(r.method, r.epochs, r.seed) for r in found["epochs"]} == {
        ("vib", epochs, seed) for epochs in (5, 10, 20, 40) for seed in (0, 1)
    } | {("vib", 80, 0)}
    assert {r.betas for r in found["epochs"]} == {(1e-4,)}
    assert [(r.method, r.epochs) for r in found["a sixth"]] == [("hyper-vib-ordered", 13)] * 2
    assert [r.method for r in found["longest"]] == ["vib"] * 26 + ["hyper-vib-ordered"] * 2
    assert {(r.epochs, r.seed) for r in found["longest"]} == {(40, 0), (40, 1)}
    assert {r.seed for r in studies("wifi", seeds=(4, 3, 2, 1))["longest"]} == {4, 3, 2}
    parts = ("free", "free-opened", "ordered-unopened", "ordered")
    assert {(r.method, r.seed, r.precision) for r in found["parts"]} == {
        (f"hyper-vib-{part}", seed, "float32") for part in parts for seed in (0, 1)
    }
    assert {r.network for r in found["limited power"]} == {"wifi-power-limited"}
    limited = [r for r in found["limited power"] if r.method == "vib"]
    assert [r.betas for r in limited if r.seed == 0] == [(b,) for b in beta_grid()[::3]]
    assert [r.method for r in found["limited power"] if r not in limited] == ["hyper-vib"] * 2
    assert {r.network for r in found["convolutions"]} == {"wifi-convolutions"}
    assert [r.method for r in found["convolutions"]] == ["vib"] * 4 + ["hyper-vib-free"]
    assert [r.task for r in found["any SNR"]] == ["wifi-any-snr"]


@pytest.mark.parametrize(("task", "epochs"), [("cifar10", 13), ("mnist", 20)])
def test_studies_of_classification(task: str, epochs: int) -> None:
    found = studies(task)
    assert {(r.method, r.seed, r.epochs) for r in found["steps"]} == {
        (method, seed, epochs) for method in STEPS[1:-1] for seed in range(5)
    }
    assert {(r.method, r.seed, r.epochs, r.betas) for r in found["twice"]} == {
        ("vib", seed, 2 * epochs, (beta,)) for seed in range(3) for beta in beta_grid()[::3]
    }


def test_ranges_of_the_mnist_page() -> None:
    found = studies("mnist", seeds=(0, 1))
    once = [r for r in plan("mnist", seeds=(0, 1)) if (r.method, r.epochs) == (STEPS[-1], 20)]
    for name, betas in (
        ("two decades", (0.01, 0.0316228, 0.1, 0.316228, 1.0)),
        ("one decade", (0.1, 0.316228, 1.0)),
    ):
        assert [replace(r, betas=once[0].betas) for r in found[name]] == once
        assert {r.betas for r in found[name]} == {betas}
    assert [replace(r, epochs=20) for r in found["one decade, its share"]] == found["one decade"]
    assert {r.epochs for r in found["one decade, its share"]} == {3}
    assert [replace(r, precision="auto") for r in found["all, float32 products"]] == once
    assert all(studies("mnist", betas=(0.1,)).values())


def test_norms_of_the_cifar10_page() -> None:
    found = studies("cifar10", "full")["norms"]
    assert {(r.network, r.method) for r in found} == {
        (network, method)
        for network in ("", "cifar10-group-norm", "cifar10-no-norm")
        for method in ("vib", "hyper-vib")
    } | {("", "hyper-vib-before")}
    assert {(r.seed, r.epochs) for r in found} == {(seed, 13) for seed in range(3)}
    assert {r.betas for r in found if r.method == "vib"} == {(1e-4,)}
    own = {r for r in found if not r.network}
    assert {r.method for r in own - set(plan("cifar10"))} == {"hyper-vib-before"}
