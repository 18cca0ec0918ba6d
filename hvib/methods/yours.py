"""The settings of a training of your own, for which no task and no profile has any."""

from typing import Any

from torch import nn

from hvib.check import require
from hvib.data import Data
from hvib.hyper import Gate
from hvib.methods.belonging import made_for, method_name
from hvib.run import Run, beta_grid
from hvib.system import System


def run_of(model: nn.Module, data: Data | None, epochs: int | None, **settings: Any) -> Run:
    """The run that trains a system of yours: what the system says, and the defaults of `Run`.

    A gated system says its method and its range of β; a plain one is trained by `vib` and needs
    `betas=[β]`. Features and SNR are the system's. A mini-batch has 512 examples, or as many as
    there are.

    Args:
        data: None where mini-batches are made elsewhere.
        epochs: how often training passes over the data.
        settings: fields of `Run`, where they differ.

    Raises:
        ValueError: `epochs` is missing, or `betas` of a plain system are; or as `Run`.
        TypeError: a setting is no field of `Run`.
    """
    require(isinstance(model, System), "model", type(model).__name__, "give a System")
    assert isinstance(model, System)  # for mypy
    mend = "say how often training passes over the data, as epochs=20, or give a Run"
    require(epochs is not None, "epochs", epochs, mend)
    assert epochs is not None
    known, name = made_for(model), method_name(model)
    examples = len(data.train) if data else Run.batch_size
    gated = any(isinstance(module, Gate) for module in model.modules())
    if not name:
        mend = "the model does not say: gate it by hyperize(model, method=…, betas=…), or give it"
        require(not gated or "method" in settings, "method", None, mend)
        mend = "a plain system is trained for one β: give it, as betas=[1e-3]"
        require(gated or "betas" in settings, "betas", None, mend)
    defaults: dict[str, Any] = {
        "task": "yours",
        "profile": "yours",
        "method": name or "vib",
        "seed": 0,
        "betas": beta_grid(*known.betas) if known and known.betas else beta_grid(),
        "features": model.features,
        "snr_db": getattr(model.channel, "snr_db", Run.snr_db),
        "batch_size": _batch_size(examples, settings.get("shares", Run.shares)),
    }
    return Run(epochs=epochs, **(defaults | settings))


def _batch_size(examples: int, shares: int) -> int:
    """512, or as many examples as there are; a multiple of the shares of a mini-batch."""
    most = min(Run.batch_size, examples)
    return max(most - most % shares, 1)
