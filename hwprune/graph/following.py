"""A second pass at other widths, compared with the dense one call by call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from hwprune.graph.blame import line_of_user
from hwprune.graph.hollow import hollow_result, on_meta
from hwprune.graph.inputs import Inputs, tensors_in
from hwprune.graph.labels import Dims
from hwprune.graph.literals import LITERALS, Literal
from hwprune.graph.trace import Forward, Op, Trace, Value, makes_tensors, plain_name, running, tensors_of_result

_ARITHMETIC: Final = frozenset(["add", "sub", "rsub", "mul", "div", "pow"])
_PRODUCTS: Final = frozenset(["addmm", "baddbmm", "bmm", "mm"])
# Operators that lay values out anew or multiply matrices, which come and go with the strides.
_SOFT: Final = _PRODUCTS | frozenset(
    (
        *("alias", "clone", "contiguous", "detach", "expand", "lift_fresh", "permute", "reshape", "squeeze", "t"),
        *("_to_copy", "transpose", "_unsafe_view", "unsqueeze", "view"),
    )
)
# With one index left to go over, einsum multiplies and sums instead.
_INSTEAD_OF_PRODUCTS: Final = frozenset(["mul", "sum"])
_VIEWS: Final = frozenset(["view", "_unsafe_view", "reshape"])
# Operators whose numbers may differ: those that follow widths, and strides.
_FOLLOWING: Final = frozenset([*LITERALS, "as_strided", "empty_strided", "new_empty_strided"])
# Operators that return a list even of one tensor.
_SEVERAL: Final = frozenset(["split", "split_with_sizes", "unbind", "chunk"])


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A call that does not follow the widths.

    Attributes:
        position: in the trace.
        wrong: (argument, item, value) of the numbers among its arguments that have the wrong value, see `Literal`; the
            value is None where it is not known.
        line: "file:line" of the user's code.
    """

    position: int
    wrong: tuple[tuple[int, int | None, int | None], ...]
    line: str


class LostError(Exception):
    """The pass runs other operators than the dense one from the call at ``position`` on."""

    def __init__(self, position: int, op: Op, instead: str, line: str) -> None:
        super().__init__(f"runs other operators at another width ({instead!r} instead of {op}, {line})")
        self.position, self.op = position, op


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Compares every call with the dense one and, where it goes wrong, returns what it should have returned.

    So one pass finds every place that does not follow the widths.

    Attributes:
        mismatches: what was found.
        rescaled: positions of arithmetic with a plain number that depends on a width.
        adapted: positions of calls with a number that is right here, and another than in the dense pass.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's wrapper, of use inside torch.compile alone, would cost more than the call

    def __init__(
        self,
        dense: Trace,
        dims: Callable[[Value], Dims],
        literals: Callable[[int], Sequence[Literal]],
        stays: NDArray[np.bool_],
    ) -> None:
        """``dims`` and ``literals`` (by position) hold coupled channels' numbers, of which only ``stays`` are left."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.dense, self.dims, self.literals = dense, dims, literals
        self.kept = np.append(stays, True)  # -1, a channel that always stays, finds the last
        self.counts: dict[int, tuple[Any, int]] = {}
        self.names: dict[Any, str] = {}
        self.read = {value.number for op in dense.ops for value in op.inputs}
        self.read |= {value.number for value in dense.outputs}
        self.hollow = dense.method == "meta"
        self.begin()

    def begin(self) -> None:
        """Forget the last pass."""
        self.mismatches: list[Mismatch] = []
        self.rescaled: set[int] = set()
        self.adapted: set[int] = set()
        self.position = 0
        self.adrift = False
        self.owed = False  # whether the last sum may have been another one than the dense pass's: of a bias

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Shape that a value of the dense pass has to have now."""
        found = []
        for size, numbers in zip(value.shape, self.dims(value), strict=True):
            if numbers is not None:
                known = self.counts.get(id(numbers))  # an id needs its array alive
                if known is None:
                    known = self.counts[id(numbers)] = (numbers, int(self.kept[numbers].sum()))
                size = known[1]
            found.append(size)
        return tuple(found)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := self.names.get(func)) is None:
            name = self.names[func] = plain_name(func) if makes_tensors(func) else ""
        if not name:
            return func(*args, **(kwargs or {}))
        position = self._find(name)
        if position is None:
            return func(*args, **(kwargs or {}))
        self.position = position + 1
        before = self.dense.ops[position]
        if (before.name, name) == ("slice", "alias"):
            # Instead of a part of the channels all of them were taken: the slice's end did not follow the widths.
            return self._instead(position, args[0], ())
        wrong: list[Literal] = []
        for literal in self.literals(position):
            number = literal.given(args)
            if number not in (literal.at(self.kept), -1, None):
                wrong.append(literal)
            if number not in (literal.dense, -1, None):
                self.adapted.add(position)
        strange = name not in _FOLLOWING and _plain(args, kwargs) != _plain(before.args, before.kwargs)
        if strange and name in _ARITHMETIC:
            self.rescaled.add(position)
            strange = False
        try:
            result = hollow_result(func, name, args) if self.hollow else None
            if result is None:
                result = func(*args, **(kwargs or {}))
        except Exception:
            # Whatever goes wrong here is what the comparison is for: the call insists on its old sizes.
            result = None
        return self._compared(position, before, result, args, wrong, strange)

    def _find(self, name: str) -> int | None:
        """Position of the dense call that stands for this one; None where there is none to compare with.

        torch's composites choose layouts and products by strides, and a dimension of one makes a transposed tensor
        contiguous: a copy becomes a view, a product and a sum one product with an addend. From where such calls differ
        the pass is adrift, until the next call that computes something else.
        """
        ops, position = self.dense.ops, self.position
        if not self.adrift and position < len(ops) and _alike(ops[position].name, name):
            self.owed = self.owed and name in _SOFT
            return position
        self.adrift = True
        if name in _SOFT:
            return None
        products = 0
        while position < len(ops):
            dense = ops[position].name
            if _alike(dense, name):
                self.adrift, self.owed = False, name == "add" and products > 0
                return position
            products += dense in _PRODUCTS
            bias = dense == "add" and (products > 0 or self.owed)  # which the other pass had in its product
            if dense not in _SOFT and not bias:
                break
            position += 1
        if name == "add" or (products and name in _INSTEAD_OF_PRODUCTS):
            return None
        raise LostError(self.position, ops[min(position, len(ops) - 1)], name, line_of_user(sys._getframe()))

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Compare the network's outputs."""
        made = [tuple(x.shape) for x in outputs]
        if made != [self.sizes(value) for value in self.dense.outputs]:
            last = len(self.dense.ops) - 1
            self.mismatches.append(Mismatch(last, (), "the network's outputs"))

    def _compared(
        self, position: int, before: Op, result: Any, args: Any, wrong: Sequence[Literal], strange: bool
    ) -> Any:
        made = [tuple(leaf.shape) for leaf in tensors_of_result(result)]
        expected = [self.sizes(value) for value in before.outputs]
        as_expected = made == expected or (
            len(made) == len(expected)
            and all(
                mine == other or value.number not in self.read
                for mine, other, value in zip(made, expected, before.outputs, strict=True)
            )
        )
        if not as_expected and not wrong and result is not None and before.name in _SOFT:
            self.adrift = True  # of the same name by chance; what it feeds will tell
            return result
        if wrong or strange or not as_expected:
            self.mismatches.append(Mismatch(position, _wrong(wrong, args), line_of_user(sys._getframe())))
        if as_expected:
            return result
        leaves, spec = tree_flatten(result)
        like = next((x for x in (*leaves, *tree_flatten(args)[0]) if isinstance(x, Tensor)), torch.empty(0))
        instead = [like.new_empty(shape) for shape in expected]
        if len(made) == len(expected) and not isinstance(result, Tensor):
            supply = iter(instead)
            return tree_unflatten([next(supply) if isinstance(x, Tensor) else x for x in leaves], spec)
        return instead[0] if len(instead) == 1 and before.name not in _SEVERAL else instead

    def reshaped(self, x: Tensor, sizes: Any) -> Tensor | None:
        """What a change of shape that failed before it reached an operator should have made; None if it is no such."""
        for position in range(self.position, min(self.position + 2, len(self.dense.ops))):
            if self.dense.ops[position].name in _VIEWS:
                self.position = position + 1
                asked = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else list(sizes)
                return self._instead(position, x, (x, asked))
        return None

    def _instead(self, position: int, x: Tensor, args: Any) -> Tensor:
        wrong = [literal for literal in self.literals(position) if literal.given(args) != literal.at(self.kept)]
        self.mismatches.append(Mismatch(position, _wrong(wrong, args), line_of_user(sys._getframe())))
        return x.new_empty(self.sizes(self.dense.ops[position].outputs[0]))


_NUMBERS: Final = (int, float)
_LISTS: Final = (list, tuple)
_RESHAPES: Final = frozenset([torch.Tensor.reshape, torch.reshape, torch.Tensor.unflatten, torch.unflatten])


class _Reshapes(TorchFunctionMode):
    """Catches changes of shape that fail in torch's own checks, before any operator is called."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self.follower = follower

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _RESHAPES:
            return func(*args, **(kwargs or {}))
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError:
            with _disable_current_modes():
                made = self.follower.reshaped(args[0], args[1:])
            if made is None:
                raise
            return made


def follow(
    model: nn.Module,
    state: Mapping[str, Tensor],
    inputs: Inputs,
    forward: Forward | None,
    follower: Follower,
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Run ``model`` with other tensors, on the kind of tensors that the dense pass ran on; it is left as it was.

    Args:
        state: parameters and buffers by name.
        prepare: sets attributes of the model's modules for this pass.

    What the model's code raises is passed on.
    """
    run = partial(_follow, model, state, inputs, forward, follower, prepare)
    if follower.dense.method == "meta":
        try:
            return run(guarded=False)
        except RuntimeError:
            follower.begin()  # once more, with an eye on what torch itself refuses
    return run(guarded=True)


def _follow(
    model: nn.Module,
    state: Mapping[str, Tensor],
    inputs: Inputs,
    forward: Forward | None,
    follower: Follower,
    prepare: Callable[[], object],
    *,
    guarded: bool,
) -> None:
    like = next((tensor for tensor in state.values() if tensor.is_floating_point()), None)
    method = follower.dense.method
    with ExitStack() as stack:
        convert: Callable[[Tensor], Tensor] = on_meta if method == "meta" else Tensor.detach
        if method == "fake":
            mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            convert = partial(mode.from_tensor, static_shapes=True)
        tensors = {name: convert(tensor) for name, tensor in state.items()}
        like = on_meta(like) if method == "meta" and like is not None else like
        args, kwargs = Inputs(*inputs.placed(like)).mapped(convert)
        stack.enter_context(torch.no_grad())
        stack.enter_context(running(model, forward, tensors))
        prepare()
        if guarded:
            stack.enter_context(_Reshapes(follower))
        stack.enter_context(follower)
        result = model(*args, **kwargs)
    follower.finish(tensors_in(result))


def _alike(dense: str, name: str) -> bool:
    return dense == name or (dense in _VIEWS and name in _VIEWS) or (dense, name) == ("slice", "alias")


def _wrong(literals: Sequence[Literal], args: Any) -> tuple[tuple[int, int | None, int | None], ...]:
    return tuple((literal.argument, literal.item, literal.given(args)) for literal in literals)


def _plain(args: Any, kwargs: Any) -> list[Any]:
    """The numbers among a call's arguments."""
    found: list[Any] = []
    for value in (*args, *(kwargs or {}).values()):
        if isinstance(value, _NUMBERS):
            found.append(value)
        elif isinstance(value, _LISTS):
            found += [x for x in value if isinstance(x, _NUMBERS)]
    return found
