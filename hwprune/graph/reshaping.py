"""Labels through a change of shape: which dimensions merged, which were split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from hwprune.graph.labels import Book, Dims, Labels

Pin = Callable[[Labels | None, str], None]


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


def reshape(dims: Dims, before: tuple[int, ...], after: tuple[int, ...], book: Book, pin: Pin) -> Dims:
    """Labels of the tensor after a view from shape ``before`` to shape ``after``.

    Dimensions that merge repeat the labels of the channels among them. Where a dimension is split, the factor along
    which labels differ keeps them; where they differ along several, the largest keeps its labels and is the same along
    the others (heads x head size, groups x channels).
    """
    out: list[Labels | None] = [None] * len(after)
    if 0 in before:
        return tuple(out)
    for axis, size in enumerate(before):
        if size == 1:
            pin(dims[axis], "is a dimension of one that a reshape moves")
    for a, b in segments(before, after):
        labelled = [axis for axis in a if dims[axis] is not None]
        if not labelled:
            continue
        if len(labelled) > 1:
            for axis in labelled:
                pin(dims[axis], "is merged with another dimension of channels")
            continue
        labels = _spread(dims, a, labelled[0], before).reshape([after[i] for i in b])
        keeper = _keeper(labels)
        first = np.moveaxis(labels, keeper, -1).reshape(-1, labels.shape[keeper])
        if len(first) > 1 and len(b) > 1:
            book.unite(first, first[:1])
        out[b[keeper]] = first[0] if len(b) > 1 else labels
    return tuple(out)


def _spread(dims: Dims, axes: list[int], labelled: int, shape: tuple[int, ...]) -> Labels:
    """Labels of one dimension at every element of a run of axes. (product of the sizes,)"""
    labels = dims[labelled]
    if labels is None:
        raise ValueError("the axis has no labels")
    form = [len(labels) if axis == labelled else 1 for axis in axes]
    return np.broadcast_to(labels.reshape(form), [shape[axis] for axis in axes]).ravel()


def _keeper(labels: Labels) -> int:
    """The axis that goes on carrying labels: the one along which they differ, the largest of several."""
    varying = [axis for axis in range(labels.ndim) if (labels != np.take(labels, [0], axis=axis)).any()]
    return max(varying or range(labels.ndim), key=lambda axis: labels.shape[axis])
