"""The calls of a forward pass: of a symbolic one, or of one on an example.

`symbolic` runs a model on placeholders (`torch.fx`), `followed` on an example input. Both give the
same record of what they saw: which layer was called, on what, and where its output went.
"""

import inspect
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from hvib.layers.change import Wrapped
from hvib.layers.kinds import outputs

# Reading these of a tensor, or calling these functions on it, makes no use of its numbers.
_ATTRIBUTES = {
    *("dtype", "device", "shape", "ndim", "requires_grad", "layout", "is_cuda", "itemsize"),
}
_FORM_ONLY = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "get_device"),
    *("is_floating_point", "is_complex", "is_contiguous", "storage_offset", "__len__"),
    *(f"{name}_like" for name in ("zeros", "ones", "empty", "full", "rand", "randn")),
    *(f"new_{name}" for name in ("zeros", "ones", "empty", "full", "tensor")),
}
# These use the numbers of their first argument alone.
_FIRST_ONLY = {"to", "type_as", "expand_as", "view_as", "reshape_as"}


@dataclass(eq=False)
class Call:
    """One call in a forward pass: of a layer, or of a function where `module` is None.

    The end of a pass is a call named `output`, whose module is the one that the pass went through.
    """

    module: nn.Module | None
    name: str = ""
    of_batch: bool = False
    """whether it was called on something computed from the model's input"""
    users: list["Call"] = field(default_factory=list)


@dataclass
class Calls:
    """What forward passes were seen to do."""

    made: list[Call] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    """id of each layer whose weight or bias was used otherwise than by calling the layer"""
    unfollowed: dict[int, nn.Module] = field(default_factory=dict)
    """modules that could not be followed, by id"""


def owners(layers: Iterator[nn.Module] | Sequence[nn.Module]) -> dict[int, list[nn.Module]]:
    """The layers that could take a gate, by the id of each of their parameters."""
    found = defaultdict(list)
    for layer in layers:
        if outputs(layer) is not None:
            for parameter in layer.parameters():
                found[id(parameter)].append(layer)
    return dict(found)


def is_torch(module: nn.Module) -> bool:
    """Whether a module is of a class of PyTorch's own."""
    return type(module).__module__.startswith("torch.nn")


class _Tracer(fx.Tracer):
    """Runs a model on placeholders; a module inside that cannot be run so becomes one call."""

    def __init__(self) -> None:
        super().__init__(param_shapes_constant=True)
        self.unfollowed: list[nn.Module] = []
        self.dropped: list[fx.Node] = []

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return outputs(module) is not None or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        stack, count = self.module_stack.copy(), len(self.graph.nodes)
        try:
            if self.is_leaf_module(module, "") and next(module.children(), None) is not None:
                self.unfollowed.append(module)
            return super().call_module(module, forward, args, kwargs)
        except Exception:
            # What the module did before it failed is half a pass, and tells nothing of the order.
            self.dropped += list(self.graph.nodes)[count:]
            self.module_stack = stack
            self.unfollowed.append(module)
            return self.create_proxy("call_module", self.path_of_module(module), args, kwargs)


def symbolic(model: nn.Module) -> Calls:
    """Follow the calls of a model on placeholders, once in each mode.

    The model's forward pass runs, so that it must be a copy that nothing else needs. Where a
    module cannot be run, because its course depends on values, its children are run apart.
    """
    found = Calls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mode in (True, False):
            _follow_symbols(model.train(mode), found)
    return found


def _follow_symbols(module: nn.Module, found: Calls) -> None:
    if outputs(module) is not None or isinstance(module, Wrapped):
        return
    if next(module.children(), None) is None:
        return
    apart = [module]
    if not is_torch(module) or isinstance(module, nn.Sequential):
        tracer, uses = _Tracer(), Uses(module, list(module.modules()))
        try:
            # A forward pass of this object alone is not the one that fx would run.
            if "forward" in vars(module):
                raise TypeError
            parameters = inspect.signature(module.forward).parameters.values()
            given = {p.name: p.default for p in parameters if p.default is not p.empty}
            with uses:  # of weights that the pass finds by `parameters()`, beside the graph
                tracer.trace(module, given)
            apart = tracer.unfollowed
        except Exception:
            tracer.dropped = list(getattr(tracer, "graph", fx.Graph()).nodes)
        finally:
            uses.remove()
        found.used |= uses.used
        _read_graph(module, tracer, found)
    for part in apart:
        found.unfollowed[id(part)] = part
        for child in part.children():
            _follow_symbols(child, found)


def _read_graph(root: nn.Module, tracer: _Tracer, found: Calls) -> None:
    """Add the calls in a graph, and the uses of weights in it and in what was dropped from it."""
    owner = owners(root.modules())
    calls: dict[fx.Node, Call] = {}
    dropped = set(tracer.dropped)
    for node in dict.fromkeys([*getattr(tracer, "graph", fx.Graph()).nodes, *tracer.dropped]):
        name = ""  # of a function or method; a layer may have the name of one
        if node.op in ("call_function", "call_method", "output"):
            name = str(getattr(node.target, "__name__", node.target))
        form = name == "getattr" and node.args[1] in _ATTRIBUTES
        if node.op == "get_attr" or form or name in _FORM_ONLY:
            continue
        inputs = node.all_input_nodes[: 1 if name in _FIRST_ONLY else None]
        for read in inputs:
            if read.op == "get_attr":
                parameter = _attribute(root, str(read.target))
                found.used |= {id(layer) for layer in owner.get(id(parameter), ())}
        if node in dropped:
            continue
        module = root if name == "output" else None
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
        calls[node] = call = Call(module, name)
        before = [calls[read] for read in inputs if read in calls]
        call.of_batch = node.op == "placeholder" or any(one.of_batch for one in before)
        for one in before:
            one.users.append(call)
    found.made += calls.values()


def _attribute(root: nn.Module, name: str) -> object:
    value: object = root
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _tensors(*values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Uses(TorchFunctionMode):
    """While it is entered: the layers whose parameters a function is given outside their call.

    Args:
        model: whose forward pass is watched.
        layers: those of its layers that are of interest.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.used: set[int] = set()
        self._owners = owners(layers)
        self._thread = threading.get_ident()
        self._running: list[nn.Module] = []
        self._handles = []
        for module in model.modules():
            if module is not model and not isinstance(module, torch.jit.ScriptModule):
                before = module.register_forward_pre_hook(self._enter)
                # Before hooks of the model's own, which are no part of a layer's call.
                after = module.register_forward_hook(
                    self._leave, prepend=True, with_kwargs=True, always_call=True
                )
                self._handles += [before, after]

    def remove(self) -> None:
        """Take the hooks off the modules."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, args: object) -> None:
        if threading.get_ident() == self._thread:
            self._running.append(module)

    def _leave(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        if threading.get_ident() == self._thread:
            self._running.pop()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        changed = args[0] if name == "__setitem__" else result
        if name not in _FORM_ONLY and _tensors(changed):
            inputs = _tensors(args[:1] if name in _FIRST_ONLY else (args, kwargs))
            self._note(name, inputs, changed)
        return result

    def _note(self, name: str, inputs: list[Tensor], result: object) -> None:
        own = self._running[-1]._parameters.values() if self._running else ()
        for tensor in inputs:
            if not any(tensor is parameter for parameter in own):
                self.used |= {id(layer) for layer in self._owners.get(id(tensor), ())}


class _Followed(Uses):
    """Besides, the calls in their order, each with those that its output goes to."""

    def __init__(self, model: nn.Module, given: object) -> None:
        super().__init__(model, list(model.modules()))
        self.made: list[Call] = []
        self._kept: list[Tensor] = []  # so that no later tensor has the id of an earlier one
        self._makers: dict[int, Call] = {}
        self.add(Call(None, "held"), [], [*model.parameters(), *model.buffers()])
        self.add(Call(None, "input", True), [], given)

    def add(self, call: Call, inputs: list[Tensor], result: object) -> None:
        """Note a call, what it was given and what came of it."""
        # What comes out of a custom autograd function has no maker, and is taken to be the batch.
        unknown = Call(None, of_batch=True)
        for maker in dict.fromkeys(self._makers.get(id(tensor), unknown) for tensor in inputs):
            call.of_batch |= maker.of_batch
            maker.users.append(call)
        for tensor in _tensors(result):
            self._kept.append(tensor)
            self._makers[id(tensor)] = call
        self.made.append(call)

    def _leave(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        super()._leave(module, args, kwargs, output)
        if outputs(module) is not None:
            self.add(Call(module), _tensors(args, kwargs), output)

    def _note(self, name: str, inputs: list[Tensor], result: object) -> None:
        super()._note(name, inputs, result)
        if not self._running or outputs(self._running[-1]) is None:
            self.add(Call(None, name), inputs, result)


def followed(model: nn.Module, example: Tensor | tuple[Any, ...]) -> Calls:
    """Follow the calls of a model's forward pass on an example, in `eval` mode.

    The model must be a copy that nothing else needs.

    Args:
        example: the model's input, or a tuple of its positional arguments.
    """
    given = example if isinstance(example, tuple) else (example,)
    follower = _Followed(model, given)
    try:
        with torch.no_grad(), follower:
            result = model.eval()(*given)
    except Exception as error:
        error.add_note("`hyperize` passed its `example` through the model when this happened")
        raise
    finally:
        follower.remove()
    follower.add(Call(model, "output"), _tensors(result), None)
    return Calls(follower.made, follower.used)
