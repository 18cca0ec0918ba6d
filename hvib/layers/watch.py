"""A watch over models whose calls could not be followed before they run."""

import threading
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from hvib.check import require
from hvib.layers.trace import Uses


class Watch:
    """Sees that no gated layer's weight is used without a call, in the first pass of each mode.

    A gate would not act there, and a fold would scale what the gated model did not. The first
    pass is the earliest place to know, since the model cannot be run without an input.

    Args:
        layers: the gated layers.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.seen: set[bool] = set()
        self.uses: Uses | None = None
        self.thread = 0

    def before(self, module: nn.Module, args: object) -> None:
        """Forward pre-hook of the module that is watched."""
        if module.training in self.seen or self.uses or torch.compiler.is_compiling():
            return
        self.seen.add(module.training)
        self.thread = threading.get_ident()
        self.uses = Uses(module, self.layers)
        self.uses.__enter__()

    def after(self, module: nn.Module, args: object, output: object) -> None:
        """Forward hook of the module that is watched, called when its pass fails too.

        Raises:
            ValueError: a layer's weight was used without a call.
        """
        if self.uses is None or self.thread != threading.get_ident():
            return
        uses, self.uses = self.uses, None
        uses.__exit__(None, None, None)
        uses.remove()
        named = module.named_modules()
        names = [name.removesuffix(".layer") for name, m in named if id(m) in uses.used]
        mend = (
            "the model uses weights of these layers other than by calling them, which a gate "
            "cannot follow: give hyperize an `example` input that does so, and they stay plain"
        )
        require(not names or output is None, "layers", names, mend)


def watch(modules: Iterable[nn.Module], layers: Sequence[nn.Module]) -> None:
    """Watch the next passes of some modules for uses of the weights of gated layers."""
    for module in modules:
        one = Watch(layers)
        module.register_forward_pre_hook(one.before)
        module.register_forward_hook(one.after, always_call=True)


def unwatch(model: nn.Module) -> None:
    """Take every watch off a model."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(getattr(hook, "__self__", None), Watch):
                    del hooks[key]
                    module._forward_hooks_always_called.pop(key, None)
