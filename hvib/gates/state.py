"""Gates that read the state of the channel beside β: the paper's gate and the ordered one's.

A gate's t is the SNR in dB `told` over its range, −1 to 1, clamped a little beyond. An end of the
link whose gates do not read it does not know the state.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import snr_db_now
from hvib.check import require
from hvib.checks.numbers import decibels
from hvib.gates.closing import FreeGate, Opening, standardised
from hvib.hyper import Gate

SNRS = (-5.0, 25.0)
"""The range of SNR in dB that gates are made for unless told another."""

BEYOND = 1.5
"""The largest t. Fading meets an SNR far below the range now and then, of which no gate has seen
enough to follow it."""


def range_of(snrs: tuple[float, float]) -> tuple[float, float]:
    """The two ends of a range of SNR in dB.

    Raises:
        ValueError: they are not two finite numbers, the lower one first.
    """
    ends = decibels("snrs", snrs).tolist()
    mend = "give the ends of the range in dB, low < high, as (-5.0, 25.0)"
    require(len(ends) == 2 and ends[0] < ends[1], "snrs", snrs, mend)
    return ends[0], ends[1]


def told(log_beta: Float[Tensor, " M"], snrs: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Log β and t, one for each β or one for each example: (K,) and (K, 1).

    Raises:
        RuntimeError: no SNR is set, or the pass is that of a checkpoint inside a backward pass,
            which an example's own SNR does not reach.
        ValueError: the numbers of β and of SNR do not go together.
    """
    snr = snr_db_now.get()
    if snr is None:
        mend = "call it inside `with at(beta, snr_db=…)`, or in a System whose channel has an SNR"
        raise RuntimeError(f"no SNR is set, and the gates read it: {mend}")
    if torch._C._current_graph_task_id() != -1:
        mend = "train it without activation checkpoints"
        raise RuntimeError(f"gates that read the SNR ran inside a backward pass: {mend}")
    count, shares = max(len(snr), len(log_beta)), len(log_beta)
    mend = f"give one SNR, one for each of {shares} β, or one for each example"
    require(count % len(snr) == 0 and count % shares == 0, "number of snr_db", len(snr), mend)
    # A share has its examples one after the other, and so has each of several SNR.
    log_beta = log_beta.repeat_interleave(count // shares)
    snr = snr.to(log_beta).repeat_interleave(count // len(snr))
    low, high = snrs
    t = (snr - (low + high) / 2) / ((high - low) / 2)
    return log_beta, t.clamp(-BEYOND, BEYOND)[:, None]


class StateGate(Gate):
    """s(β, SNR) = S(u log β + w t + v): the paper's gate (12), and m parameters more.

    Where w = 0 it is the paper's. w starts as u does, so that it starts nearly flat.

    Args:
        size: m.
        snrs: the ends of the range of SNR in dB.
    """

    needs_snr = True

    def __init__(self, size: int, snrs: tuple[float, float] = SNRS) -> None:
        super().__init__(size)
        self.snrs = range_of(snrs)
        self.w = nn.Parameter(torch.empty(size).uniform_(-0.1, 0.1))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "K m"]:
        log_beta, t = told(log_beta.to(self.u), self.snrs)
        return torch.sigmoid(torch.addcmul(self.v + self.w * t, log_beta[:, None], self.u))


class FreeStateGate(FreeGate):
    """`FreeGate` of both: (a, b) = A tanh(u t_β + w t + v) + c, with t_β the standardised log β.

    Args:
        size: m.
        betas: the ends of the range of β.
        hidden: units of the small network.
        snrs: the ends of the range of SNR in dB.
    """

    needs_snr = True

    def __init__(
        self,
        size: int,
        betas: tuple[float, float],
        hidden: int = 16,
        snrs: tuple[float, float] = SNRS,
    ) -> None:
        super().__init__(size, betas, hidden)
        self.snrs = range_of(snrs)
        self.w = nn.Parameter(torch.randn_like(self.u))

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        log_beta, t = told(log_beta.to(self.u), self.snrs)
        return self.of(standardised(log_beta, self.betas) * self.u + self.w * t)


class StateOpening(Opening):
    """`Opening` whose features close at a β that depends on the SNR: c_j + d_j t for c_j.

    d starts at 0.

    Args:
        size, betas, copies: as of `Opening`.
        snrs: the ends of the range of SNR in dB.
    """

    needs_snr = True

    def __init__(
        self,
        size: int,
        betas: tuple[float, float],
        copies: int = 1,
        snrs: tuple[float, float] = SNRS,
    ) -> None:
        super().__init__(size, betas, copies)
        self.snrs = range_of(snrs)
        self.d = nn.Parameter(torch.zeros(size))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "K m"]:
        log_beta, t = told(log_beta.to(self.c), self.snrs)
        return self.at(standardised(log_beta, self.betas), self.d * t)
