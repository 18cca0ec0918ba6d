"""A plain network's answer, whitened: what a device may send in place of features of x.

The objective (8) depends on x through the posterior p(y | x) alone for the logarithmic loss, and
through the mean E[y | x] alone for the squared error. So a device may first infer the answer, with
no β in it, and then code that answer for each β. The answer learns from a loss of its own, and no
gradient of (8) reaches it.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.check import require
from hvib.checks.forward import at_least_float32, moments_of
from hvib.system import System


class Answer(nn.Module):
    """The first part of a device: h(x) ∈ R^k, each component of about mean 0 and variance 1.

    In training it keeps the answers of the latest pass, from which `loss` teaches it.

    Attributes:
        size: k.
        ends: d, in how many numbers the network ends: logits, or real targets.
    """

    size: int
    ends: int

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["latest"] = None

    def infer(self, x: Shaped[Tensor, "B *shape"]) -> Float[Tensor, "B k"]:
        """The answers as the network learns them."""
        raise NotImplementedError

    def whiten(self, answer: Float[Tensor, "B k"]) -> Float[Tensor, "B k"]:
        """The answers in the coordinates in which they are sent."""
        raise NotImplementedError

    def expand(self, h: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch d"]:
        """What the network says for whitened answers: logits, or real targets in their unit."""
        raise NotImplementedError

    def unit(self, said: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Numbers near 1 in the unit of the distortion: logits as they are."""
        return said

    def learn(self, answer: Float[Tensor, "B k"], y: Shaped[Tensor, "B *k"]) -> Tensor:
        """The loss of each step, a scalar."""
        raise NotImplementedError

    @property
    def power(self) -> Float[Tensor, " k"]:
        """P of Theorem 2 for each component: the power that the distortion can be lowered by."""
        raise NotImplementedError

    def forward(self, x: Shaped[Tensor, "B *shape"]) -> Float[Tensor, "B k"]:
        answer = at_least_float32(self.infer(x))
        if self.training and torch.is_grad_enabled():
            self.__dict__["latest"] = answer
        return self.whiten(answer.detach())

    def loss(self, y: Shaped[Tensor, "B *k"]) -> Float[Tensor, ""]:
        """The loss of the answers to the examples that have just been passed."""
        answer, self.__dict__["latest"] = self.__dict__["latest"], None
        return self.learn(answer, y)


def simplex(classes: int) -> Float[Tensor, "d d-1"]:
    """Q: an orthonormal basis of the complement of **1**, (d, d − 1); the same in each call."""
    # Helmert's basis: column j compares class j + 1 with the mean of those before it.
    columns = []
    for j in range(1, classes):
        column = torch.zeros(classes, dtype=torch.float64)
        column[:j], column[j] = 1.0, -float(j)
        columns.append(column / math.sqrt(j * (j + 1)))
    return torch.stack(columns, 1).float()


class ClassAnswer(Answer):
    """h(x) for d classes: the regression of √d Qᵀ(y − 1/d), y one-hot, on x.

    For balanced classes these targets have mean 0 and covariance I. The network is the device of a
    plain system, and its first d − 1 outputs are h.

    Args:
        plain: a system whose network ends in d logits.
        classes: d.

    Raises:
        ValueError: the system has fewer than d − 1 features.
    """

    def __init__(self, plain: System, classes: int) -> None:
        super().__init__()
        self.size, self.ends = classes - 1, classes
        mend = f"an answer among {classes} classes takes {self.size}: give as many at least"
        require(plain.features >= self.size, "features", plain.features, mend)
        self.device, self.features = plain.device, plain.features
        self.register_buffer("basis", simplex(classes), persistent=False)

    def infer(self, x: Shaped[Tensor, "B *shape"]) -> Float[Tensor, "B k"]:
        return moments_of(self.device(x), len(x), self.features)[:, : self.size]

    def whiten(self, answer: Float[Tensor, "B k"]) -> Float[Tensor, "B k"]:
        return answer

    def expand(self, h: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch d"]:
        return math.sqrt(self.size + 1) * h @ self.get_buffer("basis").to(h).T

    def learn(self, answer: Float[Tensor, "B k"], y: Shaped[Tensor, " B"]) -> Tensor:
        # Row y of Q is Qᵀ y, and Qᵀ **1** = 0.
        target = math.sqrt(self.size + 1) * self.get_buffer("basis")[y.long()]
        return (answer - target).square().sum(-1).mean()

    @property
    def power(self) -> Float[Tensor, " k"]:
        # The cross-entropy is ½ of the squared error of h to second order about equal logits.
        return torch.full((self.size,), 0.5, device=self.get_buffer("basis").device)


class RealAnswer(Answer):
    """h(x) for real targets: the regression of y on x, less the mean of y, by its deviation.

    The network is a plain system without its noise: the device's means go straight into what is
    else behind the channel. Mean and deviation of the targets are those of all that were seen in
    training.

    Args:
        plain: a system whose network ends in k numbers.
        targets: k.
    """

    def __init__(self, plain: System, targets: int) -> None:
        super().__init__()
        self.size = self.ends = targets
        self.device, self.network, self.features = plain.device, plain.network, plain.features
        # Sums and not a running mean, so that they do not depend on a memory.
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(2, targets, dtype=torch.float64))

    @property
    def centre(self) -> Float[Tensor, " k"]:
        """Mean of the targets seen; 0 before any."""
        return self.get_buffer("sums")[0] / self.get_buffer("count").clamp(min=1)

    @property
    def spread(self) -> Float[Tensor, " k"]:
        """Standard deviation of the targets seen; 1 before any, and where they do not differ."""
        squares = self.get_buffer("sums")[1] / self.get_buffer("count").clamp(min=1)
        variance = squares - self.centre.square()
        return torch.where(variance > 1e-12 * squares, variance, 1).sqrt()

    def infer(self, x: Shaped[Tensor, "B *shape"]) -> Float[Tensor, "B k"]:
        mean = moments_of(self.device(x), len(x), self.features)[:, : self.features]
        return self.network(mean)

    def whiten(self, answer: Float[Tensor, "B k"]) -> Float[Tensor, "B k"]:
        return (answer - self.centre.to(answer)) / self.spread.to(answer)

    def expand(self, h: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        return self.centre.to(h) + self.spread.to(h) * h

    def unit(self, said: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        return self.expand(said)

    def learn(self, answer: Float[Tensor, "B k"], y: Float[Tensor, "B k"]) -> Tensor:
        with torch.no_grad():
            self.get_buffer("count").add_(len(y))
            self.get_buffer("sums").add_(
                torch.stack([y.double().sum(0), y.double().square().sum(0)])
            )
        return ((answer - y) / self.spread.to(answer)).square().sum(-1).mean()

    @property
    def power(self) -> Float[Tensor, " k"]:
        return self.spread.square()


def answer_of(plain: System, *, classes: bool) -> Answer:
    """The answer that a plain system's networks can learn.

    Args:
        plain: not gated; its modules are used, not copied.
        classes: whether the targets are classes.
    """
    like = next(plain.parameters())
    mode = plain.training
    with torch.no_grad():
        ends = plain.eval().network(torch.zeros(2, plain.features).to(like)).shape[-1]
    plain.train(mode)
    return ClassAnswer(plain, ends) if classes else RealAnswer(plain, ends)


def answers(system: System) -> Answer:
    """The `Answer` inside a system's device.

    Raises:
        ValueError: it has none.
    """
    found = [module for module in system.device.modules() if isinstance(module, Answer)]
    mend = "its device sends no answer: make the system by its method's `build`"
    require(len(found) == 1, "system", type(system).__name__, mend)
    return found[0]


def answer_loss(system: System, y: Shaped[Tensor, "B *k"]) -> Float[Tensor, ""]:
    """The loss of a system's answers to the examples of a step, from its own latest pass."""
    return answers(system).loss(y)
