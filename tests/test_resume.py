"""A training that was killed goes on from its file to the same bits as an undisturbed one."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small import run_of
from torch import nn

from hvib.channel import AWGN
from hvib.data import Data, Split
from hvib.evaluation import evaluate
from hvib.house.project import PROJECT
from hvib.hyper import hyperize
from hvib.methods import METHODS, resuming
from hvib.methods.training import Training
from hvib.run import Run
from hvib.system import Stacked, System, mlp
from hvib.train import Fit, fit

PER_EPOCH = 1197 // 128


class Killed(Exception):
    """Ends a training in the middle of a step."""


@pytest.fixture(autouse=True)
def _each_epoch_is_filed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "EVERY", 0.0)


def killed(
    monkeypatch: pytest.MonkeyPatch, after: int, model: nn.Module, *args: Any, **settings: Any
) -> None:
    """A call of `fit` that ends in the middle of a step, after so many whole ones."""
    count, weighted = 0, Training.weighted

    def counted(self: Training, objectives: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return weighted(self, objectives)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "weighted", counted)
        with pytest.raises(Killed):
            fit(model, *args, device="cpu", **settings)  # type: ignore[arg-type]


def built(run: Run) -> System | Stacked:
    return METHODS.find(run.method).build(run)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def course(found: Fit) -> tuple[int, list[float]]:
    return found.steps, found.epoch_objectives


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "method",
    [
        *("vib", "vib-batched", "vib-tended"),
        *("hyper-vib", "hyper-vib-ordered", "hyper-vib-ordered-averaged"),
    ],
)
def test_a_killed_training_goes_on_to_the_same_bits(
    method: str, precision: str, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    betas = (1e-3,) if method in ("vib", "vib-tended") else (1e-4, 1e-2)
    run = run_of(method, *betas, precision=precision, epochs=4, shift=1, weight_decay=0.01)
    undisturbed, resumed = built(run), built(run)
    expected = fit(undisturbed, digits, run, device="cpu")
    file = tmp_path / "new" / "a.safetensors"
    for after in (3, PER_EPOCH + 3, PER_EPOCH):  # before the first epoch ends, then further on
        killed(monkeypatch, after, built(run), digits, run, resume=file)
    told = resuming._stored(file)[1]
    assert (told["steps"], told["done"]) == (2 * PER_EPOCH, False)
    found = fit(resumed, digits, run, device="cpu", resume=file)
    assert course(found) == course(expected)
    assert_same(undisturbed, resumed)
    rows = [evaluate(model, digits.test, run.betas, draws=2) for model in (undisturbed, resumed)]
    assert rows[0] == rows[1]
    assert [path.name for path in file.parent.iterdir()] == ["a.safetensors"]


def own(width: int = 32) -> System:
    """A system with batch norms, dropout, and a weight that does not train."""
    torch.manual_seed(0)
    device = nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
    )
    device.append(nn.Linear(width, 16))
    network = mlp([8, 16, 10])
    network[1].bias.requires_grad_(False)
    return System(device, network, AWGN(20), 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gated", [False, True])
def test_norms_and_dropout_go_on_too(
    gated: bool,
    dtype: torch.dtype,
    digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> System:
        system: nn.Module = own()
        if gated:
            torch.manual_seed(0)
            system = hyperize(system, method="hyper-vib-ordered", betas=(1e-4, 1.0))
        assert isinstance(system, System)
        return system.to(dtype)

    settings: dict[str, Any] = {"epochs": 4, "batch_size": 128, "precision": "float32"}
    settings |= {} if gated else {"betas": [1e-3]}
    undisturbed, first, resumed = made(), made(), made()
    torch.manual_seed(3)
    expected = fit(undisturbed, digits, device="cpu", **settings)
    after = torch.rand(2)
    torch.manual_seed(3)
    killed(monkeypatch, 2 * PER_EPOCH + 5, first, digits, resume=tmp_path, **settings)
    torch.manual_seed(99)
    found = fit(resumed, digits, device="cpu", resume=tmp_path, **settings)
    assert torch.equal(torch.rand(2), after)
    assert course(found) == course(expected)
    assert_same(undisturbed, resumed)
    assert len(list(tmp_path.glob("yours-*-yours-beta*.safetensors"))) == 1


KILLS_ITSELF = """
import os, signal, sys
sys.path.insert(0, "tests")
from small import run_of
from hvib.methods import METHODS, resuming
from hvib.methods.training import Training
from hvib.tasks import load
from hvib.train import fit
import torch
torch.set_num_threads(int(sys.argv[2]))
resuming.EVERY, weighted, count = 0.0, Training.weighted, 0
def step(*args):
    global count
    count += 1
    if count > 23:
        os.kill(os.getpid(), signal.SIGKILL)
    return weighted(*args)
Training.weighted = step
run = run_of("hyper-vib-ordered", epochs=4)
fit(METHODS.find(run.method).build(run), load("digits"), run, device="cpu", resume=sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_was_killed_goes_on_in_another(digits: Data, tmp_path: Path) -> None:
    threads = str(torch.get_num_threads())
    ended = subprocess.run(
        [sys.executable, "-c", KILLS_ITSELF, str(tmp_path), threads], cwd=PROJECT, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    run = run_of("hyper-vib-ordered", epochs=4)
    (file,) = tmp_path.iterdir()
    assert file == resuming.file_of(tmp_path, run)
    assert resuming._stored(file)[1]["steps"] == 2 * PER_EPOCH
    undisturbed, resumed = built(run), built(run)
    expected = fit(undisturbed, digits, run, device="cpu")
    assert course(fit(resumed, digits, run, device="cpu", resume=tmp_path)) == course(expected)
    assert_same(undisturbed, resumed)


@pytest.mark.parametrize("method", ["vib-warm", "hyper-vib-tuned"])
def test_systems_that_train_one_after_another_go_on(
    method: str, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(method, 1e-4, 1e-3, 1e-2, epochs=5)
    undisturbed, resumed = built(run), built(run)
    expected = fit(undisturbed, digits, run, device="cpu")
    file = tmp_path / "all.safetensors"
    killed(monkeypatch, 6 * PER_EPOCH + 2, built(run), digits, run, resume=file)
    parts = ["0.safetensors", "1.safetensors", "2.safetensors"]
    # The warm start has two epochs for the second β; the tuning has one for each.
    assert (
        sorted(path.name for path in (tmp_path / "all").iterdir()) == parts[: 2 + ("un" in method)]
    )
    found = fit(resumed, digits, run, device="cpu", resume=file)
    assert course(found) == course(expected)
    assert_same(undisturbed, resumed)
    assert fit(built(run), digits, run, device="cpu", resume=file) == found
    with pytest.raises(ValueError, match=r"all/0.safetensors': .* seed = 0 on file and 1 here"):
        fit(built(run), digits, replace(run, seed=1), device="cpu", resume=file)


def test_a_training_that_is_done_returns_what_it_returned(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("hyper-vib")
    one, other = built(run), built(run)
    found = fit(one, digits, run, device="cpu", resume=tmp_path)
    monkeypatch.delattr(Training, "weighted")  # not a step more
    assert fit(other, digits, run, device="cpu", resume=tmp_path) == found
    assert_same(one, other)
    assert not other.training
    assert fit(one, digits, run, device="cpu", resume=tmp_path) == found  # trained already


def test_a_model_that_a_finished_training_did_not_begin_with_is_told_of(
    digits: Data, tmp_path: Path
) -> None:
    run = run_of("vib", 1e-3, epochs=1)
    one, other = built(run), built(replace(run, seed=1))
    fit(one, digits, run, device="cpu", resume=tmp_path)
    with pytest.warns(UserWarning, match=r"it began with other weights .* a file of its own"):
        fit(other, digits, run, device="cpu", resume=tmp_path)
    assert_same(one, other)


def test_another_training_s_file_is_refused_with_what_differs(digits: Data, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    run = run_of("vib", 1e-3, epochs=1)
    fit(built(run), digits, run, device="cpu", resume=file)
    before = file.read_bytes()
    longer = replace(run, epochs=2, learning_rate=0.1)
    says = r"epochs = 1 on file and 2 here; learning_rate = 0\.002 on file and 0\.1 here\. Give"
    with pytest.raises(ValueError, match=rf"resume = '.*a.safetensors': .* another: {says}"):
        fit(built(run), digits, longer, device="cpu", resume=file)
    data = replace(digits, train=Split(digits.train.x.flip(0), digits.train.y))
    with pytest.raises(ValueError, match="another: the data have other values"):
        fit(built(run), data, run, device="cpu", resume=file)
    frozen = built(run)
    next(frozen.parameters()).requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"weight is \(\d+, 64\) .* on file and \(\d+, 64\) .*fixed"
    ):
        fit(frozen, digits, run, device="cpu", resume=file)
    with pytest.raises(ValueError, match="products = 'float32' on file and 'bfloat16' here"):
        fit(built(run), digits, replace(run, precision="bfloat16"), device="cpu", resume=file)
    settings: dict[str, Any] = {"betas": [1e-3], "epochs": 1, "device": "cpu"}
    fit(own(), digits, resume=tmp_path / "b.safetensors", **settings)
    with pytest.raises(ValueError, match=r"device.1.weight is \(32, 64\) .* \(16, 64\) .* more\)"):
        fit(own(width=16), digits, resume=tmp_path / "b.safetensors", **settings)
    more = own()
    more.device[4] = nn.Dropout(0.5)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"the model has '.*p=0\.2.*' on file and '.*p=0\.5"):
        fit(more, digits, resume=tmp_path / "b.safetensors", **settings)
    assert file.read_bytes() == before


def test_a_damaged_file_is_refused(digits: Data, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    run = run_of("vib", 1e-3, epochs=1)
    fit(built(run), digits, run, device="cpu", resume=file)
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (b"", whole[:middle], whole.replace(b"seed", b"sead", 1), flipped):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a.safetensors': damaged .*delete it, and training"):
            fit(built(run), digits, run, device="cpu", resume=file)
        assert file.read_bytes() == damaged
    save_file({"weight": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="it holds tensors, but not those of a training"):
        fit(built(run), digits, run, device="cpu", resume=file)


@pytest.mark.parametrize("resume", ["", True, 3, "a.pt", "taken"])
def test_what_is_no_file_for_it_is_refused(
    resume: Any, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("")
    run = run_of("vib", 1e-3)
    with pytest.raises(ValueError, match=r"resume = .*: give a folder, or a file that ends in"):
        fit(built(run), digits, run, device="cpu", resume=resume)
    assert [path.name for path in Path().iterdir()] == ["taken"]


def test_a_folder_that_cannot_be_written_costs_no_step(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.delattr(Training, "weighted")
    run = run_of("vib", 1e-3)
    with pytest.raises(OSError, match=r"resume = '.*': not filed \(.*what was filed before stays"):
        fit(built(run), digits, run, device="cpu", resume=tmp_path / "taken" / "a.safetensors")


def test_short_epochs_are_not_all_filed(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed = []
    monkeypatch.setattr(resuming, "_file", lambda path, tensors, told: filed.append(told["steps"]))
    run = run_of("vib", 1e-3)
    fit(built(run), digits, run, device="cpu", resume=tmp_path)
    assert filed == [step * PER_EPOCH for step in range(4)]
    filed.clear()
    monkeypatch.setattr(resuming, "EVERY", 3600.0)
    fit(built(run), digits, run, device="cpu", resume=tmp_path)
    assert filed == [0, 3 * PER_EPOCH]


def test_what_killed_processes_left_half_written_goes(digits: Data, tmp_path: Path) -> None:
    run = run_of("vib", 1e-3, epochs=1)
    file = resuming.file_of(tmp_path, run)
    for pid in (1, 2):
        file.with_name(f"{file.name}.{pid}.partial").write_text("")
    os.utime(file.with_name(f"{file.name}.1.partial"), (0, 0))
    fit(built(run), digits, run, device="cpu", resume=tmp_path)
    assert sorted(tmp_path.iterdir()) == [file, file.with_name(f"{file.name}.2.partial")]
