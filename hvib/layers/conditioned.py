"""A gated model whose β is an input."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from hvib.check import require
from hvib.hyper import Gated, at


class Conditioned(nn.Module):
    """A gated model with log β as a second input, to be exported: a β for each request.

    Args:
        model: gated, of one input; of a `System`, its device or its network.

    Raises:
        ValueError: the model is not gated.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        gated = any(isinstance(m, Gated) for m in model.modules())
        require(gated, "model", type(model).__name__, "hyperize it first; this one has no gates")
        self.model = model

    def forward(self, x: Tensor, log_beta: Float[Tensor, " M"]) -> Any:
        """The model's output for M equal shares of a batch; M = 1 and M = len(x) among them."""
        with at(log_beta=log_beta):
            return self.model(x)
