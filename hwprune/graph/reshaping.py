"""Labels through a change of shape: which dimensions merged, which were split."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hwprune.graph.call import Call, Split
from hwprune.graph.labels import Dims, Labels


def segments(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes of ``before`` and ``after`` that hold the same elements, as short as possible; size 1 is left out.

    >>> list(segments((2, 12, 1, 5), (2, 3, 4, 5)))
    [([0], [0]), ([1], [1, 2]), ([3], [3])]
    """
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    while left or right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (m := prod(before[i] for i in a)) != (n := prod(after[i] for i in b)):
            if m < n:
                a.append(left.pop(0))
            else:
                b.append(right.pop(0))
        yield a, b


def reshape(call: Call) -> Dims:
    """Labels of the first output, a view of the first input.

    Dimensions that merge repeat the labels of the channels among them. Where a dimension is split, the factor along
    which labels differ keeps them; where they differ along several, the largest keeps its labels and is the same along
    the others (heads x head size, groups x channels), unless the call says that another one does.
    """
    dims, before, after = call.first, call.op.inputs[0].shape, call.out_shape
    out: list[Labels | None] = [None] * len(after)
    if 0 in before:
        return tuple(out)
    for axis, size in enumerate(before):
        if size == 1:
            call.pin(dims[axis], "is a dimension of one that a reshape moves")
    wanted = call.keep.get(call.position, frozenset())
    for a, b in segments(before, after):
        labelled = [axis for axis in a if dims[axis] is not None]
        if not labelled:
            continue
        if len(labelled) > 1:  # copies beside channels are no channels
            labelled = [axis for axis in labelled if not call.is_soft(dims[axis])] or labelled
        if len(labelled) > 1:
            for axis in labelled:
                call.pin(dims[axis], "is merged with another dimension of channels")
            continue
        labels = _spread(dims, a, labelled[0], before).reshape([after[i] for i in b])
        candidates = _candidates(labels)
        keeper = next((axis for axis in candidates if b[axis] in wanted), candidates[0])
        first = np.moveaxis(labels, keeper, -1).reshape(-1, labels.shape[keeper])
        if len(first) > 1 and len(b) > 1:
            call.book.unite(first, first[:1])
            if len(candidates) > 1:
                call.splits.append(Split(call.position, tuple(b[i] for i in candidates), b[keeper], first[0]))
        out[b[keeper]] = first[0] if len(b) > 1 else labels
    return tuple(out)


def _spread(dims: Dims, axes: list[int], labelled: int, shape: tuple[int, ...]) -> Labels:
    """Labels of one dimension at every element of a run of axes. (product of the sizes,)"""
    labels = dims[labelled]
    if labels is None:
        raise ValueError("the axis has no labels")
    form = [len(labels) if axis == labelled else 1 for axis in axes]
    return np.broadcast_to(labels.reshape(form), [shape[axis] for axis in axes]).ravel()


def _candidates(labels: Labels) -> list[int]:
    """The axes along which labels differ, the largest first: any of them could go on carrying labels."""
    varying = [axis for axis in range(labels.ndim) if (labels != np.take(labels, [0], axis=axis)).any()]
    return sorted(varying or range(labels.ndim), key=lambda axis: -labels.shape[axis])
