"""Hyper-VIB: one training run of the variational information bottleneck for every β."""

from hvib.channel import AWGN, Channel, Received
from hvib.data import Data, Split
from hvib.evaluation import evaluate, predict
from hvib.gates.closing import FreeGate, Opening, opened
from hvib.hyper import Gate, at, fold, hyperize
from hvib.layers.conditioned import Conditioned
from hvib.methods.training import training_of
from hvib.run import Run, beta_grid
from hvib.system import Stacked, System, mlp
from hvib.tasks import make_run
from hvib.train import fit

__all__ = [
    "AWGN",
    "Channel",
    "Conditioned",
    "Data",
    "FreeGate",
    "Gate",
    "Opening",
    "Received",
    "Run",
    "Split",
    "Stacked",
    "System",
    "at",
    "beta_grid",
    "evaluate",
    "fit",
    "fold",
    "hyperize",
    "make_run",
    "mlp",
    "opened",
    "predict",
    "training_of",
]
