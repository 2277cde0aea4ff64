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

from hwprune.graph import indexing, tiling
from hwprune.graph.call import Call, Rule
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.mixing import (
    along_one,
    attend,
    convolve,
    multiply_matrices,
    normalise,
    normalise_across,
    normalise_groups,
    normalise_weight,
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
    """Pooling and resampling: batch and channels pass, positions do not; the name tells how many those are."""
    space = next((n for n in (1, 2, 3) if f"{n}d" in call.op.name), call.rank - 2)
    out: list[Labels | None] = []
    for axis, labels in enumerate(call.first):
        if axis < call.rank - space:
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
    abs acos acosh alias angle asin asinh atan atanh bernoulli bitwise_not ceil celu clone conj_physical _conj_physical
    contiguous cos cosh deg2rad detach digamma dropout elu erf erfc erfinv exp exp2 expm1 exponential feature_dropout
    fill floor frac frexp gelu hardshrink hardsigmoid hardswish hardtanh i0 isfinite isinf isnan isneginf isposinf
    leaky_relu lgamma lift_fresh log log10 log1p log2 log_sigmoid log_sigmoid_forward logical_not logit mish mvlgamma
    nan_to_num native_dropout neg normal polygamma positive rad2deg reciprocal relu relu6 round rsqrt selu sgn sigmoid
    sign signbit silu sin sinc sinh softplus softshrink softsign sqrt square tan tanh threshold _to_copy to trunc
    uniform zero
""")
_TIE = _names("""
    add addcdiv addcmul atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor clamp clamp_max
    clamp_min clip copy copysign div eq float_power floor_divide fmax fmin fmod gcd ge gt heaviside hypot igamma
    igammac __ilshift__ __irshift__ __ixor__ lcm ldexp le lerp logaddexp logaddexp2 logical_and logical_or logical_xor
    __lshift__ lt masked_fill maximum minimum mul ne nextafter pow _prelu_kernel prelu remainder __rshift__ rrelu
    rrelu_with_noise rsub sub true_divide where xlogy __xor__
""")
_CREATE = _names("""
    arange device empty_strided eye linspace logspace rand randint randn randperm scalar_tensor tril_indices
    triu_indices
""")
_MADE_LIKE = _names("empty_like full_like ones_like rand_like randint_like randn_like zeros_like")
_CONSTANT = _names("empty full new_empty new_full new_ones new_zeros ones zeros")
_SPACE = _names("""
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d fractional_max_pool2d
    fractional_max_pool3d max_pool1d max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    upsample_bicubic2d _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d
""")
_CONVOLUTIONS = _names("convolution _convolution mkldnn_convolution cudnn_convolution")
_BATCH_NORMS = _names("""
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm
    _batch_norm_no_update
""")
_MATRIX = _names("mm bmm addmm baddbmm mv")
_ATTENTION = _names("""
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention _scaled_dot_product_attention_math
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable
""")
_REDUCE = _names("mean sum amax amin var std var_mean std_mean logsumexp linalg_vector_norm norm")
_ALONG_ONE = _names("_softmax _log_softmax _safe_softmax cumsum")
_ORDER = _names("""
    all aminmax any argmax argmin argsort cummax cummin cumprod kthvalue logcumsumexp max median min mode msort
    nanmedian prod sort topk
""")
_RESHAPE = _names("view _unsafe_view reshape flatten squeeze unsqueeze unflatten")

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **dict.fromkeys(_FOLLOW, follow),
        **dict.fromkeys(_TIE, tie),
        **dict.fromkeys(_CREATE, unlabelled),
        **dict.fromkeys(_MADE_LIKE, tiling.made_like),
        **dict.fromkeys(_CONSTANT, tiling.constant),
        **dict.fromkeys(_SPACE, shrink_space),
        **dict.fromkeys(_MATRIX, multiply_matrices),
        **dict.fromkeys(_ATTENTION, attend),
        **dict.fromkeys(_CONVOLUTIONS, convolve),
        **dict.fromkeys(_BATCH_NORMS, normalise),
        **dict.fromkeys(_REDUCE, reduce),
        **dict.fromkeys(_ALONG_ONE, along_one),
        **dict.fromkeys(_ORDER, indexing.order),
        **dict.fromkeys(["scatter", "scatter_add", "scatter_reduce"], indexing.scatter),
        **dict.fromkeys(["index_add", "index_copy", "index_fill", "index_reduce"], indexing.index_write),
        **dict.fromkeys(["nms", "affine_grid_generator"], indexing.geometry),
        "as_strided": indexing.restride,
        **dict.fromkeys(["grid_sampler", "grid_sampler_2d", "grid_sampler_3d"], indexing.sample_grid),
        **dict.fromkeys(["roi_align", "roi_pool"], indexing.pool_regions),
        **dict.fromkeys(["channel_shuffle", "native_channel_shuffle"], tiling.channel_shuffle),
        **dict.fromkeys(["tril", "triu"], tiling.triangle),
        **dict.fromkeys(["split", "split_with_sizes", "chunk"], split),
        **dict.fromkeys(["t", "transpose", "permute"], transpose),
        **dict.fromkeys(_RESHAPE, reshape),
        "bucketize": indexing.bucketize,
        "cat": concatenate,
        "constant_pad_nd": pad,
        "expand": expand,
        "flip": flip,
        "native_group_norm": normalise_groups,
        **dict.fromkeys(["native_layer_norm", "_fused_rms_norm"], normalise_across),
        "_weight_norm_interface": normalise_weight,
        "select": select,
        "slice": slice_,
        "col2im": tiling.fold_patches,
        "deform_conv2d": indexing.deformable,
        "diagonal": tiling.diagonal,
        "embedding": indexing.embedding,
        "gather": indexing.gather,
        "glu": tiling.gate,
        "im2col": tiling.unfold_patches,
        "index": indexing.index,
        "index_put": indexing.index_put,
        "index_select": indexing.index_select,
        "pixel_shuffle": tiling.pixel_shuffle,
        "pixel_unshuffle": tiling.pixel_unshuffle,
        "repeat": tiling.repeat,
        "roll": tiling.roll,
        "rot90": tiling.quarter_turns,
        "stack": tiling.stack,
        "unbind": tiling.unbind,
        "unfold": tiling.windows,
    }
)
