"""AdamW as all methods use it: which parameters decay, and one cycle of the learning rate."""

from typing import Any

import torch
from torch import Tensor

from hvib.run import Run
from hvib.system import Stacked, System, one_of


def parameter_groups(model: System | Stacked, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's two groups: matrices and filters decay, vectors do not.

    Vectors are biases, the weights of norms, and u and v of a gate. The matrix inside a `FreeGate`
    decays.
    """
    parameters = list(model.parameters())
    # A stack's parameters have one axis more, so it is one of its systems that tells.
    like = list(one_of(model).parameters())
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter, one in zip(parameters, like, strict=True):
        groups[one.dim() > 1].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def optimizer_of(
    model: System | Stacked, run: Run, count: int | None
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and one cycle of its learning rate over so many steps; a constant rate for None."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, run.weight_decay),
        lr=run.learning_rate,
        betas=(0.9, run.adam_memory),
        fused=True,  # one kernel for all parameters, also on a CPU
    )
    if count is None:
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        run.learning_rate,
        total_steps=max(count, 2),  # PyTorch divides by the number of steps less one
        pct_start=0.2 - 1e-9 * (count == 5),  # of 5 steps it would divide by a rise of length 0
        cycle_momentum=False,
    )
    return optimizer, schedule
