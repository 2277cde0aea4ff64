"""Rules of the operators that move channels about: joining, padding, splitting, changes of shape and order."""

from __future__ import annotations

from typing import Final

import numpy as np

from hwprune.graph import reshaping
from hwprune.graph.call import Call
from hwprune.graph.labels import Dims, Labels

# Modules whose padding is an attribute, so that surgery can narrow it; F.pad's amounts are literals in a forward.
PADDING_MODULES: Final = tuple(f"{kind}Pad{n}d" for kind in ("Zero", "Constant") for n in (1, 2, 3))


def concatenate(call: Call) -> list[Dims]:
    """Labels follow one another on the dimension, and are united on the others. cat."""
    tensors = [value for value in call.op.inputs if value.shape != (0,)]
    axis = int(call.arg(1, "dim", 0)) % len(call.out_shape)
    out: list[Labels | None] = []
    for position in range(len(call.out_shape)):
        here = [call.dims(value)[position] for value in tensors]
        if all(labels is None for labels in here):
            out.append(None)
        elif position == axis:
            parts = []
            for labels, value in zip(here, tensors, strict=True):
                if labels is None:
                    labels = call.book.fresh(value.shape[axis])
                    call.pin(labels, "is concatenated from a constant")
                parts.append(labels)
            out.append(np.concatenate(parts))
        else:
            merged = here[0]
            for other in here[1:]:
                merged = call.unite(merged, other)
            out.append(merged)
    return [tuple(out)]


def pad(call: Call) -> list[Dims]:
    """Constant padding: free to go where a padding module holds the amounts, else pinned."""
    amounts = list(call.arg(1, "pad"))
    dims = list(call.first)
    for i in range(len(amounts) // 2):
        axis, (before, after) = call.rank - 1 - i, amounts[2 * i : 2 * i + 2]
        labels = dims[axis]
        if labels is None or (before == 0 and after == 0):
            continue
        if before < 0 or after < 0:
            call.pin(labels, "is cropped by a negative padding")
            dims[axis] = None
            continue
        front, back = call.book.fresh(before), call.book.fresh(after)
        if call.op.module_type not in PADDING_MODULES:
            call.pin(np.concatenate([front, back]), "is padding of a literal size; use a padding module to free it")
        dims[axis] = np.concatenate([front, labels, back])
    return [tuple(dims)]


def split(call: Call) -> list[Dims]:
    """Equal parts share one fate index by index, so that they stay equal; unequal ones are free of each other."""
    axis = int(call.arg(2, "dim", 0)) % call.rank
    labels = call.first[axis]
    sizes = [value.shape[axis] for value in call.op.outputs]
    if labels is None:
        parts: list[Labels | None] = [None] * len(sizes)
    elif len(set(sizes)) > 1:
        parts = list(np.split(labels, np.cumsum(sizes)[:-1]))
    else:
        table = labels.reshape(len(sizes), -1)
        call.book.unite(table, table[:1])
        parts = list(table)
    rest = call.first
    return [(*rest[:axis], part, *rest[axis + 1 :]) for part in parts]


def bounds(start: object, end: object, size: int) -> tuple[int, int]:
    """Ends of a slice as numbers from 0 to ``size``, as Python counts them."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


def slice_(call: Call) -> list[Dims]:
    """A run of channels passes with its labels; whether the ends follow the widths is for the probe to find out."""
    axis = int(call.arg(1, "dim", 0)) % call.rank
    labels = call.first[axis]
    if labels is not None and call.out_shape[axis] != len(labels):
        if int(call.arg(4, "step", 1)) != 1:
            call.pin(labels, "is cut into by a slice with a step")
            labels = None
        else:
            first, last = bounds(call.arg(2, "start"), call.arg(3, "end"), len(labels))
            labels = labels[first:last]
    return [(*call.first[:axis], labels, *call.first[axis + 1 :])]


def select(call: Call) -> list[Dims]:
    """One index of a dimension, by number."""
    axis = int(call.arg(1, "dim", 0)) % call.rank
    call.pin(call.first[axis], "is indexed by number")
    return [(*call.first[:axis], *call.first[axis + 1 :])]


def transpose(call: Call) -> list[Dims]:
    """Two dimensions change places. t, transpose, permute."""
    if call.op.name == "permute":
        order = [int(axis) % call.rank for axis in call.arg(1, "dims")]
    else:
        order = list(range(call.rank))
        a, b = (0, 1) if call.op.name == "t" else (int(call.arg(1)) % call.rank, int(call.arg(2)) % call.rank)
        if call.rank > 1:
            order[a], order[b] = order[b], order[a]
    return [tuple(call.first[axis] for axis in order)]


def reshape(call: Call) -> list[Dims]:
    """view, flatten, unflatten: labels are repeated where dimensions merge; a split keeps the larger factor."""
    return [reshaping.reshape(call)]


def expand(call: Call) -> list[Dims]:
    """Dimensions of size one, and new ones, hold copies, any of which may go; others pass."""
    new = len(call.out_shape) - call.rank
    out: list[Labels | None] = [call.book.copies(size) if size > 1 else None for size in call.out_shape[:new]]
    for axis, labels in enumerate(call.first):
        if call.op.inputs[0].shape[axis] == call.out_shape[axis + new]:
            out.append(labels)
        else:
            call.pin(labels, f"is broadcast over {call.out_shape[axis + new]}")
            out.append(call.book.copies(call.out_shape[axis + new]))
    return [tuple(out)]


def flip(call: Call) -> list[Dims]:
    """The order of a dimension is turned round, and its labels with it."""
    axes = {int(axis) % call.rank for axis in call.arg(1, "dims")}
    return [tuple(x[::-1] if x is not None and i in axes else x for i, x in enumerate(call.first))]
