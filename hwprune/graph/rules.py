"""How channel labels flow through every ATen operator: one function per family, one table at the end.

A rule sees a `Call` (plain facts and the labels of its inputs), unites or pins labels, and returns the labels of the
outputs. What a rule is not sure of, it pins with a reason: an operator that is not in the table is never passed. Users
extend the table by passing a larger one to `analyze`.

The law that every rule keeps: with a coupled channel removed, the operator computes the same values for the channels
that stay as it did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hwprune.graph.call import Call, Rule
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.mixing import (
    along_one,
    convolve,
    multiply_matrices,
    normalise,
    normalise_across,
    normalise_groups,
    reduce,
)
from hwprune.graph.moving import concatenate, expand, flip, pad, reshape, select, slice_, split, transpose


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


def pin_all(call: Call) -> list[Dims]:
    """Whatever channels reach this operator stay. Also what an unknown operator does."""
    for value in call.op.inputs:
        for labels in call.dims(value):
            call.pin(labels, f"reaches {call.op.name!r}, which has no channel rule")
    return unlabelled(call)


def _names(text: str) -> list[str]:
    return text.split()


_FOLLOW = _names("""
    abs alias celu clamp clamp_max clamp_min clone contiguous detach dropout elu erf exp feature_dropout gelu
    hardsigmoid hardswish hardtanh leaky_relu lift_fresh log log_sigmoid mish native_dropout neg positive reciprocal
    relu relu6 round rsqrt selu sigmoid silu sin softplus softsign sqrt square tanh threshold _to_copy to
""")
_TIE = _names("add addcmul div lerp maximum minimum mul pow rsub sub where copy _prelu_kernel prelu")
_CREATE = _names("""
    arange empty empty_like empty_strided eye full full_like linspace new_empty new_full new_ones new_zeros ones
    ones_like rand randn rand_like randn_like scalar_tensor zeros zeros_like
""")
_SPACE = _names("""
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d
    avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool2d_with_indices max_pool3d_with_indices upsample_bicubic2d
    upsample_bilinear2d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    _upsample_bilinear2d_aa reflection_pad2d replication_pad2d
""")
_CONVOLUTIONS = _names("convolution _convolution mkldnn_convolution cudnn_convolution")
_BATCH_NORMS = _names("""
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm
    _batch_norm_no_update
""")
_MATRIX = _names("mm bmm addmm baddbmm")
_REDUCE = _names("mean sum amax amin var std var_mean logsumexp")
_ALONG_ONE = _names("_softmax _log_softmax _safe_softmax cumsum")
_RESHAPE = _names("view _unsafe_view reshape flatten squeeze unsqueeze unflatten")

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **dict.fromkeys(_FOLLOW, follow),
        **dict.fromkeys(_TIE, tie),
        **dict.fromkeys(_CREATE, unlabelled),
        **dict.fromkeys(_SPACE, shrink_space),
        **dict.fromkeys(_MATRIX, multiply_matrices),
        **dict.fromkeys(_CONVOLUTIONS, convolve),
        **dict.fromkeys(_BATCH_NORMS, normalise),
        **dict.fromkeys(_REDUCE, reduce),
        **dict.fromkeys(_ALONG_ONE, along_one),
        **dict.fromkeys(["split", "split_with_sizes", "chunk"], split),
        **dict.fromkeys(["t", "transpose", "permute"], transpose),
        **dict.fromkeys(_RESHAPE, reshape),
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
