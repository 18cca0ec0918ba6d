"""Two earlier ways of telling a network the SNR, each beside the paper's gate of β.

- `AffineGate`: scales that are affine in the SNR, as Hyper-AJSCC has them (Xie et al. 2024).
- `AttentionGate`: attention to what a layer gave and to the SNR, as ADJSCC has it (Xu et al. 2021).

Both sources train for many SNR and no β. Here the paper's sigmoid gate of log β comes before, so
that one network answers every β and every SNR. Like `hvib.gates.state`, both are `told` the SNR
in dB over its range, and not as a raw number: that favours the rivals.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hvib.channel import snr_db_now
from hvib.gates.state import SNRS, range_of, told
from hvib.hyper import Gate, Gated, Wrapped

LEAST = 4
"""The fewest hidden units of an attention."""


class AffineGate(Gate):
    """s(β, SNR) = S(u log β + v) · (w t + c): the paper's gate (12) times one affine in the SNR.

    The second factor is Hyper-AJSCC's. It has no bounds, may change its sign, and adds no shift:
    2·m parameters beside the paper's 2·m. The source's code starts w and c uniform in (−1, 1), as
    PyTorch starts Linear(1, m), and gives it the raw SNR. Then many units start near 0 or with
    the wrong sign. So c starts at 1 here, and w uniform in (−0.1, 0.1), as u does.

    Args:
        size: m, the number of output units or filters of the layer.
        snrs: the ends of the range of SNR in dB.
    """

    needs_snr = True

    def __init__(self, size: int, snrs: tuple[float, float] = SNRS) -> None:
        super().__init__(size)
        self.snrs = range_of(snrs)
        self.w = nn.Parameter(torch.empty(size).uniform_(-0.1, 0.1))
        self.c = nn.Parameter(torch.ones(size))

    def forward(self, log_beta: Float[Tensor, " M"]) -> Float[Tensor, "K m"]:
        log_beta, t = told(log_beta.to(self.u), self.snrs)
        return super().forward(log_beta) * torch.addcmul(self.c, t, self.w)


class Attention(nn.Module):
    """ADJSCC's attention feature module: scales of a layer's channels, from their means and t.

    The scales are S(B ReLU(A (p, t) + a) + b). Here p is the mean of each channel over all
    positions, or for a layer without positions its output itself.

    Args:
        inner: A and a, from m + 1 numbers to h; from m where the SNR is fixed.
        outer: B and b, from h to m.
        axis: where the m channels are, as of `Gated`.
    """

    def __init__(self, inner: nn.Linear, outer: nn.Linear, axis: int) -> None:
        super().__init__()
        self.inner, self.outer, self.axis = inner, outer, axis

    def forward(self, h: Tensor, t: Float[Tensor, "B 1"] | None = None) -> Tensor:
        """What a layer gave, (B, …) with m in its axis, each channel scaled.

        Args:
            t: the SNR of each row of h, as `told` scales it; None where it is fixed.
        """
        axis = self.axis % h.dim()
        positions = [i for i in range(1, h.dim()) if i != axis]
        p = h.mean(positions) if positions else h  # (B, m)
        if t is not None:
            p = torch.cat([p, t.to(p.dtype)], -1)  # (B, m + 1)
        s = torch.sigmoid(self.outer(torch.relu(self.inner(p))))  # (B, m)
        shape = [s.shape[0]] + [1] * (h.dim() - 1)
        shape[axis] = -1
        return h * s.to(h.dtype).view(shape)

    def at_state(self, t: Float[Tensor, "1 1"]) -> "Attention":
        """The same module at one SNR, which is then part of a."""
        weight, bias = self.inner.weight, self.inner.bias
        # Without a start, which would draw from PyTorch's own generator.
        inner = nn.utils.skip_init(nn.Linear, weight.shape[1] - 1, weight.shape[0])
        inner.weight = nn.Parameter(weight[:, :-1].clone(), weight.requires_grad)
        inner.bias = nn.Parameter(bias + t[0] * weight[:, -1], bias.requires_grad)
        return Attention(inner, self.outer, self.axis)


class AttentionGate(Gate):
    """The paper's gate (12), and behind it an `Attention` that reads the SNR.

    With h hidden units the attention has (m + 2)·h + (h + 1)·m parameters, beside the paper's 2·m.
    It reads what the gated layer gives, and so β too. As in the source h = m/16, which is 16 for
    its 256 channels; a layer of fewer than 64 has `LEAST`, for m/16 would leave it with too few.
    On the digits' validation data, two seeds, 4, 16 or 64 units for all layers ended at higher
    mean log objectives. So did both changes that the source has: modules behind the activation,
    and none behind the last layer of an end.

    b starts at 2, as v does, and B at a tenth of PyTorch's start, so that it starts nearly flat.

    Args:
        size: m, the number of output units or filters of the layer.
        snrs: the ends of the range of SNR in dB.
        hidden: h, if not the source's.
    """

    needs_snr = True

    def __init__(
        self, size: int, snrs: tuple[float, float] = SNRS, hidden: int | None = None
    ) -> None:
        super().__init__(size)
        self.snrs = range_of(snrs)
        hidden = hidden or max(size // 16, LEAST)
        self.attention = Attention(nn.Linear(size + 1, hidden), nn.Linear(hidden, size), -1)
        with torch.no_grad():
            self.attention.outer.weight.mul_(0.1)
        nn.init.constant_(self.attention.outer.bias, 2.0)

    def modulation(self, log_beta: Float[Tensor, " M"]) -> tuple[Tensor, None]:
        """The paper's scales, one row for each t; without an SNR there are none.

        Raises:
            RuntimeError: as `told`.
        """
        log_beta, _ = told(log_beta.to(self.u), self.snrs)
        return self(log_beta), None

    def put_on(self, layer: nn.Module, axis: int) -> Gated:
        self.attention.axis = axis
        return Attended(layer, self, axis)


class Attended(Gated):
    """A layer, the paper's gate on it, and attention to what both give."""

    gate: AttentionGate

    def forward(self, h: Tensor) -> Tensor:
        h = super().forward(h)
        if snr_db_now.get() is None:
            return h  # a check of shares, which brings scales of its own, and no SNR
        _, t = told(self.log_betas(h).to(self.gate.u), self.gate.snrs)  # (K, 1)
        return self.gate.attention(h, t.repeat_interleave(h.shape[0] // t.shape[0], 0))

    def folded(self, log_beta: Float[Tensor, " 1"]) -> nn.Module:
        """The plain layer at one β, and the attention at one SNR, which no weight can hold."""
        _, t = told(log_beta.to(self.gate.u), self.gate.snrs)
        return Followed(super().folded(log_beta), self.gate.attention.at_state(t))


class Followed(Wrapped):
    """A plain layer and the attention behind it."""

    def __init__(self, layer: nn.Module, attention: Attention) -> None:
        super().__init__(layer)
        self.attention = attention

    def forward(self, h: Tensor) -> Tensor:
        return self.attention(self.layer(h))
