"""Rules of the operators that mix channels: convolutions, matrix products, normalisations, reductions."""

from __future__ import annotations

import numpy as np

from hwprune.graph.call import Call
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.trace import Value


def convolve(call: Call) -> list[Dims]:
    """Unites the input's channels with the weight's input dimension; the output has the weight's other one.

    With groups, one whole convolution group goes at a time: its inputs and outputs are one coupled channel
    (Liu et al. 2021, section 3.2). Depthwise is the case of one input channel per group. On request the same offset
    goes in every group instead, and the number of groups stays.
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
            _note_computed(call, weight)
    elif call.offsets:
        out = _couple_offsets(call, channels, w, groups, transposed)
    else:
        out = _couple_conv_groups(call, channels, w, groups, transposed)
        call.united = channels if weight.shape[1] > 1 and x.shape[1] > groups else None
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


def _couple_offsets(call: Call, channels: Labels | None, w: Dims, groups: int, transposed: bool) -> Labels | None:
    """Same offset in every group: the weight's first dimension is tied across groups, its second is shared by them."""
    along, within = w[0], w[1]
    if along is None or within is None or channels is None:
        for labels in (along, within, channels):
            call.pin(labels, "meets a grouped convolution of something that is not channels")
        return None
    by_group = along.reshape(groups, -1)
    call.book.unite(by_group, by_group[:1])
    if transposed:  # weight is (in, out / groups, ...)
        call.unite(channels, along)
        call.contracted.append(along)
        return np.tile(within, groups)
    call.book.unite(channels.reshape(groups, -1), within[np.newaxis])
    call.contracted.append(within)
    return along


def multiply_matrices(call: Call) -> list[Dims]:
    """(..., n, k) @ (..., k, m): the inner dimension is summed over, the outer ones pass. mm, bmm, addmm, mv."""
    *addend, a, b = call.op.inputs
    left, right = call.dims(a), call.dims(b)
    over = right[-2] if len(b.shape) > 1 else right[-1]
    if not (left[-1] is None and over is None):
        call.unite(left[-1], over)
        _note_inner(call, a, left[-1], b, over)
    batch = []
    for mine, other in zip(left[:-2], right[:-2], strict=False):
        batch.append(None if mine is None and other is None else call.unite(mine, other))
    out: Dims = (*batch, left[-2], right[-1]) if len(b.shape) > 1 else (left[-2],)
    for value in addend:
        out = _with_addend(call, value, out)
    return [out]


def _note_inner(call: Call, a: Value, left: Labels | None, b: Value, right: Labels | None) -> None:
    """The weight's side of a sum over channels; where both sides are activations, neither is a weight."""
    if a.number not in call.static and b.number not in call.static:
        if left is not None:
            call.inner.append(left)
            call.spans = "a product of two activations over channels"
        return
    for value, labels in ((a, left), (b, right)):
        if value.number in call.static and labels is not None:
            call.contracted.append(labels)
            _note_computed(call, value)


def _note_computed(call: Call, weight: Value) -> None:
    """A weight that is computed from parameters is not zero where they are, so `verify` narrows the call itself."""
    if weight.number not in call.direct and call.spans is None:
        call.spans = ""


def _with_addend(call: Call, value: Value, out: Dims) -> Dims:
    offset = len(call.out_shape) - len(value.shape)
    for axis, labels in enumerate(call.dims(value)):
        if value.shape[axis] != call.out_shape[axis + offset]:
            call.pin(labels, f"is broadcast over {call.out_shape[axis + offset]}")
        elif not (labels is None and out[axis + offset] is None):
            call.unite(labels, out[axis + offset])
    return out


def attend(call: Call) -> list[Dims]:
    """Fused scaled dot-product attention (..., heads, tokens, head size): heads pass, head sizes are summed over."""
    q, k, v = (call.dims(value) for value in call.op.inputs[:3])
    if not (q[-1] is None and k[-1] is None):
        call.unite(q[-1], k[-1])
        if q[-1] is not None:
            call.inner.append(q[-1])
            call.spans = "attention over head dimensions"
    for labels in (q[-2], k[-2], v[-2]):
        call.pin(labels, "is the sequence that attention runs over")
    heads = q[:-2]
    for value in call.op.inputs[1:]:
        for axis, labels in enumerate(call.dims(value)[:-2]):
            same = value.shape[axis] == call.op.inputs[0].shape[axis]
            if same and not (labels is None and heads[axis] is None):
                call.unite(heads[axis], labels)
            elif not same:
                call.pin(labels, "is broadcast in attention")
                call.pin(heads[axis], "shares keys and values between heads")
    for value in call.op.inputs[3:]:
        for labels in call.dims(value)[-2:]:
            call.pin(labels, "is a mask of attention")
    return call.only((*heads, None, v[-1]))


def normalise(call: Call) -> list[Dims]:
    """Batch norm: weight, bias and statistics go with the channel; in training mode it averages over all else."""
    channels = call.first[1] if call.rank > 1 else None
    if any(labels is not None for axis, labels in enumerate(call.first) if axis != 1):
        call.spans = "a batch norm that averages over channels"
    for value in call.op.inputs[1:]:
        per_channel = len(value.shape) == 1 and value.shape[0] == call.op.inputs[0].shape[1]
        if per_channel and not (channels is None and call.dims(value)[0] is None):
            call.unite(channels, call.dims(value)[0])
    return call.only(call.first)


def normalise_across(call: Call) -> list[Dims]:
    """Layer norm, RMS norm: over the channels that are left. Weight and bias go with the channel."""
    normalized = len(call.arg(1, "normalized_shape"))
    across = call.first[call.rank - normalized :]
    if any(labels is not None for labels in across):
        call.spans = "a normalisation over channels"
    for value in call.op.inputs[1:]:
        for mine, labels in zip(across, call.dims(value), strict=True):
            if not (mine is None and labels is None):
                call.unite(mine, labels)
    return call.only(call.first)


def normalise_groups(call: Call) -> list[Dims]:
    """Group norm: whole groups go, each has statistics of its own; a single group is a norm over what is left."""
    groups, channels = int(call.arg(6, "group")), call.first[1]
    for labels in call.first[2:]:
        call.pin(labels, "is averaged over by a group norm")
    if channels is not None and groups == 1:
        call.spans = "a group norm of one group"
    elif channels is not None:
        by_group = channels.reshape(groups, -1)
        call.book.unite(by_group, by_group[:, :1])
    for value in call.op.inputs[1:]:
        if not (channels is None and call.dims(value)[0] is None):
            call.unite(channels, call.dims(value)[0])
    return call.only(call.first)


def normalise_weight(call: Call) -> list[Dims]:
    """Weight normalisation: each output channel's weights over their norm, which spans the input channels."""
    v, g = call.op.inputs[:2]
    dims, axis = call.dims(v), int(call.arg(2, "dim", 0))
    if any(labels is not None for i, labels in enumerate(dims) if i != axis):
        call.spans = "a weight norm over input channels"
    scale = call.dims(g)[axis] if len(g.shape) == len(v.shape) else None
    if not (dims[axis] is None and scale is None):
        call.unite(dims[axis], scale)
    return call.only(dims)


# linalg_vector_norm(x, ord, dim) and norm(x, p, dim) have their dimensions one place further on.
_ORDER_FIRST = ("linalg_vector_norm", "norm")


def reduce(call: Call) -> list[Dims]:
    """mean, sum, amax, a norm over dimensions: over the channels that are left; the other dimensions pass."""
    dims = call.arg(2 if call.op.name in _ORDER_FIRST else 1, "dim")
    over = range(call.rank) if dims in (None, [], ()) else [dims] if isinstance(dims, int) else dims
    gone = {int(axis) % call.rank for axis in over} if call.rank else set()
    if any(call.first[axis] is not None for axis in gone):
        call.spans = f"{call.op.name!r} over channels"
    if len(call.out_shape) == call.rank:
        return call.only(tuple(None if axis in gone else labels for axis, labels in enumerate(call.first)))
    return call.only(tuple(labels for axis, labels in enumerate(call.first) if axis not in gone))


def along_one(call: Call) -> list[Dims]:
    """softmax, cumsum: values depend on every index of one dimension."""
    axis = int(call.arg(1, "dim")) % call.rank if call.rank else 0
    if call.rank:
        call.pin(call.first[axis], "is mixed over all of its channels")
    return call.only(tuple(None if i == axis else labels for i, labels in enumerate(call.first)))
