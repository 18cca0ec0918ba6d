"""The house keeps its shape: sizes, directions of imports, and what each import costs."""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import hvib
from hvib import ledger
from hvib.house.project import PROJECT

PACKAGE = PROJECT / "hvib"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted(PACKAGE.glob("*.py"))
ROOMS = (
    *("tasks", "methods", "ledger", "ranging", "theory", "layers", "checks", "distortions"),
    *("gates", "channels", "devices", "separation", "serving", "house", "book"),
)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_core_is_thin() -> None:
    assert sum(map(lines, CORE)) <= 1_700
    assert max(map(lines, CORE)) <= 350


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    assert lines(path) <= 400
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < 60, node.name


def imported(path: Path) -> set[str]:
    """The modules of the package that a file names in its imports, without `hvib.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hvib"):
            inside = node.module.removeprefix("hvib").removeprefix(".")
            found |= {f"{inside}.{a.name}".strip(".") for a in node.names}
    return found


# What the core takes from a room all the same.
EXCEPTIONS = {
    *((file, "methods") for file in ("hyper", "train", "evaluation")),  # methods, by their name
    *((file, "checks") for file in ("channel", "data", "evaluation", "hyper", "system", "train")),
    *((file, "distortions") for file in ("evaluation", "objective", "system", "train")),
    ("hyper", "layers"),  # which layers of a model take a gate
    ("__main__", "book"),  # the command line is the book's
    # for the public names
    *(("__init__", room) for room in ("gates", "layers", "methods", "tasks")),
}

# Which room may import which; all may import the core.
BELOW = {
    "tasks": {"ranging", "channels", "devices", "distortions"},
    "methods": {"tasks", "checks", "devices", "distortions", "gates"},
    "ledger": {"tasks", "methods", "devices"},
    "ranging": {"checks"},
    "theory": set(),
    "gates": {"checks"},
    "channels": {"checks"},
    "devices": {"checks", "gates"},
    "house": set(),
    "separation": {"tasks", "checks", "channels", "ledger"},
    "serving": {"tasks", "checks", "ledger"},
    "layers": set(),
    "checks": set(),
    "distortions": {"checks"},
    "book": set(ROOMS) - {"book"},
}


def test_rooms_import_the_core_and_the_core_no_room() -> None:
    for path in CORE:
        used = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
        assert {(path.stem, room) for room in used} <= EXCEPTIONS, path.stem
    for room, below in BELOW.items():
        for path in (PACKAGE / room).rglob("*.py"):
            used = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
            assert used <= below | {room, "house"}, path


HEAVY = {
    *("IPython", "matplotlib", "myst_nb", "optuna", "pandas", "scipy", "sklearn", "sympy"),
    *("threadpoolctl", "torchvision", "tyro"),
    *(f"hvib.{room}" for room in ("book", "ledger", "ranging", "separation", "theory")),
}


def run_python(code: str, where: Path, **variables: str) -> str:
    """What a Python of its own prints, started in a folder."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=where,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_loads_torch_and_little_else(tmp_path: Path) -> None:
    loaded = run_python("import hvib, sys; print(*sys.modules)", tmp_path).split()
    assert not HEAVY & set(loaded)


def test_the_installed_package_gates_a_model_outside_the_checkout(tmp_path: Path) -> None:
    site, source = tmp_path / "site", tmp_path / "source"
    shutil.copytree(PACKAGE, source / "hvib")  # pip builds in the folder that it installs from
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*install, str(source)], check=True, cwd=tmp_path, capture_output=True)
    code = (
        "import hvib, torch\n"
        "from hvib.methods import METHODS\n"
        "from hvib.tasks import TASKS\n"
        "import hvib.book.figures, hvib.book.commands, hvib.theory.linear_systems\n"
        "model = torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
        "hyper = hvib.hyperize(model)\n"
        "with hvib.at(0.1):\n"
        "    y = hyper(torch.ones(1, 3))\n"
        "torch.testing.assert_close(hvib.fold(hyper, 0.1)(torch.ones(1, 3)), y)\n"
        "print(hvib.__file__, len(TASKS.all()), len(METHODS.all()))\n"
    )
    file, tasks, methods = run_python(code, tmp_path, PYTHONPATH=str(site)).split()
    assert Path(file).is_relative_to(site)
    assert int(tasks) >= 8
    assert int(methods) >= 23
    _check_that_files_lie_where_it_is_started(tmp_path / "empty", site)


def _check_that_files_lie_where_it_is_started(empty: Path, site: Path) -> None:
    empty.mkdir()
    before = sorted(site.rglob("*.*"))
    code = (
        "from dataclasses import replace\n"
        "from hvib import ledger, make_run\n"
        "from hvib.tasks import TASKS\n"
        "from hvib.tasks.images import data_root\n"
        "TASKS.register(replace(TASKS.find('digits'), name='mine'))\n"
        "runs = [make_run('mine', 'vib', 'smoke', betas=(b,), limit=128) for b in (0.1, 1)]\n"
        "assert ledger.execute(runs[0]).commit is None\n"
        "ledger.sweep(runs, progress=False)\n"
        "print(data_root())\n"
    )
    clean = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    for relative, folder in (("", "results"), ("kept", "kept")):
        printed = run_python(code, empty, HVIB_RESULTS=relative, HVIB_DATA="", **clean)
        assert Path(printed.strip()) == empty / "data"
        assert len(list((empty / folder / "mine" / "vib").glob("*.json"))) == 2
    assert sorted(path.name for path in empty.iterdir()) == ["kept", "results"]
    assert [path for path in sorted(site.rglob("*.*")) if path not in before] == []


def test_matplotlib_says_nothing_where_its_folders_cannot_be_written(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from hvib.book import writable\n"
        "writable.prepare()\n"
        "kernel = [sys.executable, '-c', 'import matplotlib.pyplot']\n"
        "said = subprocess.run(kernel, capture_output=True, text=True)\n"
        "print(said.stderr, said.returncode)\n"
    )
    places = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in places}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**env, "HOME": "/proc/none"},
        capture_output=True,
        text=True,
    )
    assert (result.stdout.split(), result.stderr) == (["0"], "")


def test_every_record_lies_where_its_config_says() -> None:
    paths = sorted(ledger.root().glob("*/*/*.json"))
    assert len(paths) > 1_000
    assert [ledger.path_of(ledger.read(path).config) for path in paths] == paths


ROLES = re.compile(r"\{py:(\w+)\}`(?:[^`<]*<)?([\w.]+)>?`")


def pages() -> list[Path]:
    return [*PROJECT.glob("book/*.md"), *PROJECT.glob("book/*.ipynb"), *PROJECT.glob("notebooks/*")]


def prose(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    captions = [c.metadata.get("mystnb", {}).get("figure", {}).get("caption", "") for c in cells]
    return "\n".join([c.source for c in cells if c.cell_type == "markdown"] + captions)


def resolved(target: str) -> object:
    """The object of a dotted name: the longest module in it, then attributes."""
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise AttributeError(target)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_what_the_prose_names_of_the_package_exists(path: Path) -> None:
    for kind, target in ROLES.findall(prose(path)):
        assert target.startswith("hvib"), target
        found = resolved(target)
        assert (kind == "class") == inspect.isclass(found) or kind == "exc", target
        assert (kind == "func") == inspect.isfunction(found), target


@pytest.mark.parametrize("name", hvib.__all__)
def test_a_public_name_has_a_signature_and_an_example_in_the_reference(name: str) -> None:
    assert (getattr(hvib, name).__doc__ or "").strip()
    reference = (PROJECT / "book" / "reference.md").read_text()
    assert re.search(rf"^\.\. auto(function|class):: hvib\.\w+(\.\w+)*\.{name}$", reference, re.M)
    assert f"hvib.{name}" in "".join(re.findall(r"```python.*?```", reference, re.S))
