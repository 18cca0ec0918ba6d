"""A task and a method of a reader's own: one value each, and everything serves them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure

import hvib
from hvib import ledger
from hvib.book import figures
from hvib.book.commands import main
from hvib.book.curves import VIB, Key, collect, label_of
from hvib.book.plan import page, plan
from hvib.book.verdicts import judge
from hvib.data import Data, Split
from hvib.hyper import Gate
from hvib.methods import Method, Style
from hvib.methods.hyper_vib import gated
from hvib.run import Run
from hvib.tasks import Metric, Task


def line() -> Data:
    """Examples x ~ N(0, I) in four dimensions, and y the sum of its components."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 4, generator=generator)
    cuts = slice(0, 400), slice(400, 500), slice(500, 600)
    return Data(*(Split(x[cut], x[cut].sum(1, keepdim=True)) for cut in cuts))


def line_system(run: Run) -> hvib.System:
    device, network = hvib.mlp([4, 16, 2 * run.features]), hvib.mlp([run.features, 16, 1])
    return hvib.System(device, network, hvib.AWGN(run.snr_db), run.features)


class Halved(Gate):
    """The paper's gate at half its strength."""

    def forward(self, log_beta: torch.Tensor) -> torch.Tensor:
        return super().forward(log_beta) / 2


METHOD = gated("halved", "Halved gates", Halved, style=Style("#123456", "h"))
TASK = Task(
    name="line",
    label="A line",
    metric=Metric("MSE", "units²", 1, 3, higher_is_better=False),
    load=line,
    networks={"": line_system},
    profiles={"quick": {"features": 4, "epochs": 4, "batch_size": 40, "draws": 2}},
    methods=("hyper-vib", "halved"),
)


@pytest.fixture
def yours(register: Callable[[Task | Method], None], results: Any) -> None:
    register(TASK)
    register(METHOD)


def test_the_command_line_sweeps_and_verifies_them(
    yours: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line_of = ["--task", "line", "--profile", "quick", "--beta-min", "0.01", "--beta-max", "0.1"]
    main(["sweep", *line_of])
    runs = page("line", "quick", betas=hvib.beta_grid(0.01, 0.1))
    assert {record.config for record in ledger.records()} == set(runs)
    assert {run.method for run in runs} == {"vib", "hyper-vib", "halved"}
    capsys.readouterr()
    main(["verify", "--task", "line", "--method", "halved"])
    assert "agrees" in capsys.readouterr().out


def test_the_page_of_curves_draws_and_judges_them(yours: None) -> None:
    grid = hvib.beta_grid(0.01, 0.1)
    curves = collect(ledger.sweep(plan("line", "quick", betas=grid, seeds=(0, 1))))
    mine = Key("halved")
    assert set(curves) == {VIB, Key("hyper-vib"), Key("hyper-vib", 2), mine, Key("halved", 2)}
    assert label_of(mine) == "Halved gates"
    figure = figures.metric_over_beta({VIB: curves[VIB], mine: curves[mine]})
    assert isinstance(figure, Figure)
    assert "#123456" in {drawn.get_color() for drawn in figure.axes[0].lines}
    assert "units²" in figure.axes[0].get_ylabel()
    told = figures.cost_table(curves)
    assert isinstance(told, Markdown)
    assert "Halved gates, 2× epochs" in told.data
    verdicts = judge(curves, mine)
    assert verdicts["rivals"].number == 3
    assert "Halved gates" in figures.verdict_table(verdicts).data
