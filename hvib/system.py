"""Device, channel and network as one system: equation (1) and the chain (2)."""

import itertools
import math
from collections.abc import Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hvib.channel import Channel, Received, gaussian_rates, snr_db_now
from hvib.check import require
from hvib.checks import forward
from hvib.distortions import BY_KIND, Function, as_distortion

batch_rows: ContextVar[int] = ContextVar("batch_rows", default=1)
"""The length of the batch that a system's device or network is working on.

Gates compare it with what reaches them: a first axis that is no multiple of it is not the batch."""


def _run(part: str, module: nn.Module, batch: Tensor, state: Tensor) -> object:
    """The module's output, with the length of its batch and the SNR told to the gates inside."""
    batch = forward.like_weights(module, batch)
    token, before = batch_rows.set(len(batch)), snr_db_now.set(state.flatten())
    try:
        return module(batch)
    except Exception as error:
        if clearer := forward.explained(error, part, module, batch):
            raise clearer from error
        raise
    finally:
        batch_rows.reset(token)
        snr_db_now.reset(before)


def _reads_snr(module: nn.Module) -> bool:
    """Whether there are gates in it that read the SNR."""
    return any(getattr(m, "needs_snr", False) for m in module.modules())


class Output(NamedTuple):
    """What one forward pass gives, for M values of β and N examples of each."""

    prediction: Float[Tensor, "M N k"]
    """ŷ: logits, or a real target"""
    mean: Float[Tensor, "M N n"]
    """μ(x; φ)"""
    variance: Float[Tensor, "M N n"]
    """θ², the diagonal of Θ(x; φ): the variance of the transmitted z"""
    rates: Float[Tensor, "M N n"]
    """the summand of the rate (9) of each feature in nats"""


class _States(NamedTuple):
    snr_db: Tensor
    given: bool


class System(nn.Module):
    """x → z ~ N(μ, Θ) → ẑ = channel(z) → ŷ.

    Args:
        device: any module from a batch of x to `2 * features` numbers, (μ, log θ²), as one tensor
            or as two of n numbers each.
        network: any module from a batch of ẑ to predictions, as one tensor.
        channel: `hvib.channel.AWGN`, one of `hvib.channels`, or a `hvib.channel.Channel` of your
            own. A module without a state may be any that is called with z and as many standard
            normals, its only source of chance, returns ẑ, and has the added noise's `variance`.
        features: n, the dimension of z.
        distortion: in place of `hvib.distortions.default.distortion`, a ready-made one of
            `hvib.distortions` or a function of your own, as `hvib.distortions.Own` takes it.
    """

    def __init__(
        self,
        device: nn.Module,
        network: nn.Module,
        channel: Channel,
        features: int,
        distortion: Function | None = None,
    ) -> None:
        super().__init__()
        told = hasattr(channel, "variance")
        require(told, "channel", type(channel).__name__, "give it a `variance`, as AWGN has")
        self.device = device
        self.channel = channel
        self.network = network
        self.features = features
        self.distortion = as_distortion(distortion)

    @property
    def chances(self) -> int:
        """How many standard normals a pass takes for each example: features, channel's state."""
        return self.features + getattr(self.channel, "chances", 0)

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many features each of several devices sends; empty for one device."""
        return getattr(self.device, "blocks", ())

    def extra_repr(self) -> str:
        return "" if self.distortion == BY_KIND else f"(distortion): {self.distortion}"

    def forward(self, x: Shaped[Tensor, "M N *shape"], noise: Float[Tensor, "2 M DN c"]) -> Output:
        """Pass N examples for each of M values of β.

        Args:
            x: the examples.
            noise: standard normals, `chances` for each example: first those of the encoder's
                reparameterisation, then those of the channel and of its state. With D channel
                draws of all N examples, one draw after the other, there are D·N outputs. The
                device runs once for all draws, unless it reads a state that differs between them.

        Raises:
            ValueError: the device does not end in 2·n numbers, the network not in one tensor, or
                one of them is given what it cannot take.
        """
        axes, n = x.shape[:2], self.features  # (M, N)
        draws = noise.shape[2] // axes[1]
        state, given = self._states(axes[0], axes[1], noise[1, ..., n:])
        if draws > 1 and state.shape[1] > 1 and _reads_snr(self.device):
            x, draws = x.repeat(1, draws, *[1] * (x.dim() - 2)), 1
        rows = x.flatten(0, 1)  # (M·N, …)
        seen = state[:, : x.shape[1]]
        moments = forward.moments_of(_run("device", self.device, rows, seen), len(rows), n)
        moments = forward.at_least_float32(moments).unflatten(0, x.shape[:2])  # (M, N, 2n)
        moments = moments.repeat(1, draws, 1)  # (M, D·N, 2n)
        mean, log_variance = moments.chunk(2, dim=-1)
        # θ first and then θ²: the root of a θ² that underflows to 0 would have the gradient NaN.
        deviation = (log_variance / 2).exp()
        variance = deviation.square()
        z = mean + deviation * noise[0, ..., :n]
        received = self._received(z, noise[1], state if given else None)
        rates = getattr(self.channel, "rates", gaussian_rates)(mean, variance, received)
        rows = received.value.flatten(0, 1)  # (M·D·N, n)
        prediction = forward.prediction_of(_run("network", self.network, rows, state), len(rows))
        prediction = forward.at_least_float32(prediction).unflatten(0, (axes[0], -1))  # (M, D·N, k)
        return Output(prediction, mean, variance, rates)

    def _states(self, shares: int, count: int, chances: Float[Tensor, "M DN c"]) -> _States:
        """The SNR in dB that each example meets, (M, DN, 1) or less where it is the same."""
        nominal = snr_db_now.get()
        told = chances.new_full((1, 1, 1), getattr(self.channel, "snr_db", math.nan))
        if nominal is not None:
            mend = f"give one SNR, one for each of {shares} shares, or one for each example"
            right = len(nominal) in (1, shares, shares * count)
            require(right, "number of snr_db", len(nominal), mend)
            told = nominal.to(chances).view(shares if len(nominal) > 1 else 1, -1, 1)
            if told.shape[1] > 1:  # all examples in one draw, then all in the next
                told = told.repeat(1, chances.shape[1] // count, 1)
        if chances.shape[-1]:
            told = self.channel.state(told, chances)
        # Without a state and an SNR by `at`, a channel that knows neither is called with neither.
        return _States(told, nominal is not None or chances.shape[-1] > 0)

    def _received(self, z: Tensor, noise: Tensor, state: Tensor | None) -> Received:
        """What the channel delivers; a module that returns ẑ alone has added its `variance`."""
        received = self.channel(z, noise) if state is None else self.channel(z, noise, state)
        if isinstance(received, Received):
            return received
        return Received(received, self.channel.variance)


class Stacked(nn.Module):
    """K systems of one architecture, trained and run as one: the batched grid.

    The parameters are stacked along a leading axis and `torch.func` maps the forward pass over
    it, so K products become one batched product. The systems share nothing: the loss is the sum
    of K losses and the optimiser works element by element, so each system takes the steps that it
    would take alone.

    Args:
        systems: K systems, one for each β in ascending order.
    """

    template: System

    def __init__(self, systems: Sequence[System]) -> None:
        super().__init__()
        kinds = {repr(system) for system in systems}
        mend = "stack systems of one architecture, channel and distortion, at least one"
        require(len(kinds) == 1, "systems", f"{len(kinds)} kinds", mend)
        for system in systems:
            one_of(system)
        stacked, buffers = torch.func.stack_module_state(list(systems))
        require(not buffers, "systems", sorted(buffers), "stack systems without buffers")
        self.names = list(stacked)
        self.stack = nn.ParameterList(
            [nn.Parameter(p.detach(), p.requires_grad) for p in stacked.values()]
        )
        # Set past `nn.Module`, which would register the template's parameters and train them too.
        self.__dict__["template"] = systems[0]

    def forward(self, x: Shaped[Tensor, "1 N *shape"], noise: Float[Tensor, "2 1 DN n"]) -> Output:
        """Pass the same N examples and the same noise through all K systems."""

        def one(parameters: dict[str, Tensor]) -> Output:
            return torch.func.functional_call(self.template, parameters, (x, noise))

        mapped = torch.func.vmap(one)(dict(zip(self.names, self.stack, strict=True)))
        return Output(*(part.squeeze(1) for part in mapped))  # (K, 1, N, ·) → (K, N, ·)

    @torch.no_grad()
    def load(self, systems: Sequence[dict[str, Tensor]]) -> None:
        """Take over the parameters of K systems, by name."""
        for name, stacked in zip(self.names, self.stack, strict=True):
            stacked.copy_(torch.stack([system[name] for system in systems]))

    def unstack(self) -> list[dict[str, Tensor]]:
        """The K systems' state dictionaries."""
        count = len(self.stack[0])
        return [
            {name: p[k].detach() for name, p in zip(self.names, self.stack, strict=True)}
            for k in range(count)
        ]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers (11) of the given sizes with ReLU between them.

    The ReLU is not in place, because a gate's output is a view, and autograd copies a view before
    it is written to.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (m_in, m_out) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(m_in, m_out)] + [nn.ReLU()] * (i < len(sizes) - 2)
    return nn.Sequential(*layers)


def draw_noise(
    shares: int, count: int, chances: int, generator: torch.Generator
) -> Float[Tensor, "2 M N c"]:
    """Standard normals for one forward pass of M shares of N examples.

    The first half is the encoder's, the second the channel's. `System.chances` says how many.
    """
    size = (2, shares, count, chances)
    return torch.randn(size, generator=generator, device=generator.device)


def one_of(model: System | Stacked) -> System:
    """The system itself, or one that stands for all systems of a stack.

    Raises:
        ValueError: the model is neither, or its weights are in a half format.
    """
    one = model.template if isinstance(model, Stacked) else model
    # What `torch.compile` returns holds the system, and passes on what it is asked for.
    known = isinstance(getattr(one, "_orig_mod", one), System)
    mend = "give a System(device, network, channel, features), or of a wrapper the system inside"
    require(known, "model", type(model).__name__, mend)
    forward.require_full_precision(model)
    return one
