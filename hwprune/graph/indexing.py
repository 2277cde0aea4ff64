"""Rules of the operators that pick by number: indices, tables, orders, sampled positions.

What is picked by number keeps its numbers, so an indexed dimension of channels is pinned and the others pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hwprune.graph.call import Call
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.trace import Value


def _pin_every(call: Call, value: Value, why: str) -> None:
    for labels in call.dims(value):
        call.pin(labels, why)


def _without(dims: Dims, axis: int) -> Dims:
    return (*dims[:axis], None, *dims[axis + 1 :])


def index(call: Call) -> list[Dims]:
    """``x[:, i, ...]`` with tensors: what they index is pinned, the other dimensions pass.

    Indices next to each other leave their result where they stood, separated ones put it in front, as in NumPy.
    """
    x, places = call.arg(0), call.arg(1)
    axes = _indexed(call, places)
    rank = max(len(places[axis].shape) for axis in axes)
    if len(call.out_shape) != len(x.shape) - len(axes) + rank:  # a mask over several dimensions
        _pin_every(call, x, "is picked from by a mask")
        return call.only((None,) * len(call.out_shape))
    return call.only(_picked(call.dims(x), axes, rank))


def _indexed(call: Call, places: Sequence[Value | None]) -> list[int]:
    """The axes that have an index; pins what lies along them, and the indices themselves."""
    axes = [axis for axis, place in enumerate(places) if place is not None]
    for axis in axes:
        call.pin(call.first[axis], "is indexed by a tensor")
        if (place := places[axis]) is not None:
            _pin_every(call, place, "is an index")
    return axes


def _picked(dims: Dims, axes: list[int], rank: int) -> Dims:
    """Labels of what indices of ``rank`` dimensions on ``axes`` pick."""
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    kept = [labels for axis, labels in enumerate(dims) if axis not in axes]
    start = axes[0] if adjacent else 0
    return (*kept[:start], *(None,) * rank, *kept[start:])


def index_put(call: Call) -> list[Dims]:
    """``x[:, i] = values``: what is indexed is pinned, the values share the fate of the dimensions they fill."""
    x, places, values = call.arg(0), call.arg(1), call.arg(2)
    axes = _indexed(call, places)
    rank = max(len(places[axis].shape) for axis in axes)
    if rank > 1:  # a mask over several dimensions or a table of indices: which one, shapes do not say
        for value in (x, values):
            _pin_every(call, value, "is written to where a mask or table says")
        return [(None,) * len(x.shape)]
    filled, given = _picked(call.first, axes, rank), call.dims(values)
    for back in range(1, len(given) + 1):
        target = filled[-back] if back <= len(filled) else None
        if given[-back] is None and (target is None or values.shape[-back] == 1):
            continue
        call.unite(given[-back], target)
    return [tuple(None if axis in axes else labels for axis, labels in enumerate(call.first))]


def index_select(call: Call) -> list[Dims]:
    """One dimension picked from by an index tensor: it is pinned, the others pass."""
    axis = int(call.arg(1, "dim")) % max(call.rank, 1)
    call.pin(call.first[axis] if call.rank else None, "is indexed by a tensor")
    _pin_every(call, call.arg(2, "index"), "is an index")
    return [_without(call.first, axis)]


def gather(call: Call) -> list[Dims]:
    """Along one dimension it picks by number; on the others the index tensor lies over the input, from the start."""
    axis = int(call.arg(1, "dim")) % call.rank
    chosen = call.arg(2, "index")
    call.pin(call.first[axis], "is indexed by a tensor")
    call.pin(call.dims(chosen)[axis], "is an index")
    return [_overlaid(call, axis, [call.arg(0), chosen], chosen)]


def _overlaid(call: Call, axis: int, values: Sequence[Value], onto: Value) -> Dims:
    """Labels of ``onto`` where the values lie over one another on all dimensions but ``axis``."""
    out: list[Labels | None] = []
    for position in range(len(onto.shape)):
        here = [call.dims(value)[position] for value in values]
        whole = len({value.shape[position] for value in values}) == 1
        labels = here[0]
        if position == axis or all(other is None for other in here):
            labels = None
        elif not whole:
            for other in here:
                call.pin(other, "is indexed in part")
            labels = None
        else:
            for other in here[1:]:
                labels = call.unite(labels, other)
        out.append(labels)
    return tuple(out)


def scatter(call: Call) -> list[Dims]:
    """Values written along one dimension by number: it is pinned, the others are shared by all. scatter_add too."""
    axis = int(call.arg(1, "dim")) % call.rank
    values = [call.arg(0), call.arg(2, "index")]
    source = call.arg(3, "src", call.op.kwargs.get("value"))
    if isinstance(source, Value) and source.shape:
        values.append(source)
    for value in values:
        call.pin(call.dims(value)[axis], "is written to by number")
    return [_overlaid(call, axis, values, call.arg(0))]


def index_write(call: Call) -> list[Dims]:
    """index_add, index_copy, index_fill: one dimension by number, the others shared with the source."""
    axis = int(call.arg(1, "dim")) % call.rank
    source = call.arg(3, "source", call.op.kwargs.get("value"))
    values = [call.arg(0)]
    if isinstance(source, Value) and len(source.shape) == call.rank:
        values.append(source)
    for value in values:
        call.pin(call.dims(value)[axis], "is written to by number")
    _pin_every(call, call.arg(2, "index"), "is an index")
    return [_overlaid(call, axis, values, call.arg(0))]


def embedding(call: Call) -> list[Dims]:
    """Rows of a table: the vocabulary stays, the columns are the channels."""
    table, chosen = call.arg(0), call.arg(1, "indices")
    call.pin(call.dims(table)[0], "is the vocabulary of an embedding")
    _pin_every(call, chosen, "is an index")
    return [(*(None,) * len(chosen.shape), call.dims(table)[1])]


def order(call: Call) -> list[Dims]:
    """Orders or compares along one dimension: it stays whole, the others pass. sort, topk, argmax, cummax, any."""
    axis = _axis_of_order(call)
    if axis is None or call.rank == 0:
        for value in call.op.inputs:
            _pin_every(call, value, "is ordered or compared over all elements")
        return [(None,) * len(value.shape) for value in call.op.outputs]
    call.pin(call.first[axis], "is ordered or compared along its channels")
    kept = _without(call.first, axis)
    dropped = (*call.first[:axis], *call.first[axis + 1 :])
    return [kept if len(value.shape) == call.rank else dropped for value in call.op.outputs]


def _axis_of_order(call: Call) -> int | None:
    """The dimension, None for all of them. Its place among the arguments and its default depend on the operator."""
    last = call.op.name in ("sort", "argsort", "topk", "kthvalue", "mode")
    place = 2 if call.op.name in ("topk", "kthvalue") else 1
    axis = call.op.kwargs.get("dim")
    if axis is None:
        given = call.op.args[place:]
        # the stable overload of sort has a flag in front
        numbers = [a for a in given if isinstance(a, int) and not isinstance(a, bool)]
        axis = numbers[0] if numbers else (-1 if last else None)
    return None if axis is None else int(axis) % max(call.rank, 1)


def bucketize(call: Call) -> list[Dims]:
    """Element by element against boundaries, which stay."""
    _pin_every(call, call.arg(1, "boundaries"), "is a list of boundaries")
    return [call.first]


def sample_grid(call: Call) -> list[Dims]:
    """grid_sample, 2-d and 3-d: batch and channels pass, positions and the grid do not."""
    for labels in call.first[2:]:
        call.pin(labels, "is sampled over")
    _pin_every(call, call.arg(1, "grid"), "is a sampling grid")
    return [(*call.first[:2], *(None,) * (call.rank - 2))]


def pool_regions(call: Call) -> list[Dims]:
    """roi_align, roi_pool: regions come first, channels pass, positions and boxes do not."""
    for labels in (call.first[0], *call.first[2:]):
        call.pin(labels, "is pooled over regions")
    _pin_every(call, call.arg(1, "rois"), "is a list of boxes")
    return call.only((None, call.first[1], *(None,) * (call.rank - 2)))


def geometry(call: Call) -> list[Dims]:
    """Boxes, angles: numbers that are no channels. nms, affine_grid."""
    for value in call.op.inputs:
        _pin_every(call, value, "is taken for geometry, not for channels,")
    return [(None,) * len(value.shape) for value in call.op.outputs]


def restride(call: Call) -> list[Dims]:
    """as_strided to the same shape only changes the memory format; any other use is beyond labels."""
    return call.only(call.first) if call.op.inputs[0].shape == call.out_shape else geometry(call)


def deformable(call: Call) -> list[Dims]:
    """A convolution at learned positions: as any other, but the positions stay; with groups all channels stay."""
    x, weight, offset, mask, bias = (call.arg(i) for i in range(5))
    for value in (offset, mask):
        _pin_every(call, value, "says where a deformable convolution looks")
    w, single = call.dims(weight), int(call.arg(11, "groups", 1)) == int(call.arg(12, "offset_groups", 1)) == 1
    for labels in w[2:]:
        if labels is not None:
            call.book.hide(labels)
    for labels in call.first[2:]:
        call.pin(labels, "is a spatial dimension of a convolution")
    if not single:
        for labels in (call.dims(x)[1], w[0], w[1], call.dims(bias)[0]):
            call.pin(labels, "belongs to a deformable convolution with groups")
        return [(call.first[0], None, None, None)]
    call.unite(call.dims(x)[1], w[1])
    if w[1] is not None:
        call.contracted.append(w[1])
    if call.dims(bias)[0] is not None:  # without a bias, torchvision makes zeros as long as the weight
        call.unite(call.dims(bias)[0], w[0])
    return [(call.first[0], w[0], None, None)]


RECURRENT: Final = frozenset(["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
"""Modules whose calls go to `recurrent`, whatever the operator."""


def recurrent(call: Call) -> list[Dims]:
    """Inside a recurrent module every channel stays, with the module's name as the reason."""
    for value in call.op.inputs:
        _pin_every(call, value, f"feeds {call.op.module_type} {call.op.module!r}, whose gates hwprune does not cut,")
    return [(None,) * len(value.shape) for value in call.op.outputs]
