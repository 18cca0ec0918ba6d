"""The notebooks: committed executed, readable, and run whole with other parameters.

`pytest --nbval` checks the committed outputs; here each notebook runs through papermill in
profile `smoke`, training afresh.
"""

import ast
import shutil
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from conftest import needs_cifar10, needs_mnist

from hvib import ledger
from hvib.book.plan import page, plan, studies
from hvib.house.project import PROJECT
from hvib.run import Run
from hvib.tasks import TASKS

NOTEBOOKS = [PROJECT / "book" / "index.ipynb", *sorted((PROJECT / "notebooks").glob("*.ipynb"))]


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def parameter_cells(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]


EXPERIMENTS = [path for path in NOTEBOOKS if parameter_cells(path)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebook_is_committed_executed_in_order(path: Path) -> None:
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_every_figure_has_alt_text_a_caption_and_its_data(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    drawn = [
        c
        for c in cells
        if c.cell_type == "code" and any("image/png" in o.get("data", {}) for o in c.outputs)
    ]
    downloads = [c for c in cells if c.cell_type == "code" and "hvib-data" in str(c.outputs)]
    of_data = [c for c in drawn if "diagram" not in c.metadata.get("tags", [])]
    assert drawn or any("| --- |" in str(c.outputs) for c in cells if c.cell_type == "code")
    assert len(downloads) >= 1 if of_data else not downloads
    for cell in drawn:
        settings = cell.metadata["mystnb"]
        assert len(settings["image"]["alt"]) > 80
        assert len(settings["figure"]["caption"]) > 40
        assert r"\\" not in settings["figure"]["caption"]  # escaped twice: a formula in ruins
        assert settings["figure"]["name"].startswith("fig-")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_no_function_in_a_notebook_is_over_ten_lines(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno
                assert node.end_lineno - node.lineno < 10


@pytest.mark.parametrize("path", EXPERIMENTS, ids=names(EXPERIMENTS))
def test_parameters_are_the_documented_ones(path: Path) -> None:
    (source,) = parameter_cells(path)
    named = [t.id for n in ast.parse(source).body for t in n.targets]  # type: ignore[attr-defined]
    page = (PROJECT / "book" / "rerun.md").read_text()
    assert all(f"`{name}`" in page for name in named)
    assert all("#" in line for line in source.splitlines())


def execute(path: Path, out: Path, **parameters: Any) -> nbformat.NotebookNode:
    return papermill.execute_notebook(
        path, out / path.name, parameters=parameters, progress_bar=False, cwd=str(out)
    )


# A range as short as a reader may ask for, above the plateau that the pages speak of.
RANGE = {"beta_min": 0.1, "beta_max": 0.3}
SMOKE = {"profile": "smoke", "fresh": True, "seeds": "0,1", "snr_db": 10, **RANGE}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebook_runs_afresh_in_profile_smoke(path: Path, results: Path, tmp_path: Path) -> None:
    if path not in EXPERIMENTS:  # these read the ledger, if anything, and leave it as it is
        shutil.copytree(PROJECT / "results", results, dirs_exist_ok=True)
        before = sorted(results.rglob("*.json"))
        execute(path, tmp_path)
        assert sorted(results.rglob("*.json")) == before
        return
    named = path.stem.split("-", 1)[1]
    dataset = _dataset(named)
    execute(path, tmp_path, dataset=dataset, **SMOKE)
    found = {record.config for record in ledger.records()}
    assert {(run.task, run.profile, run.snr_db) for run in found} >= {
        (task, "smoke", 10) for task in dataset.split(",")
    }
    assert {run.seed for run in found} == {0, 1}
    if expected := _expected(named, dataset):
        assert found == set(expected)


RANGING = ("bluetooth", "wifi")


def _dataset(named: str) -> str:
    """What a page is run with: its own task, or the digits for want of files and of time."""
    if named == "ranging-studies":
        return ",".join(RANGING)
    if named == "devices-results":
        return "digits-halves"
    return named if named in TASKS.all() and _has_data(named) else "digits"


def _expected(named: str, dataset: str) -> list[Run]:
    """The runs that a task's page obtains; none for a page that is no task's."""
    settings: dict[str, Any] = {"seeds": (0, 1), "betas": tuple(RANGE.values()), "snr_db": 10}
    if named == "ranging-studies":
        return [run for task in RANGING for run in page(task, "smoke", **settings)]
    if named in RANGING:  # the other studies have the page of both links
        beside = studies(dataset, "smoke", **settings)
        return plan(dataset, "smoke", **settings) + beside["a sixth"] + beside["one run"]
    if named not in TASKS.all():
        return []
    # The digits' studies are those of MNIST, for which they stand in; CIFAR-10 has some of them.
    if named in (dataset, "mnist"):
        return page(dataset, "smoke", **settings)
    beside = studies(dataset, "smoke", **settings)
    shared = [run for name in ("one run", "steps", "twice") for run in beside[name]]
    return plan(dataset, "smoke", **settings) + shared


def _has_data(task: str) -> bool:
    needs = {"mnist": needs_mnist, "cifar10": needs_cifar10}.get(task)
    return needs is None or not needs.args[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"snr": 10}, "snr = 10: unknown parameter; choose among dataset, profile"),
        ({"beta_min": 3.0}, "beta_min = 3.0: the range is reversed"),
        ({"profile": "fast"}, "profile = 'fast': unknown"),
    ],
)
def test_a_wrong_parameter_stops_the_notebook_at_once(
    wrong: dict[str, Any], says: str, results: Path, tmp_path: Path
) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match=says):
        execute(EXPERIMENTS[0], tmp_path, **wrong)
    assert not list(results.rglob("*.json"))
