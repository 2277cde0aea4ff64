"""One forward pass, recorded as a list of plain ATen calls.

The pass runs on ``meta`` tensors, so it costs no arithmetic and no memory and leaves the model as it was. Where a
model cannot run on them (it reads a value, or mixes in tensors of its own), fake tensors are tried and then real ones.
Every value has one number: an operator that writes in place gives its tensor a new number, so the record is in single
assignment form and nobody downstream has to know of in-place writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from hwprune.errors import ModelError
from hwprune.graph.hollow import hollow_result, on_meta
from hwprune.graph.inputs import Inputs, tensors_in
from hwprune.graph.watching import Watching
from hwprune.modes import first_names, modules_of, tensors_of


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the trace: its number and shape."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """One ATen call, free of torch: names, shapes and numbers only.

    Attributes:
        name: without namespace, overload and in-place underscore ("convolution", "add").
        module: path of the innermost module, "" for the root.
        module_type: that module's class name.
        args: positional arguments, with a `Value` where a tensor stood.
        kwargs: the same for keyword arguments.
        inputs: every tensor among the arguments, in order.
        outputs: what it returned; an in-place operator returns a new value.
    """

    name: str
    module: str
    module_type: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.module or 'the network itself'!r}"


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward pass did.

    Attributes:
        ops: the calls, in order.
        parameters: value of every parameter and buffer by its state-dict name; tied tensors share a value.
        inputs, outputs: the network's own, flattened.
        method: "meta", "fake" or "real": the kind of tensors that it ran on.
        static: numbers of the values that depend on parameters alone, not on the network's inputs.
    """

    ops: tuple[Op, ...]
    parameters: Mapping[str, Value]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    method: str
    static: frozenset[int] = frozenset()


_LISTS: Final = (list, tuple)
Forward = Callable[..., Any]
"""What to run instead of a model's own forward: ``forward(model, *inputs)``. Detectors need one."""


@dataclass
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    watching: Watching
    module_types: Mapping[str, str]
    hollow: bool
    ops: list[Op] = field(default_factory=list)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's wrapper, of use inside torch.compile alone, would cost more than the call

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []  # an id is only unique while its tensor lives
        self.next_number = 0
        self.static: set[int] = set()
        self.names: dict[Any, str] = {}
        self.tensors: dict[Any, bool] = {}

    def value(self, tensor: Tensor) -> Value:
        number = self.numbers.get(id(tensor))
        if number is None:
            return self.assign(tensor, static=True)
        return Value(number, tuple(tensor.shape))

    def assign(self, tensor: Tensor, *, static: bool) -> Value:
        self.alive.append(tensor)
        number = self.numbers[id(tensor)] = self.next_number
        self.next_number += 1
        if static:
            self.static.add(number)
        return Value(number, tuple(tensor.shape))

    def values(self, tree: Any, found: list[Value]) -> Any:
        """``tree`` with values in the place of tensors, which are added to ``found``."""
        if isinstance(tree, Tensor):
            found.append(value := self.value(tree))
            return value
        if isinstance(tree, _LISTS):
            return type(tree)([self.values(leaf, found) for leaf in tree])
        return tree

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.makes_tensors(func):  # questions to a tensor (its device), answered in numbers
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        found: list[Value] = []
        before = self.values(args, found), {key: self.values(value, found) for key, value in kwargs.items()}
        name, module = self.name(func), self.watching.innermost
        result = hollow_result(func, name, args) if self.hollow else None
        if result is None:
            result = func(*args, **kwargs)
        static = all(value.number in self.static for value in found)
        outputs = tuple([self.assign(leaf, static=static) for leaf in tensors_of_result(result)])
        self.ops.append(Op(name, module, self.module_types.get(module, ""), *before, tuple(found), outputs))
        return result

    def name(self, func: Any) -> str:
        if func not in self.names:
            self.names[func] = plain_name(func)
        return self.names[func]

    def makes_tensors(self, func: Any) -> bool:
        if func not in self.tensors:
            self.tensors[func] = makes_tensors(func)
        return self.tensors[func]


def tensors_of_result(result: Any) -> list[Tensor]:
    """What an operator returned, flattened."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, _LISTS) and not any(isinstance(leaf, _LISTS) for leaf in result):
        return [leaf for leaf in result if isinstance(leaf, Tensor)]
    return [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]


def makes_tensors(func: Any) -> bool:
    """Whether an operator returns tensors; others answer questions, such as a tensor's device."""
    return any("Tensor" in str(made.type) for made in func._schema.returns)


def plain_name(func: Any) -> str:
    """An operator's name without namespace, overload and in-place underscore."""
    name: str = func._schema.name.rpartition("::")[2]
    return name if name.startswith("_") or not name.endswith("_") else name.rstrip("_")


class _AsWatched(TorchFunctionMode):
    """Changes nothing. Some Python operators take another way under a mode, and later passes run under one; on meta
    tensors they do not, and such a mode would cost a fifth of the pass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


_STORES: Final = (dict, list, set)
# What nn.Module itself keeps in dictionaries, where a forward leaves nothing, but for tensors.
_OF_TORCH: Final = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, _STORES)) - {
    "_parameters",
    "_buffers",
}


@contextmanager
def running(model: nn.Module, forward: Forward | None, state: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """The model in eval mode, as it was before when all is over: whatever a pass leaves on modules is forgotten.

    Args:
        forward: runs in the place of the model's own.
        state: tensors in the place of parameters and buffers, by name; those of one tensor share its first name's.
    """
    modules = modules_of(model)
    before = [(module, vars(module).copy()) for module in modules.values()]
    stores = [
        (store, store.copy())
        for _, attributes in before
        for name, store in attributes.items()
        if name not in _OF_TORCH and isinstance(store, _STORES)
    ]
    if any(module.training for module in modules.values()):
        model.eval()
    if forward is not None:
        vars(model)["forward"] = partial(forward, model)
    if state is not None:
        _swap(modules, state)
    try:
        with _uncompiled():
            yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)
        for store, content in stores:
            if isinstance(store, list):
                store[:] = content
            else:
                store.clear()
                store.update(content)


def _uncompiled() -> AbstractContextManager[None]:
    """What torch.compile made runs as it was written: a watched pass is not to be compiled, nor is the watcher."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and to load it takes a second
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _swap(modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
    instead: dict[int, Tensor] = {}
    for path, module in modules.items():
        for store in (module._parameters, module._buffers):
            if store:
                before = f"{path}." if path else ""
                for name, tensor in store.items():
                    if tensor is not None and id(tensor) not in instead and before + name in state:
                        instead[id(tensor)] = state[before + name]
    for module in modules.values():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None and id(tensor) in instead:
                    store[name] = instead[id(tensor)]  # type: ignore[assignment]  # a parameter only by its place


def _record(
    model: nn.Module,
    inputs: Inputs,
    convert: Callable[[Tensor], Tensor],
    method: str,
    forward: Forward | None,
) -> Trace:
    state = tensors_of(model)
    first = first_names(state)
    converted = {name: convert(state[name].detach()) for name in dict.fromkeys(first.values())}
    like = next((tensor for tensor in state.values() if tensor.is_floating_point()), None)
    if method == "meta" and like is not None:
        like = on_meta(like)
    args, kwargs = Inputs(*inputs.placed(like)).mapped(convert)
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    with torch.no_grad(), running(model, forward, converted), Watching(model) as watching:
        module_types = {name: type(module).__name__ for name, module in watching.modules.items()}
        recorder = _Recorder(watching, module_types, method == "meta")
        parameters = {name: recorder.assign(tensor, static=True) for name, tensor in converted.items()}
        parameters = {name: parameters[first[name]] for name in state}
        start = tuple(recorder.assign(tensor, static=False) for tensor in given)
        with nullcontext() if method == "meta" else _AsWatched(), recorder:
            result = model(*args, **kwargs)
        outputs = tuple(recorder.value(tensor) for tensor in tensors_in(result))
        if not outputs:
            raise ModelError("it returns no tensor")
    return Trace(tuple(recorder.ops), parameters, start, outputs, method, frozenset(recorder.static))


def _traced(model: nn.Module, inputs: Inputs, method: str, forward: Forward | None) -> Trace:
    """Record one forward pass by the named method. What the forward raises is passed on."""
    if method == "meta":
        return _record(model, inputs, on_meta, method, forward)
    if method == "fake":
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return _record(model, inputs, lambda x: mode.from_tensor(x, static_shapes=True), method, forward)
    return _record(model, inputs, Tensor.clone, method, forward)


def trace(model: nn.Module, example_inputs: Any, forward: Forward | None = None) -> Trace:
    """Record one forward pass of ``model`` in eval mode; the model is left as it was.

    Args:
        example_inputs: an `Inputs`, a tuple of positional arguments, or the only argument.
        forward: called as ``forward(model, *inputs)`` in the place of the model's own.

    Raises:
        ModelError: the forward fails on these inputs even with real tensors; the cause is chained.
    """
    inputs = Inputs.of(example_inputs)
    for method in ("meta", "fake"):
        try:
            return _traced(model, inputs, method, forward)
        except Exception:  # any failure only says that these tensors will not do; the last attempt reports
            pass
    try:
        return _traced(model, inputs, "real", forward)
    except ModelError:
        raise  # a forward of ours has said what is wrong
    except Exception as error:
        shapes = ", ".join(map(str, inputs.shapes))
        raise ModelError(
            f"the network's forward fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=f"{type(model).__name__} on inputs of shape {shapes}",
            fix="pass example inputs that the network takes; run model.eval()(*inputs) to see the whole error",
        ) from error
