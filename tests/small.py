"""Small runs on the digits, in float32."""

from typing import Any

from hvib.data import Data
from hvib.methods import METHODS
from hvib.run import Run
from hvib.system import Stacked, System
from hvib.tasks import make_run
from hvib.train import fit


def run_of(method: str, *betas: float, **settings: Any) -> Run:
    settings = {"precision": "float32", "epochs": 3, **settings}
    return make_run("digits", method, "smoke", betas=betas or None, **settings)


def trained(run: Run, data: Data) -> System | Stacked:
    model = METHODS.find(run.method).build(run)
    fit(model, data, run, device="cpu")
    return model
