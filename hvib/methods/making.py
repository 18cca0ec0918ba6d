"""A gated model by the name of the method that trains it."""

from typing import Any

from torch import Tensor, nn

from hvib.check import require
from hvib.checks.numbers import ends_of
from hvib.methods.belonging import mark
from hvib.methods.registry import METHODS


def gated_by(
    method: str,
    model: nn.Module,
    betas: tuple[float, float] | None,
    seed: int,
    example: Tensor | tuple[Any, ...] | None = None,
) -> nn.Module:
    """A copy of a plain model, gated as a method has it; it says what it is for.

    Args:
        method: its name, also without the `hyper-vib-` before it; `paper` for the paper's.
        betas: the ends of the range of β; the paper's gates need none.
        seed: of the gates' initial parameters.
        example: an input, as `hyperize` takes it.

    Raises:
        ValueError: no method of that name trains one gated network, or it needs a range of β, or
            `betas` are not the two ends of one.
    """
    betas = None if betas is None else ends_of(betas)
    named = {name: each for name, each in METHODS.all().items() if each.convert}
    short = {name.removeprefix("hyper-vib-"): each for name, each in named.items()}
    known = named | short | {"paper": named["hyper-vib"]}
    mend = f"no method that trains one gated network; choose one of {', '.join(sorted(named))}"
    require(method in known, "method", method, mend)
    found = known[method]
    assert found.convert  # for mypy
    gated = found.convert(model, betas, seed, *(() if example is None else (example,)))
    mark(gated, found.name, betas)
    return gated
