"""Rules of the operators that lay channels out anew: stacked, repeated, shuffled, unfolded into patches, halved."""

from __future__ import annotations

import numpy as np

from hwprune.graph.call import Call
from hwprune.graph.labels import Dims, Labels


def stack(call: Call) -> list[Dims]:
    """Tensors side by side on a new dimension, which is no channels; all others share one fate."""
    tensors, rank = call.op.inputs, len(call.out_shape)
    axis = int(call.arg(1, "dim", 0)) % rank
    merged: list[Labels | None] = []
    for position in range(rank - 1):
        here = [call.dims(value)[position] for value in tensors]
        labels = here[0]
        for other in here[1:]:
            if not (labels is None and other is None):
                labels = call.unite(labels, other)
        merged.append(labels)
    return [(*merged[:axis], None, *merged[axis:])]


def unbind(call: Call) -> list[Dims]:
    """One tensor per index of a dimension: it stays, the others pass to all."""
    axis = int(call.arg(1, "dim", 0)) % call.rank
    call.pin(call.first[axis], "is taken apart index by index")
    return [(*call.first[:axis], *call.first[axis + 1 :])] * len(call.op.outputs)


def roll(call: Call) -> list[Dims]:
    """What goes out at one end comes in at the other: how many do is a literal, so a rolled dimension stays."""
    axes = call.arg(2, "dims", [])
    axes = [axes] if isinstance(axes, int) else axes
    rolled = {int(axis) % call.rank for axis in axes} if axes else set(range(call.rank))
    for axis in rolled:
        call.pin(call.first[axis], "is rolled")
    return [tuple(None if axis in rolled else labels for axis, labels in enumerate(call.first))]


def repeat(call: Call) -> list[Dims]:
    """The whole dimension several times over, its labels too; copies of a dimension of one are alike. repeat, tile."""
    new = len(call.out_shape) - call.rank
    out: list[Labels | None] = [call.book.copies(size) if size > 1 else None for size in call.out_shape[:new]]
    for axis, labels in enumerate(call.first):
        size, times = call.op.inputs[0].shape[axis], call.out_shape[axis + new]
        if size == 1 < times:
            out.append(call.book.copies(times))
        else:
            out.append(None if labels is None else np.tile(labels, times // size))
    return [tuple(out)]


def _fold(call: Call, labels: Labels | None, each: int) -> Labels | None:
    """Runs of ``each`` channels become one: they share one fate. (n * each,) -> (n,)"""
    if labels is None:
        return None
    table = labels.reshape(-1, each)
    call.book.unite(table, table[:, :1])
    return table[:, 0]


def _spread(labels: Labels | None, each: int) -> Labels | None:
    """One channel becomes a run of ``each``. (n,) -> (n * each,)"""
    return None if labels is None else np.repeat(labels, each)


def _pin_space(call: Call, axes: int) -> None:
    for labels in call.first[call.rank - axes :]:
        call.pin(labels, "is a spatial dimension that is laid out anew")


def pixel_shuffle(call: Call) -> list[Dims]:
    """(..., C r r, H, W) -> (..., C, H r, W r): the r * r channels of one pixel block share one fate."""
    factor = int(call.arg(1, "upscale_factor"))
    _pin_space(call, 2)
    return [(*call.first[:-3], _fold(call, call.first[-3], factor * factor), None, None)]


def pixel_unshuffle(call: Call) -> list[Dims]:
    """(..., C, H r, W r) -> (..., C r r, H, W): every channel becomes r * r of them."""
    factor = int(call.arg(1, "downscale_factor"))
    _pin_space(call, 2)
    return [(*call.first[:-3], _spread(call.first[-3], factor * factor), None, None)]


def channel_shuffle(call: Call) -> list[Dims]:
    """(groups, n) channels become (n, groups): the same offset goes in every group, as their number is fixed."""
    groups = int(call.arg(1, "groups"))
    labels = call.first[1]
    if labels is None:
        return [call.first]
    table = labels.reshape(groups, -1)
    call.book.unite(table, table[:1])
    return [(call.first[0], table.T.ravel(), *call.first[2:])]


def unfold_patches(call: Call) -> list[Dims]:
    """F.unfold, (N, C, H, W) -> (N, C k k, patches): every channel becomes one per kernel position. im2col."""
    each = int(np.prod(call.arg(1, "kernel_size")))
    _pin_space(call, 2)
    return [(*call.first[:-3], _spread(call.first[-3], each), None)]


def fold_patches(call: Call) -> list[Dims]:
    """F.fold, (N, C k k, patches) -> (N, C, H, W): the kernel positions of one channel share one fate. col2im."""
    each = int(np.prod(call.arg(2, "kernel_size")))
    _pin_space(call, 1)
    return [(*call.first[:-2], _fold(call, call.first[-2], each), None, None)]


def windows(call: Call) -> list[Dims]:
    """Tensor.unfold: windows of one dimension on a new last one; a dimension of channels stays."""
    axis = int(call.arg(1, "dimension")) % max(call.rank, 1)
    call.pin(call.first[axis] if call.rank else None, "is cut into windows")
    return [(*(None if i == axis else labels for i, labels in enumerate(call.first)), None)]


def diagonal(call: Call) -> list[Dims]:
    """Two dimensions become one, their diagonal, at the end: both stay."""
    pair = {int(call.arg(2, "dim1", 0)) % call.rank, int(call.arg(3, "dim2", 1)) % call.rank}
    for axis in pair:
        call.pin(call.first[axis], "is a side of a diagonal")
    return [(*(labels for axis, labels in enumerate(call.first) if axis not in pair), None)]


def triangle(call: Call) -> list[Dims]:
    """tril, triu: what is zeroed depends on the last two positions, so those stay."""
    for labels in call.first[-2:]:
        call.pin(labels, "is cut to a triangle")
    return [(*call.first[:-2], None, None)]


def quarter_turns(call: Call) -> list[Dims]:
    """rot90: a turn of two dimensions is a flip and a transposition, of labels as of values."""
    turns, (a, b) = int(call.arg(1, "k", 1)) % 4, (int(axis) % call.rank for axis in call.arg(2, "dims", [0, 1]))
    dims = list(call.first)

    def turned(axis: int) -> Labels | None:
        labels = dims[axis]
        return None if labels is None else labels[::-1]

    for _ in range(turns):  # one turn: the second dimension flipped, then both exchanged
        dims[a], dims[b] = turned(b), dims[a]
    return [tuple(dims)]


def gate(call: Call) -> list[Dims]:
    """GLU: the first half times the sigmoid of the second; index by index the halves share one fate."""
    axis = int(call.arg(1, "dim", -1)) % call.rank
    labels = call.first[axis]
    if labels is not None:
        table = labels.reshape(2, -1)
        call.book.unite(table[0], table[1])
        labels = table[0]
    return [(*call.first[:axis], labels, *call.first[axis + 1 :])]


def made_like(call: Call) -> list[Dims]:
    """zeros_like and its kin: as many channels as the tensor that they are made after, and the same ones."""
    return [call.first] if call.op.inputs else [(None,) * len(call.out_shape)]


def constant(call: Call) -> list[Dims]:
    """One number everywhere, so that any index may go: what it meets says which. zeros, ones, x.new_full."""
    return [tuple(call.book.copies(size) if size > 1 else None for size in call.out_shape)]
