"""Flexible VIB: one plain training run, and every β in closed form :cite:`kudo2024flexible`.

The device infers a whitened answer h(x) by plain regression (`hvib.methods.answer`). It sends
w(β) h with variance θ²(β), and the network answers with v(β) ẑ in the answer's own coordinates.
The three numbers are Theorem 2's, component by component. For d classes P = ½, which is flexible
VIB; for real targets P is their variance.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.data import Data, Split, reals
from hvib.distortions.distortion import Distortion
from hvib.hyper import Gate, Gated
from hvib.methods.answer import Answer, ClassAnswer, answer_loss, answer_of, answers
from hvib.methods.belonging import mark
from hvib.methods.method import Method, Style
from hvib.objective import gaussian_kl
from hvib.run import Run
from hvib.system import System
from hvib.tasks.registry import TASKS, build


class Code(NamedTuple):
    """A linear code of a whitened answer at M values of β: z ~ N(w h, θ²), ĥ = v ẑ."""

    gain: Float[Tensor, "M k"]
    """w"""
    variance: Float[Tensor, "M k"]
    """θ²"""
    decoder: Float[Tensor, "M k"]
    """v"""


LEAST_VARIANCE = 1e-6
"""θ² where the theorem has 0, whose logarithm a device cannot state."""


def closed_form(
    power: Float[Tensor, " k"], beta: Float[Tensor, " M"], noise_variance: float
) -> Code:
    """Theorem 2's code of components of unit variance, in double precision.

    With r = β/(2P), s = max(σ², min(1, r)) and t = max(0, 1 − √(s r)): v² = t √(r/s), w = t / v
    and θ² = s − σ².

    Args:
        power: P of each component, by how much the distortion can be lowered.
        noise_variance: σ².
    """
    r = beta.double()[:, None] / (2 * power.double())  # (M, k)
    s = r.clamp(max=1).clamp(min=noise_variance)
    t = (1 - (s * r).sqrt()).clamp(min=0)
    # t / v, rearranged so that it is 0 and not 0 / 0 where t = 0.
    gain = t.sqrt() * (s / r) ** 0.25
    return Code(gain, (s - noise_variance).clamp(min=LEAST_VARIANCE), (t * (r / s).sqrt()).sqrt())


class Codebook(nn.Module):
    """The code of an answer at any β: the closed form, times what a refit has found.

    Args:
        answer: whose power it needs.
        noise_variance: σ².
        betas: where a refit may correct it; between them the correction is linear in log β.
    """

    def __init__(
        self, answer: Answer, noise_variance: float, betas: tuple[float, ...] = ()
    ) -> None:
        super().__init__()
        self.__dict__["answer"] = answer  # the device's; here it is only asked for its power
        self.noise_variance = noise_variance
        self.betas = betas
        self.register_buffer("corrections", torch.zeros(len(betas), 3, dtype=torch.float64))

    def at(self, log_beta: Float[Tensor, " M"]) -> Code:
        """The code at M values of β."""
        code = closed_form(
            self.__dict__["answer"].power, log_beta.double().exp(), self.noise_variance
        )
        if not self.betas:
            return code
        factors = self._weights(log_beta.double()) @ self.get_buffer("corrections")  # (M, 3)
        return Code(*(part * f.exp()[:, None] for part, f in zip(code, factors.T, strict=True)))

    def _weights(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M K"]:
        """How much each β of the table counts: two neighbours, or an end beyond the range."""
        knots = torch.tensor(self.betas, dtype=torch.float64, device=log_beta.device).log()
        if len(knots) == 1:
            return torch.ones(len(log_beta), 1, dtype=torch.float64, device=log_beta.device)
        inside = log_beta.clamp(knots[0], knots[-1])
        left = torch.searchsorted(knots, inside, right=True).clamp(1, len(knots) - 1) - 1
        share = (inside - knots[left]) / (knots[left + 1] - knots[left])
        one_hot = torch.eye(len(knots), dtype=torch.float64, device=log_beta.device)
        return (1 - share)[:, None] * one_hot[left] + share[:, None] * one_hot[left + 1]


def log_idle(noise_variance: float) -> float:
    """Log θ² of an idle feature, which is received with the prior's variance and costs no rate."""
    return math.log(max(1 - noise_variance, LEAST_VARIANCE))


class Given(Gate):
    """A gate that learns nothing: another module gives its `modulation` the numbers."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M m"]:
        return self.modulation(log_beta)[0]


class _OfCode(Given):
    """A gate whose numbers are those of a codebook."""

    def __init__(self, size: int, codebook: Codebook) -> None:
        super().__init__()
        self.size, self.codebook = size, codebook


class Sending(_OfCode):
    """From (h, 0 …) to (μ, log θ²) of n features: w h and log θ², beyond k those of the prior."""

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        code, n = self.codebook.at(log_beta), self.size // 2
        k = code.gain.shape[1]
        scale = code.gain.new_zeros(len(log_beta), self.size)
        scale[:, :k] = code.gain
        shift = code.gain.new_zeros(len(log_beta), self.size)
        shift[:, n:] = log_idle(self.codebook.noise_variance)
        shift[:, n : n + k] = code.variance.log()
        return scale.float(), shift.float()


class Receiving(_OfCode):
    """From ẑ to ĥ: v of each component, and nothing of the closed features."""

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        decoder = self.codebook.at(log_beta).decoder
        return nn.functional.pad(decoder, (0, self.size - decoder.shape[1])).float(), None


class Sender(nn.Module):
    """A device that sends the code of an answer."""

    def __init__(self, answer: Answer, codebook: Codebook, features: int) -> None:
        super().__init__()
        self.answer, self.features = answer, features
        self.code = Gated(nn.Identity(), Sending(2 * features, codebook), -1)

    def forward(self, x: Tensor) -> Float[Tensor, "B 2n"]:
        h = self.answer(x)
        return self.code(nn.functional.pad(h, (0, 2 * self.features - h.shape[1])))


class Receiver(nn.Module):
    """A network that decodes an answer linearly."""

    def __init__(self, answer: Answer, codebook: Codebook, features: int) -> None:
        super().__init__()
        self.__dict__["answer"] = answer  # the device's; here only its coordinates
        self.code = Gated(nn.Identity(), Receiving(features, codebook), -1)

    def forward(self, received: Float[Tensor, "B n"]) -> Float[Tensor, "B d"]:
        answer = self.__dict__["answer"]
        return answer.expand(self.code(received)[:, : answer.size])


def require_ascending(betas: tuple[float, ...]) -> None:
    """Refuse a grid of β that does not ascend, or is not of finite β > 0.

    Raises:
        ValueError: it is such a grid.
    """
    ascending = all(0 < a < b for a, b in pairwise((*betas, math.inf)))
    require(ascending, "betas", betas, "give β > 0 in ascending order")


def flexible(plain: System, *, classes: bool, betas: tuple[float, ...] = ()) -> System:
    """A plain system as flexible VIB has it, not yet trained; `hvib.fit` knows how to train it.

    Args:
        plain: its modules are used, not copied. For classes only the device is: its first d − 1
            outputs become the answer. For real targets device and network together become it.
        classes: whether the targets are classes.
        betas: where `fit` refits the code on validation data, ascending; nowhere by default.

    Raises:
        ValueError: the system has fewer features than the answer has components, or the β do not
            ascend.
    """
    require_ascending(betas)
    answer = answer_of(plain, classes=classes)
    codebook = Codebook(answer, plain.channel.variance, betas)
    system = System(
        Sender(answer, codebook, plain.features),
        Receiver(answer, codebook, plain.features),
        plain.channel,
        plain.features,
        plain.distortion,
    )
    ends = (betas[0], betas[-1]) if betas else None
    mark(system, "flexible-vib-refit" if betas else "flexible-vib", ends)
    return system


def _of_run(run: Run, betas: tuple[float, ...] = ()) -> System:
    classes = TASKS.find(run.task).metric.of_classes
    system = flexible(build(run), classes=classes, betas=betas)
    mark(system, run.method, (run.betas[0], run.betas[-1]))
    return system


@torch.no_grad()
def _answers_to(answer: Answer, split: Split) -> Float[Tensor, "N k"]:
    where = next(answer.parameters()).device
    parts = split.x.split(1000)
    return torch.cat([answer(reals(part.to(where))) for part in parts]).double()


class _Cost(NamedTuple):
    """C(β) of answers on validation data, for any factors of their code."""

    answer: Answer
    distortion: Distortion
    noise_variance: float
    h: Float[Tensor, "N k"]
    y: Tensor
    """of each draw's examples in turn"""

    noise: Float[Tensor, "draws N k"]

    def of(self, code: Code, logs: Float[Tensor, " 3"]) -> tuple[Tensor, Tensor]:
        """Distortion and rate, with the factors' logarithms."""
        gain, variance, decoder = (p * f for p, f in zip(code, logs.exp(), strict=True))
        received = variance + self.noise_variance
        z = gain * self.h + received.sqrt() * self.noise  # (draws, N, k)
        rate = gaussian_kl(gain * self.h, received.expand_as(self.h)).mean()
        said = self.answer.expand(decoder * z).flatten(0, 1)
        return self.distortion(said, self.y).mean(), rate

    def tells(self, code: Code, logs: Float[Tensor, " 3"]) -> bool:
        """Whether the draws hold the decoder: without one wrong answer, it grows without end."""
        if not isinstance(self.answer, ClassAnswer):
            return True
        return float(self.of(code, logs)[0]) * len(self.y) >= 1  # a wrong one costs about a nat


def refit(system: System, data: Data, run: Run, *, draws: int = 4) -> None:
    """Refit gain, variance and decoder at each β of the codebook: C(β) on validation data falls.

    The three factors start at 1, at the closed form, and all components share them. L-BFGS lowers
    the objective (8) with fixed draws of the noise. Where then no class is answered wrongly in
    any draw, which says nothing of how sure the network may be, the closed form stays.

    Args:
        draws: of the noise, for each example.

    Raises:
        ValueError: the system was made without β to refit at.
    """
    answer, split = answers(system.eval()), data.limited(run.limit).validation
    codebook = next(m for m in system.modules() if isinstance(m, Codebook))
    mend = "the system was made without any: give them as flexible(…, betas=…)"
    require(bool(codebook.betas), "betas", codebook.betas, mend)
    h = _answers_to(answer, split)
    y = split.y.to(h.device).repeat(draws, *[1] * (split.y.dim() - 1))
    noise = torch.randn(draws, *h.shape, generator=torch.Generator().manual_seed(run.seed)).to(h)
    cost = _Cost(answer, system.distortion, codebook.noise_variance, h, y, noise)
    at_betas = torch.tensor(codebook.betas, dtype=torch.float64, device=h.device)
    codes = closed_form(answer.power.to(h.device), at_betas, codebook.noise_variance)
    latest = torch.zeros(3, dtype=torch.float64, device=h.device)
    for k, beta in enumerate(codebook.betas):
        own = Code(*(part[k] for part in codes))
        latest = _best_factors(cost, own, beta, latest)
        if cost.tells(own, latest):
            codebook.get_buffer("corrections")[k] = latest


def _best_factors(
    cost: _Cost, code: Code, beta: float, latest: Float[Tensor, " 3"]
) -> Float[Tensor, " 3"]:
    """The logarithms of the three factors at one β, the best of several descents.

    The closed form is not the only start. Where the channel limits it, θ² has no gradient to
    speak of, so that a descent from there never learns to send less exactly.

    Args:
        latest: those of the β before.
    """
    closed = torch.zeros_like(latest)
    starts = [closed, latest]
    for variance in (0.1, 0.5):
        lifted = closed.clone()
        lifted[1] = math.log(variance) - float(code.variance.max().log())
        starts.append(lifted)
    found = [_descended(cost, code, beta, start) for start in starts]
    return min(found, key=lambda one: one[0])[1]


def _descended(
    cost: _Cost, code: Code, beta: float, start: Float[Tensor, " 3"]
) -> tuple[float, Float[Tensor, " 3"]]:
    """The objective that L-BFGS ends at, and where."""
    logs = start.clone().requires_grad_()
    solver = torch.optim.LBFGS([logs], max_iter=60, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        distortion, rate = cost.of(code, logs)
        value = distortion + beta * rate
        value.backward()
        return value

    solver.step(objective)
    with torch.no_grad():
        distortion, rate = cost.of(code, logs)
    value = float(distortion + beta * rate)
    return (value if math.isfinite(value) else math.inf), logs.detach()


DEFINED = (
    Method(
        name="flexible-vib",
        label="Flexible VIB",
        build=_of_run,
        gates=frozenset({Sending, Receiving}),
        shares=lambda run: 1,
        fixed=False,
        beside=answer_loss,
        style=Style("#56B4E9", "<"),
    ),
    # The same, its code refitted at each β on validation data.
    Method(
        name="flexible-vib-refit",
        label="Flexible VIB, refit",
        build=lambda run: _of_run(run, run.betas),
        gates=frozenset({Sending, Receiving}),
        shares=lambda run: 1,
        fixed=False,
        beside=answer_loss,
        finish=refit,
        style=Style("#CC79A7", ">"),
    ),
)
