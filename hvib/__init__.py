"""Hyper-VIB: one training run of the variational information bottleneck for every β."""

import hvib.ablation  # its methods join by name
import hvib.ranging  # noqa: F401  # its simulated tasks join by name
from hvib.channel import AWGN
from hvib.config import Run, beta_grid, make_run, plan
from hvib.data import Data, Split
from hvib.hyper import at, fold, hyperize, opened
from hvib.models import System
from hvib.train import evaluate, fit

__all__ = [
    "AWGN",
    "Data",
    "Run",
    "Split",
    "System",
    "at",
    "beta_grid",
    "evaluate",
    "fit",
    "fold",
    "hyperize",
    "make_run",
    "opened",
    "plan",
]
