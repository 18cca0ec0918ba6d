"""What a method does for the weights besides its steps: it averages them, or keeps the best.

Two known remedies of a training's last weights, which are those of one noisy step:

- An exponential moving average of the weights over the steps (Polyak and Juditsky, 1992; in the
  form that deep learning uses, Tarvainen and Valpola, 2017).
- The weights of the epoch that is best on validation data (Prechelt, 1998).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hvib.check import require
from hvib.data import Data
from hvib.methods.registry import method_of
from hvib.run import Run
from hvib.system import Stacked, System

DRAWS = 2
"""Channel draws of the objective on validation; all epochs see the same noise."""


class Tending:
    """The averages of a training's weights, and the best weights until now.

    Args:
        model: what is trained.
        run: its method says what is averaged and kept.
        total: the steps of the training; None where nobody knows.
        data: as the training got them; None where there is no validation split.

    Raises:
        ValueError: the method keeps the best epoch and there is no validation split, or it
            averages and the number of steps is not known.
    """

    def __init__(
        self, model: System | Stacked, run: Run, total: int | None, data: Data | None
    ) -> None:
        self.model, self.run, self.method = model, run, method_of(run)
        if self.method.keeps_best:
            alone = data is None or data.validation is data.train
            mend = "it keeps the epoch that is best on validation data: give Data with such a split"
            require(not alone, "method", run.method, mend)
            assert data is not None  # for mypy
            self._validation = data.limited(run.limit).validation
        self._memory = 0.0
        if self.method.average:
            mend = "it averages over a share of the steps: give mini-batches that have a length"
            require(total is not None, "method", run.method, mend)
            assert total is not None  # for mypy
            # The mean age of what an exponential average with this factor holds is `steps`.
            steps = self.method.average * total
            self._memory = steps / (steps + 1)
        self.count = 0
        """steps that are in the averages"""
        self.averages: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.least = math.nan
        """the objective of the best weights on validation"""

    @torch.no_grad()
    def step(self) -> None:
        """Take a step's weights into the averages.

        The weights of the steps add up to one from the first step on, so that the start at
        random has no share. Buffers, as a norm's running statistics, are averaged too.
        """
        if not self._memory:
            return
        self.count += 1
        share = (1 - self._memory) / (1 - self._memory**self.count)
        now = _reals(self.model)
        if not self.averages:
            self.averages = {name: value.detach().clone() for name, value in now.items()}
        torch._foreach_lerp_(
            list(self.averages.values()), [now[name].detach() for name in self.averages], share
        )

    def end_epoch(self, *, last: bool) -> None:
        """Keep the weights if none were better; at the very end give the model what it ends with.

        What is compared are the averages where there are some, else the weights themselves.
        """
        if self.method.keeps_best:
            with self._averaged():
                objective = self._objective()
                if math.isnan(self.least) or objective < self.least:
                    self.least, self.best = objective, _copy(_reals(self.model))
        if last:
            _load(self.model, self.best or self.averages)

    def _objective(self) -> float:
        from hvib.evaluation import evaluate  # here: it is made of the loop that calls this

        (row,) = evaluate(self.model, self._validation, self.run.betas, draws=DRAWS)
        return float(row["objective"])

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the averages for weights, if there are any."""
        own = _copy(_reals(self.model)) if self.averages else {}
        _load(self.model, self.averages)
        try:
            yield
        finally:
            _load(self.model, own)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint files of it."""
        kinds = {"average": self.averages, "best": self.best}
        return {f"{kind}/{name}": v for kind, held in kinds.items() for name, v in held.items()}

    def told(self) -> dict[str, Any]:
        """The numbers that a checkpoint files of it."""
        return {"count": self.count, "least": self.least}

    def restore(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take over what a checkpoint filed."""
        where = next(self.model.parameters()).device
        self.count, self.least = told["count"], told["least"]
        for kind, held in (("average/", self.averages), ("best/", self.best)):
            found = {name: v for name, v in tensors.items() if name.startswith(kind)}
            held |= {name.removeprefix(kind): value.to(where) for name, value in found.items()}


def _reals(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers but for integers, as the count of a norm's batches."""
    both = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value for name, value in both.items() if value.is_floating_point()}


def _copy(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


@torch.no_grad()
def _load(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    own = _reals(model)
    for name, value in values.items():
        own[name].copy_(value)
