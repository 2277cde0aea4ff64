"""How channel labels flow through every ATen operator: one function per family, one table at the end.

A rule sees a `Call` (plain facts and the labels of its inputs), unites or pins labels, and returns the labels of the
outputs. It imports no torch. What a rule is not sure of, it pins with a reason: an operator that is not in the table is
never passed. Users extend the table by passing a larger one to `analyze`.

The law that every rule keeps: with a coupled channel removed, the operator computes the same values for the channels
that stay as it did before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from hwprune.graph import reshaping
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.trace import Op, Value

Rule = Callable[["Call"], Sequence[Dims]]

# Modules whose padding is an attribute, so that surgery can narrow it; F.pad's amounts are literals in a forward.
PADDING_MODULES: Final = tuple(f"{kind}Pad{n}d" for kind in ("Zero", "Constant") for n in (1, 2, 3))


@dataclass
class Call:
    """One operator call as its rule sees it.

    Attributes:
        op: the call.
        book: where labels are united and pinned.
        labels: labels of every value so far, by number.
        contracted: labels of weight dimensions that this call sums over (a convolution's input channels).
        pads: labels that padding adds, per side, for surgery.
    """

    op: Op
    book: Book
    labels: Mapping[int, Dims]
    contracted: list[Labels] = field(default_factory=list)
    pads: list[tuple[Labels, Labels]] = field(default_factory=list)

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument by position, else by name."""
        if position < len(self.op.args):
            return self.op.args[position]
        return self.op.kwargs.get(name, default)

    def dims(self, value: Value) -> Dims:
        """Labels of a tensor argument; a tensor made inside the forward (a constant) has none."""
        return self.labels.get(value.number, (None,) * len(value.shape))

    @property
    def first(self) -> Dims:
        """Labels of the first tensor."""
        return self.dims(self.op.inputs[0])

    @property
    def rank(self) -> int:
        """Dimensions of the first tensor."""
        return len(self.op.inputs[0].shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.op.outputs[0].shape

    def pin(self, labels: Labels | None, why: str) -> None:
        """These labels stay because of ``why`` at this call."""
        if labels is not None:
            self.book.pin(labels, f"{why} ({self.op})")

    def unite(self, a: Labels | None, b: Labels | None) -> Labels | None:
        """Tie two dimensions of one size; a dimension without labels pins the other."""
        if a is None or b is None:
            self.pin(a, "meets a dimension that is not channels")
            self.pin(b, "meets a dimension that is not channels")
            return None
        self.book.unite(a, b)
        return a

    def only(self, dims: Dims) -> list[Dims]:
        """The first output has ``dims``; the others (indices, statistics) are not channels."""
        return [dims, *((None,) * len(value.shape) for value in self.op.outputs[1:])]


def follow(call: Call) -> list[Dims]:
    """Element by element on one tensor: labels pass."""
    return call.only(call.first)


def unlabelled(call: Call) -> list[Dims]:
    """Makes a new tensor from sizes or values alone: no channels."""
    return [(None,) * len(value.shape) for value in call.op.outputs]


def tie(call: Call) -> list[Dims]:
    """Element by element over several tensors, broadcast: all of them share one fate. add, mul."""
    shape, out = call.out_shape, []
    for axis in range(len(shape)):
        here: list[Labels | None] = []
        for value in call.op.inputs:
            position = axis - (len(shape) - len(value.shape))
            if position < 0:
                continue
            if value.shape[position] == shape[axis]:
                here.append(call.dims(value)[position])
            else:
                call.pin(call.dims(value)[position], f"is broadcast over {shape[axis]}")
        labels = here[0]
        for other in here[1:]:
            if not (labels is None and other is None):
                labels = call.unite(labels, other)
        out.append(labels)
    return call.only(tuple(out))


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
    """Batch norm: weight, bias and statistics go with the channel."""
    channels = call.first[1] if call.rank > 1 else None
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


def shrink_space(call: Call) -> list[Dims]:
    """Pooling and resampling: batch and channels pass, positions do not."""
    out: list[Labels | None] = []
    for axis, labels in enumerate(call.first):
        if axis < 2:
            out.append(labels)
        else:
            call.pin(labels, "is pooled or resampled over")
            out.append(None)
    return call.only(tuple(out))


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
        if call.op.module_type in PADDING_MODULES:
            call.pads.append((front, back))
        else:
            call.pin(np.concatenate([front, back]), "is padding of a literal size; use a padding module to free it")
        dims[axis] = np.concatenate([front, labels, back])
    return [tuple(dims)]


def split(call: Call) -> list[Dims]:
    """Equal parts: index by index they share one fate, so that each part stays as long as the others."""
    axis = int(call.arg(2, "dim", 0)) % call.rank
    labels = call.first[axis]
    sizes = [value.shape[axis] for value in call.op.outputs]
    if labels is None:
        parts: list[Labels | None] = [None] * len(sizes)
    elif len(set(sizes)) > 1:
        call.pin(labels, f"is split into unequal parts {sizes}")
        parts = list(np.split(labels, np.cumsum(sizes)[:-1]))
    else:
        table = labels.reshape(len(sizes), -1)
        call.book.unite(table, table[:1])
        parts = list(table)
    rest = call.first
    return [(*rest[:axis], part, *rest[axis + 1 :]) for part in parts]


def slice_(call: Call) -> list[Dims]:
    """A part of a dimension: the whole dimension passes; a part of channels pins them, its ends being literals."""
    axis = int(call.arg(1, "dim", 0)) % call.rank
    labels = call.first[axis]
    if labels is not None and call.out_shape[axis] != len(labels):
        call.pin(labels, "is cut into by a slice")
        start, step = int(call.arg(2, "start", 0) or 0), int(call.arg(4, "step", 1))
        start = max(start + len(labels), 0) if start < 0 else start
        labels = labels[start::step][: call.out_shape[axis]]
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
    return [reshaping.reshape(call.first, call.op.inputs[0].shape, call.out_shape, call.book, call.pin)]


def expand(call: Call) -> list[Dims]:
    """Dimensions of size one are repeated, others pass."""
    new = len(call.out_shape) - call.rank
    out: list[Labels | None] = [None] * new
    for axis, labels in enumerate(call.first):
        if call.op.inputs[0].shape[axis] == call.out_shape[axis + new]:
            out.append(labels)
        else:
            call.pin(labels, f"is broadcast over {call.out_shape[axis + new]}")
            out.append(None)
    return [tuple(out)]


def flip(call: Call) -> list[Dims]:
    """The order of a dimension is turned round, and its labels with it."""
    axes = {int(axis) % call.rank for axis in call.arg(1, "dims")}
    return [tuple(x[::-1] if x is not None and i in axes else x for i, x in enumerate(call.first))]


def pin_all(call: Call) -> list[Dims]:
    """Whatever channels reach this operator stay. Also what an unknown operator does."""
    for value in call.op.inputs:
        for labels in call.dims(value):
            call.pin(labels, f"reaches {call.op.name!r}, which has no channel rule")
    return unlabelled(call)


_FOLLOW = [
    "abs",
    "alias",
    "celu",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "elu",
    "erf",
    "exp",
    "feature_dropout",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "lift_fresh",
    "log",
    "log_sigmoid",
    "mish",
    "native_dropout",
    "neg",
    "positive",
    "reciprocal",
    "relu",
    "relu6",
    "round",
    "rsqrt",
    "selu",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "tanh",
    "threshold",
    "_to_copy",
    "to",
]
_TIE = [
    "add",
    "addcmul",
    "div",
    "lerp",
    "maximum",
    "minimum",
    "mul",
    "pow",
    "rsub",
    "sub",
    "where",
    "copy",
    "_prelu_kernel",
    "prelu",
]
_CREATE = [
    "arange",
    "empty",
    "empty_like",
    "empty_strided",
    "eye",
    "full",
    "full_like",
    "linspace",
    "new_empty",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones",
    "ones_like",
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "scalar_tensor",
    "zeros",
    "zeros_like",
]
_SPACE = [
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_trilinear3d",
    "_upsample_bilinear2d_aa",
    "reflection_pad2d",
    "replication_pad2d",
]

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **dict.fromkeys(_FOLLOW, follow),
        **dict.fromkeys(_TIE, tie),
        **dict.fromkeys(_CREATE, unlabelled),
        **dict.fromkeys(_SPACE, shrink_space),
        **dict.fromkeys(["mm", "bmm", "addmm", "baddbmm"], multiply_matrices),
        **dict.fromkeys(["convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution"], convolve),
        **dict.fromkeys(
            [
                "native_batch_norm",
                "_native_batch_norm_legit",
                "_native_batch_norm_legit_no_training",
                "cudnn_batch_norm",
                "batch_norm",
                "_batch_norm_no_update",
            ],
            normalise,
        ),
        **dict.fromkeys(["mean", "sum", "amax", "amin", "var", "std", "var_mean", "logsumexp"], reduce),
        **dict.fromkeys(["_softmax", "_log_softmax", "_safe_softmax", "cumsum"], along_one),
        **dict.fromkeys(["split", "split_with_sizes", "chunk"], split),
        **dict.fromkeys(["t", "transpose", "permute"], transpose),
        **dict.fromkeys(["view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten"], reshape),
        "cat": concatenate,
        "constant_pad_nd": pad,
        "expand": expand,
        "flip": flip,
        "native_group_norm": normalise_groups,
        "native_layer_norm": normalise_across,
        "select": select,
        "slice": slice_,
    }
)
