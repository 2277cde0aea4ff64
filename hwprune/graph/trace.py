"""One forward pass, recorded as a list of plain ATen calls.

The pass runs on ``meta`` tensors, so it costs no arithmetic and no memory and leaves the model as it was. Where a
model cannot run on them (it reads a value, or mixes in tensors of its own), fake tensors are tried and then real ones.
Every value has one number: an operator that writes in place gives its tensor a new number, so the record is in single
assignment form and nobody downstream has to know of in-place writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.module_tracker import ModuleTracker

from hwprune.errors import ModelError
from hwprune.modes import evaluating


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
        outputs: what it returned; an in-place operator returns a new value.
    """

    name: str
    module: str
    module_type: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.module or 'the network itself'!r}"

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Every tensor among the arguments, in order."""
        leaves, _ = tree_flatten((self.args, dict(self.kwargs)), is_leaf=lambda x: isinstance(x, Value))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Value))


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward pass did.

    Attributes:
        ops: the calls, in order.
        parameters: value of every parameter and buffer by its state-dict name; tied tensors share a value.
        inputs, outputs: the network's own, flattened.
        method: "meta", "fake" or "real": the kind of tensors that it ran on.
    """

    ops: tuple[Op, ...]
    parameters: Mapping[str, Value]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    method: str


@dataclass
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    tracker: ModuleTracker
    module_types: Mapping[str, str]
    ops: list[Op] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []  # an id is only unique while its tensor lives
        self.next_number = 0

    def value(self, tensor: Tensor) -> Value:
        if id(tensor) not in self.numbers:
            return self.assign(tensor)
        return Value(self.numbers[id(tensor)], tuple(tensor.shape))

    def assign(self, tensor: Tensor) -> Value:
        self.alive.append(tensor)
        self.numbers[id(tensor)] = self.next_number
        self.next_number += 1
        return Value(self.numbers[id(tensor)], tuple(tensor.shape))

    def values(self, tree: Any) -> Any:
        return tree_map(lambda leaf: self.value(leaf) if isinstance(leaf, Tensor) else leaf, tree)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = self.values(args), self.values(kwargs)
        result = func(*args, **kwargs)
        leaves, _ = tree_flatten(result)
        outputs = tuple(self.assign(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        module = max(self.tracker.parents, key=len).partition(".")[2]
        name = func._schema.name.rpartition("::")[2]
        if not name.startswith("_") and name.endswith("_"):
            name = name.rstrip("_")
        self.ops.append(Op(name, module, self.module_types.get(module, ""), *before, outputs))
        return result


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _record(model: nn.Module, inputs: tuple[Tensor, ...], convert: Callable[[Tensor], Tensor], method: str) -> Trace:
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    converted = {name: convert(tensor.detach()) for name, tensor in state.items()}
    given = tuple(convert(tensor) for tensor in inputs)
    module_types = {name: type(module).__name__ for name, module in model.named_modules()}
    with torch.no_grad(), evaluating(model), ModuleTracker() as tracker:
        recorder = _Recorder(tracker, module_types)
        parameters = {name: recorder.assign(tensor) for name, tensor in converted.items()}
        _share_tied(model, parameters)
        start = tuple(recorder.assign(tensor) for tensor in given)
        with recorder:
            result = torch.func.functional_call(model, converted, given)
        leaves, _ = tree_flatten(result)
        outputs = tuple(recorder.value(leaf) for leaf in leaves if isinstance(leaf, Tensor))
    return Trace(tuple(recorder.ops), parameters, start, outputs, method)


def _share_tied(model: nn.Module, parameters: dict[str, Value]) -> None:
    """Second names of a tied tensor: ``functional_call`` gives all of them the first name's tensor."""
    first: dict[int, str] = {}
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        owner = first.setdefault(id(tensor), name)
        parameters[name] = parameters[owner]


def trace(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> Trace:
    """Record one forward pass of ``model`` in eval mode; the model is left as it was.

    Raises:
        ModelError: the forward fails on these inputs even with real tensors; the cause is chained.
    """

    def fake(method: FakeTensorMode) -> Callable[[Tensor], Tensor]:
        return lambda tensor: method.from_tensor(tensor, static_shapes=True)

    try:
        return _record(model, example_inputs, _on_meta, "meta")
    except Exception:  # any failure only says that meta tensors will not do; the last attempt reports
        pass
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return _record(model, example_inputs, fake(mode), "fake")
    except Exception:  # the same
        pass
    try:
        return _record(model, example_inputs, Tensor.clone, "real")
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example_inputs)
        raise ModelError(
            f"the network's forward fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=f"{type(model).__name__} on inputs of shape {shapes}",
            fix="pass example inputs that the network takes; run model.eval()(*inputs) to see the whole error",
        ) from error
