"""Gates for several devices: of its own β in each device, of all β in the network."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hvib.check import require
from hvib.devices.composite import Devices
from hvib.gates.closing import FreeGate, Opened, Opening
from hvib.gates.joint import JointFreeGate, JointGate, JointOpening
from hvib.hyper import Gate, Gated, hyperize
from hvib.system import System


def joined(
    system: System,
    betas: tuple[float, float],
    seed: int = 0,
    example: Tensor | tuple[Any, ...] | None = None,
    *,
    ordered: bool = False,
    everywhere: bool = False,
) -> System:
    """A copy of a plain system of several devices, gated for every (β_1, …, β_J).

    Args:
        system: its device is `Devices`.
        betas: the ends of the range of each β.
        seed, example: as of `hyperize`.
        ordered: gates without bounds, and openings, as `hyper-vib-ordered` has them.
        everywhere: the gates of each device read the β of all devices too. The best code of one
            depends on what the others send, but to know their β takes a link to them.

    Raises:
        ValueError: it is no system of several devices, or as `hyperize`.
    """
    several = isinstance(system, System) and isinstance(system.device, Devices)
    mend = "give a System whose device is hvib.devices.Devices([…], view, blocks)"
    require(several, "system", type(system).__name__, mend)
    gate: Any = partial(FreeGate, betas=betas) if ordered else Gate
    made = hyperize(system, seed, gate, example=example)
    device = made.device
    assert isinstance(device, Devices)  # for mypy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        for module in (made if everywhere else made.network).modules():
            if isinstance(module, Gated):
                module.gate = _for_all(module.gate, len(device.blocks))
    if ordered:
        like = next(made.parameters())
        for j, (own, block) in enumerate(zip(device.each, device.blocks, strict=True)):
            opening = Gated(nn.Identity(), Opening(block, betas, 2).to(like), -1)
            device.each[j] = Opened(own, opening, block)
        behind = Gated(nn.Identity(), JointOpening(device.blocks, betas).to(like), -1)
        made.network = nn.Sequential(behind, made.network)
    for j, own in enumerate(device.each):
        for module in own.modules():
            if isinstance(module, Gated) and not module.gate.joint:
                module.device = j
    return made


def _for_all(gate: Gate, devices: int) -> Gate:
    """The gate of all devices' β in place of a gate of one β."""
    if isinstance(gate, FreeGate):
        joint: Gate = JointFreeGate(gate.out.out_features // 2, gate.betas, devices)
    else:
        joint = JointGate(len(gate.v), devices)
    return joint.to(gate.v.device, gate.v.dtype)
