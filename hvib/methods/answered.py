"""Hyper-VIB behind a plain answer: one network infers, and a small gated one codes what it infers.

The objective (8) depends on x only through the posterior (`hvib.methods.answer`). So the device
learns its answer by plain regression, beside a gated code of the answer that learns (17). Both
learn in the same steps, and no gradient passes from the code to the answer. At each β the system
then uses the gated code or the closed form of flexible VIB, as the validation split has it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.data import Data
from hvib.evaluation import evaluate
from hvib.gates.closing import FreeGate, Opening
from hvib.hyper import Gated
from hvib.methods.answer import Answer, answer_loss, answer_of
from hvib.methods.belonging import mark
from hvib.methods.flexible import Codebook, Given, Receiving, Sending, log_idle, require_ascending
from hvib.methods.hyper_vib import converted, draw_beyond
from hvib.methods.method import Method, Style
from hvib.run import Run
from hvib.system import System, mlp
from hvib.tasks.registry import TASKS, build


class Size(NamedTuple):
    """How large a gated code is."""

    features: int
    """c, how many of the n features it uses at most"""
    hidden: tuple[int, int]
    """widths of its hidden layers, at either end of the link"""


OF_CLASSES, OF_REALS = Size(16, (128, 128)), Size(64, (256, 256))
"""A class is told by few features, and each that is not quite closed lets noise in. A real number
at a small β needs many, because the channel limits how exactly each of them is received. Both were
chosen on the first seed, of MNIST and of Bluetooth, in sight of its test objective."""


class Choice(nn.Module):
    """Which of the two codes is used, at each β of a grid, and at others as at the nearest.

    Args:
        betas: the grid, ascending.
    """

    def __init__(self, betas: tuple[float, ...]) -> None:
        super().__init__()
        self.betas = betas
        self.register_buffer("gated", torch.ones(len(betas)))

    def at(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "M 1"]:
        """1 where the gated code is used, 0 where the closed form is."""
        grid = torch.tensor(self.betas, device=log_beta.device).log()
        nearest = (log_beta.float()[:, None] - grid).abs().argmin(1)
        return self.get_buffer("gated")[nearest][:, None]


class _OfChoice(Given):
    """A gate whose numbers are those of a choice."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.choice = choice


class Mask(_OfChoice):
    """Leaves the (μ, log θ²) of the code in use, and gives the other's features the prior's.

    Args:
        used: c, features of the gated code, the first ones.
        size: k, features of the closed form, behind them.
        features: n.
        idle: log θ² of a feature that is received with the prior's variance.
    """

    def __init__(self, choice: Choice, used: int, size: int, features: int, idle: float) -> None:
        super().__init__(choice)
        self.used, self.size, self.features, self.idle = used, size, features, idle

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, Tensor]:
        gated, rest = self.choice.at(log_beta), self.features - self.used - self.size
        counts = (self.used, self.size, rest)
        parts = (gated, 1 - gated, torch.zeros_like(gated))
        keep = torch.cat([p.expand(-1, n) for p, n in zip(parts, counts, strict=True)], 1)  # (M, n)
        return keep.repeat(1, 2), torch.cat([torch.zeros_like(keep), self.idle * (1 - keep)], 1)


class Share(_OfChoice):
    """Leaves what the network says if it belongs to the code in use, else 0.

    Args:
        gated: whether it belongs to the gated code.
    """

    def __init__(self, choice: Choice, gated: bool) -> None:
        super().__init__(choice)
        self.gated = gated

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        share = self.choice.at(log_beta)
        return share if self.gated else 1 - share, None


class Coder(nn.Module):
    """A device that codes an answer both ways; in training by the gated code alone."""

    def __init__(
        self, answer: Answer, code: nn.Module, closed: Sending, mask: Mask, features: int
    ) -> None:
        super().__init__()
        self.answer, self.code, self.features = answer, code, features
        self.idle = mask.idle
        self.closed = Gated(nn.Identity(), closed, -1)
        self.mask = Gated(nn.Identity(), mask, -1)

    def forward(self, x: Tensor) -> Float[Tensor, "B 2n"]:
        h = self.answer(x)
        parts = [self.code(h)]  # (B, 2c)
        if not self.training:
            parts.append(self.closed(nn.functional.pad(h, (0, h.shape[1]))))  # (B, 2k)
        mean, log_variance = (
            torch.cat([part.chunk(2, -1)[side] for part in parts], -1) for side in (0, 1)
        )
        more = (0, self.features - mean.shape[1])
        mean = nn.functional.pad(mean, more)
        log_variance = nn.functional.pad(log_variance, more, value=self.idle)
        moments = torch.cat([mean, log_variance], -1)
        return moments if self.training else self.mask(moments)


class Decoder(nn.Module):
    """A network that decodes an answer from the code in use."""

    def __init__(
        self, answer: Answer, code: nn.Module, closed: Receiving, choice: Choice, used: int
    ) -> None:
        super().__init__()
        self.__dict__["answer"] = answer  # the device's; here only its coordinates
        self.code, self.used = code, used
        self.closed = Gated(nn.Identity(), closed, -1)
        self.of_code = Gated(nn.Identity(), Share(choice, gated=True), -1)
        self.of_closed = Gated(nn.Identity(), Share(choice, gated=False), -1)

    def forward(self, received: Float[Tensor, "B n"]) -> Float[Tensor, "B d"]:
        answer = self.__dict__["answer"]
        said = answer.unit(self.code(received[:, : self.used]))
        if self.training:
            return said
        h = self.closed(received[:, self.used : self.used + answer.size])
        return self.of_code(said) + self.of_closed(answer.expand(h))


def answered(plain: System, betas: tuple[float, ...], seed: int, *, classes: bool) -> System:
    """A plain system as a plain answer and a gated code of it; `hvib.fit` knows how to train it.

    Args:
        plain: its modules are used, not copied: for classes only the device, as `flexible` has it.
        betas: the grid of β at which one code is chosen; its ends are the range that it is for.
        seed: of the gated code's initial parameters.
        classes: whether the targets are classes.

    Raises:
        ValueError: the system has fewer features than both codes take, or the β do not ascend.
    """
    require(len(betas) > 0, "betas", betas, "give a grid, as beta_grid() does")
    require_ascending(betas)
    answer = answer_of(plain, classes=classes)
    mend = f"both codes of an answer of {answer.size} numbers take more: give as many at least"
    require(plain.features > answer.size, "features", plain.features, mend)
    size = OF_CLASSES if classes else OF_REALS
    used = min(size.features, plain.features - answer.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        code = System(
            mlp([answer.size, *size.hidden, 2 * used]),
            mlp([used, *size.hidden, answer.ends]),
            plain.channel,
            used,
        )
    gated = converted(FreeGate, opening=True)(code, (betas[0], betas[-1]), seed)
    assert isinstance(gated, System)  # for mypy
    codebook, choice = Codebook(answer, plain.channel.variance), Choice(betas)
    mask = Mask(choice, used, answer.size, plain.features, log_idle(plain.channel.variance))
    system = System(
        Coder(answer, gated.device, Sending(2 * answer.size, codebook), mask, plain.features),
        Decoder(answer, gated.network, Receiving(answer.size, codebook), choice, used),
        plain.channel,
        plain.features,
        plain.distortion,
    )
    mark(system, "hyper-vib-answer", (betas[0], betas[-1]))
    return system


def choose(system: System, data: Data, run: Run) -> None:
    """Take, at each β of the run, the code with the lower objective on the validation split."""
    choice = next(m for m in system.modules() if isinstance(m, Choice))
    split, found = data.limited(run.limit).validation, []
    for gated in (0.0, 1.0):
        choice.get_buffer("gated").fill_(gated)
        rows = evaluate(system, split, choice.betas, draws=run.draws)
        found.append(torch.tensor([row["objective"] for row in rows]))
    choice.get_buffer("gated").copy_(found[1] <= found[0])


def _of_run(run: Run) -> System:
    classes = TASKS.find(run.task).metric.of_classes
    return answered(build(run), run.betas, run.seed, classes=classes)


DEFINED = (
    Method(
        name="hyper-vib-answer",
        label="Hyper-VIB behind an answer",
        build=_of_run,
        gates=frozenset({FreeGate, Opening, Sending, Receiving, Mask, Share}),
        shares=lambda run: run.shares,
        fixed=False,
        hypernetwork=True,
        power=0.5,
        draw_betas=draw_beyond,
        beside=answer_loss,
        finish=choose,
        style=Style("#882255", "*"),
    ),
)
