"""What one training step draws, and the loss that it takes: Algorithm 1 without the loop around it.

`hvib.fit` is a loop of these steps. For a loop of your own::

    training = training_of(system)
    for x, y in batches:
        draw = training.draw(len(x))
        with at(draw.betas):
            output = system(draw.shares(x), draw.noise)
            loss = training.loss(draw, output, y)
            loss.backward()
        ...
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib import objective
from hvib.check import require
from hvib.distortions import BY_KIND, Distortion
from hvib.methods.belonging import made_for, method_name, require_gates
from hvib.methods.method import Method
from hvib.methods.registry import METHODS
from hvib.run import Run
from hvib.system import Output, Stacked, System, draw_noise, one_of


class Draw(NamedTuple):
    """The chances of one step: its β, and the noise of encoder and channel."""

    betas: Float[Tensor, "K *J"]
    """drawn for the step: one for each share; of a stack, one for each system; or (K, J), one for
    each of several devices"""
    noise: Float[Tensor, "2 M N c"]
    snr_db: Float[Tensor, " MN"] | None = None
    """of each example, where the SNR is drawn too"""

    def shares(self, batch: Shaped[Tensor, "MN *shape"]) -> Shaped[Tensor, "M N *shape"]:
        """A mini-batch in its M shares."""
        return batch.unflatten(0, (self.noise.shape[1], -1))


class RunningObjective:
    """A running estimate of the objective C(β) in each of the M strata of `draw_betas`.

    Training divides each share's loss by C(β)^p. For p = 1 that is the gradient of E_β[log C(β)],
    up to how much C varies within a stratum; for p = 0 it is the gradient of (15). The C of the
    mini-batch alone would not do, because its noise is the noise of the loss too, and the quotient
    would be biased. The estimate is an exponential mean over the steps, this step included.

    Args:
        power: p.
        memory: how much of the estimate each step keeps.
    """

    def __init__(self, power: float, memory: float = 0.98) -> None:
        self.power, self.memory = power, memory
        self.sum: Tensor | float = 0.0
        self.weight = 0.0

    def weights(self, losses: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
        """1 / C^p after this step's losses are taken in."""
        # As in Adam, the sum of the weights corrects for the start at 0.
        self.sum = self.memory * self.sum + (1 - self.memory) * losses.detach()
        self.weight = self.memory * self.weight + 1 - self.memory
        return (self.sum / self.weight) ** -self.power


class Training:
    """Draws the chances of each step and weighs its objectives, as a method does.

    Args:
        method: decides how β is drawn and how the objectives are weighted.
        betas: the β of the run: its range, or where they are fixed the β themselves.
        shares: M, into how many shares a mini-batch is split.
        chances: standard normals an example, `System.chances`.
        generator: the source of all chance; the draws are on its device.
        distortion: the system's.
        total: the steps of the training, which a method with a warm-up needs to know.
        snrs: the ends of the range in dB over which each example's SNR is drawn, if it is.
        blocks: `System.blocks`; a joint method draws a β for each device.
        prices: of a method of fixed β: `Run.prices`.

    Raises:
        ValueError: the method has a warm-up, and nobody knows the number of steps.
    """

    def __init__(
        self,
        method: Method,
        betas: Sequence[float],
        shares: int,
        chances: int,
        generator: torch.Generator,
        distortion: Distortion = BY_KIND,
        total: int | None = None,
        snrs: tuple[float, float] | None = None,
        blocks: Sequence[int] = (),
        prices: Sequence[float] = (),
    ) -> None:
        mend = "its β rises over a share of the steps: give mini-batches that have a length"
        require(total is not None or not method.warm_up, "method", method.name, mend)
        self.method, self.ends, self.count = method, (betas[0], betas[-1]), shares
        self.chances, self.generator, self.distortion = chances, generator, distortion
        self.snrs, self.blocks = snrs, blocks
        self.fixed = torch.tensor(betas, device=generator.device)
        if prices:
            self.fixed = self.fixed[:, None] * torch.tensor(prices, device=generator.device)
        self.running = RunningObjective(method.power)
        self.warm = round(method.warm_up * total) if total else 0
        """steps of the warm-up"""
        self.step = 0
        """steps that were drawn for"""

    def draw(self, examples: int) -> Draw:
        """The chances of a step on so many examples.

        Raises:
            ValueError: they do not divide into the shares.
        """
        mend = f"give a multiple of the M = {self.count} shares of a mini-batch"
        require(examples % self.count == 0, "examples", examples, mend)
        self.step += 1
        betas = self.fixed * (self.step / self.warm) if self.step < self.warm else self.fixed
        if not self.method.fixed:
            betas = self._draw_betas()
        share = examples // self.count
        noise = draw_noise(self.count, share, self.chances, self.generator)
        return Draw(betas, noise, self._draw_snrs(share) if self.snrs else None)

    def _draw_betas(self) -> Float[Tensor, "M *J"]:
        """M values of β; of a joint method M for each device, in an order of its own."""
        draw, ends = self.method.draw_betas, self.ends
        if not (self.method.joint and self.blocks):
            return draw(*ends, self.count, self.generator)
        first, *others = (draw(*ends, self.count, self.generator) for _ in self.blocks)
        where = self.generator.device
        orders = [
            torch.randperm(self.count, generator=self.generator, device=where) for _ in others
        ]
        mixed = [betas[order] for betas, order in zip(others, orders, strict=True)]
        return torch.stack([first, *mixed], -1)

    def _draw_snrs(self, share: int) -> Float[Tensor, " MN"]:
        """The SNR of each example: uniform in dB, stratified within each share.

        So every share, and with it every part of the range of β, sees the whole range of SNR.
        """
        assert self.snrs  # for mypy
        low, high = self.snrs
        u = torch.stack([objective.stratified(share, self.generator) for _ in range(self.count)])
        return (low + (high - low) * u).flatten()

    def objectives(
        self, draw: Draw, output: Output, y: Shaped[Tensor, "MN *k"]
    ) -> Float[Tensor, " K"]:
        """C(β) of (8) for each β of the step."""
        # A stack answers K values of β with one share: all of them see the same targets.
        targets = draw.shares(y).expand(len(draw.betas), -1, *y.shape[1:])
        found = objective.terms(output, targets, self.distortion, self.blocks)
        return found.objective(draw.betas)

    def weighted(self, objectives: Float[Tensor, " K"]) -> Float[Tensor, ""]:
        """What a step minimises: the sum over systems of one β each, else the mean of (17)."""
        if self.method.fixed:
            return objectives.sum()
        if self.method.power and self.distortion.may_be_negative:
            mend = (
                f"method {self.method.name} divides it by its size: give a distortion that is "
                "above 0, or gate by method='paper'"
            )
            require(bool((objectives > 0).all()), "objective", objectives.tolist(), mend)
        return (self.running.weights(objectives) * objectives).mean()

    def learned(
        self, objectives: Float[Tensor, " K"], system: System, y: Shaped[Tensor, "MN *k"]
    ) -> Float[Tensor, ""]:
        """`weighted`, and beside it the loss of its own that a method may have.

        Args:
            system: as it has just been passed the step's examples.
            y: their targets, not yet in shares.
        """
        loss = self.weighted(objectives)
        return loss + self.method.beside(system, y) if self.method.beside else loss

    def loss(self, draw: Draw, output: Output, y: Shaped[Tensor, "MN *k"]) -> Float[Tensor, ""]:
        """The loss of a step.

        Args:
            y: the mini-batch's targets, not yet in shares.
        """
        return self.weighted(self.objectives(draw, output, y))


def training_by(
    run: Run, model: System | Stacked, device: torch.device, total: int | None
) -> Training:
    """The training that a run says, from its seed, over so many steps if they are known."""
    method, generator = METHODS.find(run.method), torch.Generator(device).manual_seed(run.seed)
    own, shares = one_of(model).distortion, method.shares(run)
    snrs = (run.snrs[0], run.snrs[-1]) if run.mixed_snr else None
    chances = one_of(model).chances
    blocks = one_of(model).blocks
    more = (snrs, blocks, run.prices)
    return Training(method, run.betas, shares, chances, generator, own, total, *more)


def training_of(
    system: nn.Module,
    *,
    method: str = "",
    betas: Sequence[float] | None = None,
    shares: int = Run.shares,
    seed: int = 0,
    device: torch.device | str = "cpu",
    snrs: tuple[float, float] | None = None,
) -> Training:
    """The training of a system of yours, for a loop of your own.

    Args:
        system: gated; its method and range of β are known if `hyperize` was told them.
        method, betas: of a system that does not say them: a method's name, the ends of the range.
        shares: M, how many β are drawn for a mini-batch.
        seed: of all draws.
        device: of the draws.
        snrs: the ends of the range in dB over which each example's SNR is drawn, if it is; the pass
            is then inside `at(draw.betas, snr_db=draw.snr_db)`.

    Raises:
        ValueError: the system says no method or range, and neither do you; or its gates are those
            of another; or the method does more than a step does.
    """
    require(isinstance(system, System), "system", type(system).__name__, "give a System")
    assert isinstance(system, System)  # for mypy
    known = made_for(system)
    name, ends = method or method_name(system), betas or (known and known.betas)
    mend = "the system does not say it: gate it by hyperize(system, method=…, betas=…), or give it"
    require(bool(name), "method", None, mend)
    require(ends is not None, "betas", None, mend)
    assert ends is not None
    generator = torch.Generator(device).manual_seed(seed)
    found = METHODS.find(name)
    mend = "it does more in training than a step's loss says: use hvib.fit"
    more = found.average or found.keeps_best or found.beside or found.finish
    require(not more, "method", name, mend)
    if not found.fixed:
        require_gates(system, found, (ends[0], ends[-1]))
    return Training(
        *(found, ends, shares, system.chances, generator, system.distortion),
        snrs=snrs,
        blocks=system.blocks,
    )
