"""Rules of the operators that mix channels: convolutions, matrix products, normalisations, reductions."""

from __future__ import annotations

import numpy as np

from hwprune.graph.call import Call
from hwprune.graph.labels import Dims, Labels


def convolve(call: Call) -> list[Dims]:
    """Unites the input's channels with the weight's input dimension; the output has the weight's other one.

    With groups, one whole convolution group goes at a time: its inputs and outputs are one coupled channel
    (Liu et al. 2021, section 3.2). Depthwise is the case of one input channel per group.
    """
    x, weight, bias = call.arg(0), call.arg(1), call.arg(2)
    transposed, groups = bool(call.arg(6, "transposed", False)), int(call.arg(8, "groups", 1))
    w = call.dims(weight)
    for axis in range(2, len(weight.shape)):
        if (labels := w[axis]) is not None:
            call.book.hide(labels)
    for labels in call.dims(x)[2:]:
        call.pin(labels, "is a spatial dimension of a convolution")
    channels = call.dims(x)[1]
    if groups == 1:
        into, out = (w[0], w[1]) if transposed else (w[1], w[0])
        call.unite(channels, into)
        if into is not None:
            call.contracted.append(into)
    else:
        out = _couple_conv_groups(call, channels, w, groups, transposed)
    if bias is not None:
        call.unite(call.dims(bias)[0], out)
    return [(call.dims(x)[0], out, *(None,) * (len(weight.shape) - 2))]


def _couple_conv_groups(call: Call, channels: Labels | None, w: Dims, groups: int, transposed: bool) -> Labels | None:
    along, within = w[0], w[1]
    if within is not None:
        call.book.hide(within)
    if along is None:
        call.pin(channels, "feeds a grouped convolution whose weight is computed")
        return None
    by_group = along.reshape(groups, -1)
    call.book.unite(by_group, by_group[:, :1])
    if transposed:  # weight is (in, out / groups, ...): the outputs get labels of their own
        per_group = call.out_shape[1] // groups
        call.unite(channels, along)
        return np.repeat(by_group[:, 0], per_group)
    if channels is None:
        call.pin(along, "takes a dimension that is not channels")
    else:
        call.book.unite(channels.reshape(groups, -1), by_group[:, :1])
    return along


def multiply_matrices(call: Call) -> list[Dims]:
    """(..., n, k) @ (..., k, m): the inner dimension is summed over, the outer ones pass. mm, bmm, addmm."""
    *addend, a, b = call.op.inputs
    left, right = call.dims(a), call.dims(b)
    if not (left[-1] is None and right[-2] is None):
        call.unite(left[-1], right[-2])
        if right[-2] is not None:
            call.contracted.append(right[-2])
    batch = []
    for mine, other in zip(left[:-2], right[:-2], strict=True):
        batch.append(None if mine is None and other is None else call.unite(mine, other))
    out: Dims = (*batch, left[-2], right[-1])
    for value in addend:
        labels = call.dims(value)[-1]
        if value.shape[-1] == call.out_shape[-1] and not (labels is None and out[-1] is None):
            call.unite(labels, out[-1])
    return [out]


def normalise(call: Call) -> list[Dims]:
    """Batch norm: weight, bias and statistics go with the channel; in training mode it averages over all else."""
    channels = call.first[1] if call.rank > 1 else None
    for axis, labels in enumerate(call.first):
        if axis != 1:
            call.pin(labels, "is averaged over by a batch norm")
    for value in call.op.inputs[1:]:
        if len(value.shape) == 1 and value.shape[0] == call.op.inputs[0].shape[1]:
            call.unite(channels, call.dims(value)[0])
    return call.only(call.first)


def normalise_across(call: Call) -> list[Dims]:
    """Layer norm: its mean and variance need every channel."""
    normalized = len(call.arg(1, "normalized_shape"))
    for labels in call.first[call.rank - normalized :]:
        call.pin(labels, "is normalised over all of its channels")
    for value in call.op.inputs[1:]:
        for labels in call.dims(value):
            call.pin(labels, "scales a normalisation over all channels")
    return call.only((*call.first[: call.rank - normalized], *(None,) * normalized))


def normalise_groups(call: Call) -> list[Dims]:
    """Group norm: its mean and variance need every channel of the group."""
    for value in call.op.inputs:
        for labels in call.dims(value):
            call.pin(labels, "is normalised over groups of channels")
    return call.only((None,) * call.rank)


def reduce(call: Call) -> list[Dims]:
    """mean, sum, amax over dimensions: those need all of their indices, the others pass."""
    dims = call.arg(1, "dim")
    over = range(call.rank) if dims in (None, [], ()) else [dims] if isinstance(dims, int) else dims
    gone = {axis % call.rank for axis in over}
    for axis in gone:
        call.pin(call.first[axis], "is reduced over")
    if len(call.out_shape) == call.rank:
        return call.only(tuple(None if axis in gone else labels for axis, labels in enumerate(call.first)))
    return call.only(tuple(labels for axis, labels in enumerate(call.first) if axis not in gone))


def along_one(call: Call) -> list[Dims]:
    """softmax, cumsum: values depend on every index of one dimension."""
    axis = int(call.arg(1, "dim")) % call.rank
    call.pin(call.first[axis], "is mixed over all of its channels")
    return call.only(tuple(None if i == axis else labels for i, labels in enumerate(call.first)))
