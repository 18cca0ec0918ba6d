"""Shared by all tests: a ledger of their own, real data where there is some, the built book."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
import yaml
from hypothesis import settings
from IPython.display import Markdown
from made_up import BETAS, fake, vib
from xdist.scheduler import LoadScopeScheduling

from hvib.book.curves import Curve, Key, collect
from hvib.data import Data
from hvib.house.project import PROJECT
from hvib.methods import METHODS, Method
from hvib.tasks import TASKS, Task, load
from hvib.tasks.images import data_root

# No test is timed, and a failure found once is found again.
settings.register_profile("hvib", deadline=None, derandomize=True)
settings.load_profile("hvib")


class _Together(LoadScopeScheduling):
    """Tests go to whichever worker is free; what shares a kernel or the built book, to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        if file in ("tests/test_book.py", "tests/test_browser.py"):
            return "book"
        return nodeid if file.startswith("tests/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains a whole notebook comes first, so that the workers end together."""
    items.sort(key=lambda item: "in_profile_smoke" not in item.name)


def lines(table: Markdown) -> list[str]:
    """A table's head and rows."""
    head, _, *rows = (table.data or "").splitlines()
    return [head, *rows]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger in place of the project's."""
    monkeypatch.setenv("HVIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


Register = Callable[[Task | Method], None]


@pytest.fixture
def register() -> Iterator[Register]:
    """Makes a task or a method known, in place of another of its name, until the test ends."""
    added = set()

    def add(value: Task | Method) -> None:
        registry = TASKS if isinstance(value, Task) else METHODS
        registry.register(value)  # type: ignore[arg-type]  # each value in its own
        added.add((registry, value.name))

    yield add
    for registry, name in added:
        registry.forget(name)


@pytest.fixture
def curves() -> Iterator[dict[Key, list[Curve]]]:
    """Made-up curves of VIB and of Hyper-VIB on MNIST, three seeds each."""
    records = [fake("vib", s, vib, betas=(b,)) for s in range(3) for b in BETAS]
    records += [fake("hyper-vib", s, lambda b, s=s: 0.98 - s / 1e3) for s in range(3)]  # type: ignore[misc]
    yield collect(records)
    plt.close("all")


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


needs_mnist = pytest.mark.skipif(
    not (data_root() / "MNIST" / "raw").is_dir(),
    reason=f"no MNIST under {data_root()}: set HVIB_DATA to train on it here",
)


needs_cifar10 = pytest.mark.skipif(
    not (data_root() / "cifar-10-batches-py").is_dir(),
    reason=f"no CIFAR-10 under {data_root()}: set HVIB_DATA to train on it here",
)


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book as HTML, built strictly from the committed outputs, none executed."""
    out = tmp_path_factory.mktemp("book")
    config = yaml.safe_load((PROJECT / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    (out / "config.yml").write_text(yaml.safe_dump(config))
    program = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
    assert program, "jupyter-book is not installed beside this Python"
    build = subprocess.run(
        [
            *(program, "build", str(PROJECT), "-W", "-n", "--keep-going", "--all"),
            *("--config", str(out / "config.yml"), "--path-output", str(out)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert build.returncode == 0, build.stdout[-4000:] + build.stderr[-4000:]
    return out / "_build" / "html"
