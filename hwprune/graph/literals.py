"""Numbers in an operator's arguments that follow from widths, and what they have to be at other widths.

Each function of the table names, for one call of the dense trace, every such number: where it stands, its dense value,
and the labels that it counts. At other widths it is the dense value times the share of those labels that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from hwprune.graph.labels import Dims, Labels
from hwprune.graph.moving import bounds
from hwprune.graph.trace import Op, Value

DimsOf = Callable[[Value], Dims]


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A number in a call's arguments that follows from a width.

    Attributes:
        argument: its position.
        item: its place in a list, None for a plain number.
        dense: its value in the dense network.
        labels: what it counts.
    """

    argument: int
    item: int | None
    dense: int
    labels: Labels

    def at(self, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
        """The number where only labels with ``kept[label]`` stay."""
        return round(self.dense * int(kept[self.labels].sum()) / max(len(self.labels), 1))

    def given(self, args: Sequence[Any]) -> int | None:
        """The number that a call with these arguments has in this place, None where it has none."""
        if self.argument >= len(args):
            return None
        value = args[self.argument]
        if self.item is not None:
            value = value[self.item] if isinstance(value, (list, tuple)) and self.item < len(value) else None
        return value if isinstance(value, int) else None


def _sizes(op: Op, argument: int, dims: Dims, shape: Sequence[int]) -> Iterator[Literal]:
    given = op.args[argument] if argument < len(op.args) else None
    if isinstance(given, list | tuple) and len(given) == len(dims):
        for item, labels in enumerate(dims):
            if labels is not None and given[item] != -1:
                yield Literal(argument, item, shape[item], labels)


def _shape(op: Op, dims: DimsOf) -> Iterator[Literal]:
    yield from _sizes(op, 1, dims(op.outputs[0]), op.outputs[0].shape)


def _new_shape(op: Op, dims: DimsOf) -> Iterator[Literal]:
    yield from _sizes(op, 0, dims(op.outputs[0]), op.outputs[0].shape)


def _split(op: Op, dims: DimsOf) -> Iterator[Literal]:
    axis = int(op.args[2]) if len(op.args) > 2 else int(op.kwargs.get("dim", 0))
    for item, value in enumerate(op.outputs if op.name != "split" else op.outputs[:1]):
        if (labels := dims(value)[axis]) is not None:
            yield Literal(1, None if op.name == "split" else item, value.shape[axis], labels)


def _slice(op: Op, dims: DimsOf) -> Iterator[Literal]:
    axis = int(op.args[1]) if len(op.args) > 1 else 0
    labels, size = dims(op.inputs[0])[axis], op.inputs[0].shape[axis]
    if labels is None or op.outputs[0].shape[axis] == size:
        return
    start, end = (op.args[i] if i < len(op.args) else None for i in (2, 3))
    first, last = bounds(start, end, size)
    for argument, number, at in ((2, start, first), (3, end, last)):
        if not isinstance(number, int) or at in (0, size):
            continue
        if number < 0:
            yield Literal(argument, None, number, labels[at:])
        else:
            yield Literal(argument, None, at, labels[:at])


def _norm_groups(op: Op, dims: DimsOf) -> Iterator[Literal]:
    labels = dims(op.inputs[0])[1]
    if labels is not None:
        yield Literal(4, None, len(labels), labels)
        if int(op.args[6]) > 1:
            yield Literal(6, None, int(op.args[6]), labels)


def _norm_shape(op: Op, dims: DimsOf) -> Iterator[Literal]:
    count = len(op.args[1])
    for item, labels in enumerate(dims(op.inputs[0])[-count:]):
        if labels is not None:
            yield Literal(1, item, len(labels), labels)


def _conv_groups(op: Op, dims: DimsOf) -> Iterator[Literal]:
    groups, along = int(op.args[8]), dims(op.inputs[0])[1]
    if groups > 1 and along is not None:
        yield Literal(8, None, groups, along)


def _pads(op: Op, dims: DimsOf) -> Iterator[Literal]:
    amounts, out, x = op.args[1], dims(op.outputs[0]), op.inputs[0]
    for item, amount in enumerate(amounts):
        axis = len(x.shape) - 1 - item // 2
        labels = out[axis]
        if labels is not None and amount > 0:
            yield Literal(1, item, amount, labels[:amount] if item % 2 == 0 else labels[len(labels) - amount :])


LITERALS: Final[Mapping[str, Callable[[Op, DimsOf], Iterator[Literal]]]] = MappingProxyType(
    {
        **dict.fromkeys(["view", "_unsafe_view", "reshape", "expand", "new_zeros", "new_ones", "new_full"], _shape),
        **dict.fromkeys(["new_empty", "unflatten"], _shape),
        **dict.fromkeys(["zeros", "ones", "full", "empty"], _new_shape),
        **dict.fromkeys(["split", "split_with_sizes"], _split),
        **dict.fromkeys(["convolution", "_convolution"], _conv_groups),
        **dict.fromkeys(["native_layer_norm", "_fused_rms_norm"], _norm_shape),
        "constant_pad_nd": _pads,
        "native_group_norm": _norm_groups,
        "slice": _slice,
    }
)


def literals(op: Op, dims: DimsOf, *, offsets: bool = False) -> tuple[Literal, ...]:
    """All numbers in the call that follow from widths. With ``offsets`` the number of convolution groups does not."""
    find = LITERALS.get(op.name)
    return () if find is None or (offsets and find is _conv_groups) else tuple(find(op, dims))
