"""A second pass at other widths, compared with the dense one call by call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from hwprune.graph.literals import Literal
from hwprune.graph.trace import Op, Trace, Value

_LIBRARIES: Final = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
_ARITHMETIC: Final = frozenset(["add", "sub", "rsub", "mul", "div", "pow"])


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A call that does not follow the widths.

    Attributes:
        position: in the trace.
        literals: the numbers among its arguments that have the wrong value.
        line: "file:line" of the user's code.
    """

    position: int
    literals: tuple[Literal, ...]
    line: str


class LostError(Exception):
    """The pass runs other operators than the dense one, from ``op`` on."""

    def __init__(self, op: Op, line: str) -> None:
        super().__init__(f"runs other operators at another width ({op})")
        self.op, self.line = op, line


@dataclass
class Follower:
    """Compares every call with the dense one and, where it goes wrong, returns what it should have returned.

    So one pass finds every place that does not follow the widths.

    Attributes:
        dense: the pass to compare with.
        sizes: value of the dense pass -> the shape it has to have now.
        numbers: position -> numbers in the arguments that follow from widths, with the value they have to have now.
        mismatches: what was found.
        rescaled: positions of arithmetic with a plain number that depends on a width.
    """

    dense: Trace
    sizes: Callable[[Value], tuple[int, ...]]
    numbers: Callable[[int], Sequence[tuple[Literal, int]]]
    mismatches: list[Mismatch] = field(default_factory=list)
    rescaled: set[int] = field(default_factory=set)
    position: int = 0

    def __post_init__(self) -> None:
        self.read = {value.number for op in self.dense.ops for value in op.inputs}
        self.read |= {value.number for value in self.dense.outputs}

    def cut_whole(self, position: int, x: Tensor) -> Tensor:
        """Instead of a part of the channels all of them were taken: the slice's end did not follow the widths."""
        literals = tuple(literal for literal, _ in self.numbers(position))
        self.mismatches.append(Mismatch(position, literals, _line_of_user(sys._getframe())))
        return x.new_empty(self.sizes(self.dense.ops[position].outputs[0]))

    def reshaped(self, x: Tensor) -> Tensor | None:
        """What a change of shape that failed before it reached an operator should have made; None if it is no such."""
        for position in range(self.position, min(self.position + 2, len(self.dense.ops))):
            op = self.dense.ops[position]
            if op.name in ("view", "_unsafe_view"):
                self.position = position + 1
                literals = tuple(literal for literal, _ in self.numbers(position))
                self.mismatches.append(Mismatch(position, literals, _line_of_user(sys._getframe())))
                return x.new_empty(self.sizes(op.outputs[0]))
        return None

    def result(self, op: Op, run: Callable[[], Any], tensors: Sequence[Tensor]) -> Any:
        """See `Guide.result`."""
        position, self.position = self.position, self.position + 1
        before = self.dense.ops[position] if position < len(self.dense.ops) else None
        if before is not None and (before.name, op.name) == ("slice", "alias"):
            return self.cut_whole(position, tensors[0])
        if before is None or before.name != op.name:
            raise LostError(op, _line_of_user(sys._getframe()))
        wrong = [literal for literal, value in self.numbers(position) if literal.given(op) not in (value, -1, None)]
        if op.name in _ARITHMETIC and _plain(op) != _plain(before):
            self.rescaled.add(position)
        try:
            result = run()
        except Exception:
            # Whatever goes wrong here is what the comparison is for: the call insists on its old sizes.
            result = None
        expected = [self.sizes(value) for value in before.outputs]
        leaves, spec = tree_flatten(result)
        made = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]
        read = [i for i, value in enumerate(before.outputs) if value.number in self.read]
        as_expected = len(made) == len(expected) and all(made[i] == expected[i] for i in read)
        if wrong or not as_expected:
            self.mismatches.append(Mismatch(position, tuple(wrong), _line_of_user(sys._getframe())))
        if as_expected:
            return result
        like = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), tensors[0] if tensors else torch.empty(0))
        instead = [like.new_empty(shape) for shape in expected]
        if len(made) == len(expected):
            supply = iter(instead)
            return tree_unflatten([next(supply) if isinstance(x, Tensor) else x for x in leaves], spec)
        return instead[0] if len(instead) == 1 and op.name not in _SEVERAL else instead


_RESHAPES: Final = frozenset([torch.Tensor.reshape, torch.reshape, torch.Tensor.unflatten, torch.unflatten])


class Reshapes(TorchFunctionMode):  # type: ignore[misc]  # torch leaves it untyped
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
                made = self.follower.reshaped(args[0])
            if made is None:
                raise
            return made


# Operators that return a list even of one tensor.
_SEVERAL: Final = frozenset(["split", "split_with_sizes", "unbind", "chunk"])


def _plain(op: Op) -> list[Any]:
    return [value for value in (*op.args, *op.kwargs.values()) if isinstance(value, int | float)]


def _line_of_user(frame: FrameType | None) -> str:
    """The innermost line outside of torch and of this package."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_LIBRARIES) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown line"


def culprit(error: BaseException, model: nn.Module) -> tuple[str, str]:
    """Path of the innermost module whose own method raised, and the line of the user's code."""
    names = {id(module): name for name, module in model.named_modules()}
    module, line, at = "", "unknown line", error.__traceback__
    while at is not None:
        owner = at.tb_frame.f_locals.get("self")
        file = at.tb_frame.f_code.co_filename
        if isinstance(owner, nn.Module) and id(owner) in names:
            module = names[id(owner)]
        if not file.startswith(_LIBRARIES):
            line = f"{file}:{at.tb_lineno}"
        at = at.tb_next
    return module, line
