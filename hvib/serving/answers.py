"""Answers of a gated system: a β and an SNR for each request, in one batch or from a cache."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hvib.channel import Channel
from hvib.check import require
from hvib.checks import numbers
from hvib.hyper import Gate, at, fold
from hvib.system import Output, System, draw_noise

Values = float | Sequence[float] | Float[np.ndarray, " N"] | Float[Tensor, " N"]
"""one for all requests, or one for each"""


class Answers(NamedTuple):
    """What comes back for N requests."""

    prediction: Float[Tensor, "N k"]
    """ŷ: logits, or real targets"""
    bits: Float[Tensor, " N"]
    """the rate of each inference"""


class Statistics(NamedTuple):
    """How a cache has done so far."""

    hits: int
    """systems asked for that it had"""
    misses: int
    """those that it had to fold"""
    held: int
    """systems in it now"""


@torch.no_grad()
def infer(
    system: System,
    x: Shaped[Tensor, "N *shape"],
    beta: Values,
    snr_db: Values | None,
    generator: torch.Generator,
) -> Answers:
    """Answer N requests in one batch, each at a β and an SNR of its own.

    Args:
        system: gated, in `eval` mode.
        x: an example a request.
        beta: one for all, or one for each request.
        snr_db: in dB: one for all, one for each request, or None for the channel's own.
        generator: draws the noise of encoder and channel, on the system's device.

    Raises:
        ValueError: the system is in the mode of training, β or SNR are no numbers, or not as many
            as requests.
    """
    betas, snrs = _checked(system, x, beta, snr_db)
    noise = _noise(system, len(x), generator)
    with at(betas.expand(len(x)), snr_db=snrs):
        return _answers(system(x[:, None], noise))  # N shares of one example


class Folded:
    """A gated system for traffic in which few pairs of β and SNR recur: each is folded once.

    The systems used last are kept. Several threads may ask at a time. Where the gates do not read
    the SNR, one system serves a β at every SNR.

    What it folds is the system as it then is: after more training, make another.

    Args:
        system: gated, in `eval` mode.
        size: how many folded systems are kept; each has the plain system's parameters.

    Raises:
        ValueError: the size is no whole number of at least 1, the system is in the mode of
            training, or its gates follow a channel that fades from example to example, so that no
            fold equals it.
    """

    def __init__(self, system: System, size: int = 16) -> None:
        _require_eval(system)
        self.system = system
        self._reads_snr = any(getattr(m, "needs_snr", False) for m in system.modules())
        steady = not self._reads_snr or _is_steady(system.channel)
        mend = "its gates read another SNR for each example: answer with `infer`"
        require(steady, "channel", type(system.channel).__name__, mend)
        self._folded = functools.lru_cache(numbers.count("size", size))(self._fold)

    def _fold(self, beta: float, snr_db: float | None) -> System:
        return fold(self.system, beta, snr_db).eval()

    def at(self, beta: float, snr_db: float | None = None) -> System:
        """The plain system at one β and one SNR in dB, None for the channel's own; from the cache.

        Its channel takes the SNR from `hvib.at` as ever.

        Raises:
            ValueError: β is not one number, finite and positive, or the SNR is not one finite
                number.
        """
        betas = numbers.betas("beta", beta)  # rounded as gates see it, so that equal ones meet
        require(len(betas) == 1, "beta", beta, "give one β")
        if snr_db is None:
            snr_db = getattr(self.system.channel, "snr_db", None)
        told = None if snr_db is None or not self._reads_snr else numbers.decibels("snr_db", snr_db)
        require(told is None or len(told) == 1, "snr_db", snr_db, "give one SNR")
        return self._folded(float(betas), None if told is None else float(told))

    @torch.no_grad()
    def infer(
        self,
        x: Shaped[Tensor, "N *shape"],
        beta: Values,
        snr_db: Values | None,
        generator: torch.Generator,
    ) -> Answers:
        """Answer N requests as `hvib.serving.infer` does, with the same noise; equal to rounding.

        Requests that share a folded system pass in one batch.

        Raises:
            ValueError: as there.
        """
        betas, snrs = _checked(self.system, x, beta, snr_db)
        noise = _noise(self.system, len(x), generator)
        betas = betas.expand(len(x))
        keys = betas[:, None]
        if self._reads_snr and snrs is not None:
            keys = torch.stack([betas, snrs.expand(len(x))], 1)
        pairs, group = torch.unique(keys, dim=0, return_inverse=True)
        order: list[Tensor] = []
        parts: list[Answers] = []
        for g, pair in enumerate(pairs.tolist()):
            members = (group == g).nonzero().flatten()
            model = self.at(*pair)
            told = snrs if snrs is None or len(snrs) == 1 else snrs[members]
            where = members.to(x.device)
            with at(pair[0], snr_db=told):
                output = model(x[where][None], noise[:, where, 0][:, None])  # one share
            order.append(where)
            parts.append(_answers(output))
        back = torch.cat(order).argsort()  # to the order of the requests
        return Answers(*(torch.cat(each)[back] for each in zip(*parts, strict=True)))

    @property
    def statistics(self) -> Statistics:
        """Hits, misses and systems held."""
        told = self._folded.cache_info()
        return Statistics(told.hits, told.misses, told.currsize)


def _require_eval(system: System) -> None:
    require(isinstance(system, System), "system", type(system).__name__, "give a System")
    gated = any(isinstance(m, Gate) for m in system.modules())
    require(gated, "system", type(system).__name__, "hyperize it first; this one has no gates")
    # In the mode of training requests would share a norm's statistics, or lose features by chance.
    require(not system.training, "system", "in the mode of training", "call system.eval() first")


def _checked(
    system: System, x: Tensor, beta: Values, snr_db: Values | None
) -> tuple[Float[Tensor, " #N"], Float[Tensor, " #N"] | None]:
    """β and SNR as vectors of one number, or of one for each request."""
    _require_eval(system)
    require(len(x) > 0, "number of requests", 0, "give at least one example")
    betas = numbers.betas("beta", beta).cpu()
    snrs = None if snr_db is None else numbers.decibels("snr_db", snr_db).cpu()
    for name, values in (("beta", betas), ("snr_db", snrs)):
        mend = f"give one, or one for each of {len(x)} requests"
        right = values is None or len(values) in (1, len(x))
        require(right, f"number of {name}", None if values is None else len(values), mend)
    return betas, snrs


def _noise(system: System, count: int, generator: torch.Generator) -> Float[Tensor, "2 N 1 c"]:
    return draw_noise(count, 1, system.chances, generator)


def _answers(output: Output) -> Answers:
    rate = output.rates.flatten(0, 1).sum(-1) / math.log(2)
    return Answers(output.prediction.flatten(0, 1), rate)


def _is_steady(channel: Channel) -> bool:
    """Whether every example meets the SNR that is set, whatever the channel's own chances are."""
    if not getattr(channel, "chances", 0):
        return True
    chances = torch.linspace(-1, 2, 4 * channel.chances).view(1, 4, -1)
    return bool((channel.state(torch.zeros(1, 1, 1), chances) == 0).all())
