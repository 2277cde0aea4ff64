"""Shapes of the commonest operators on meta tensors.

torch works most of them out in Python, through decompositions and checks of symbolic sizes, which would be nine tenths
of a pass. Whatever is not plainly what it seems (other types, sizes that do not fit) is left to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor


def on_meta(tensor: Tensor) -> Tensor:
    """A tensor of the same shape and layout without values."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _same(args: Any) -> Tensor | None:
    x: Tensor = args[0]
    return _laid_out_like(x) if x.is_floating_point() else None


def _laid_out_like(x: Tensor) -> Tensor | None:
    """A dense tensor with its dimensions in the order of ``x``; None where that is not clear."""
    if _is_dense(x):
        return on_meta(x)
    strides = [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]
    if 0 in strides or len(set(strides)) < len(strides) or 0 in x.shape:
        return None
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    return torch.empty_permuted(x.shape, order, dtype=x.dtype, device="meta")


def _is_dense(x: Tensor) -> bool:
    """Whether it fills its memory, in whatever order of dimensions; then torch keeps that order."""
    if x.is_contiguous():
        return True
    reach = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) + 1
    return reach == x.numel() and 0 not in x.stride()


def _both(args: Any) -> Tensor | None:
    """Two floats of one type, broadcast, or a tensor and a plain number."""
    x, y = args[0], args[1]
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return None
    if not isinstance(y, Tensor):
        return _laid_out_like(x) if isinstance(y, (float, int)) else None
    if y.dtype != x.dtype:
        return None
    rank = max(x.dim(), y.dim())
    first, second = ((1,) * (rank - z.dim()) + tuple(z.shape) for z in (x, y))
    if any(a != b and a != 1 and b != 1 for a, b in zip(first, second, strict=True)):
        return None
    sizes = tuple([b if a == 1 else a for a, b in zip(first, second, strict=True)])
    if sizes == x.shape:  # the first one's order of dimensions counts
        return _laid_out_like(x)
    if not x.is_contiguous() or not y.is_contiguous():
        return None
    return _empty(x, sizes)


def _empty(like: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.empty(sizes, dtype=like.dtype, device="meta")


def _batch_norm(args: Any) -> Any:
    if len(args) < 6:
        return None
    x: Tensor = args[0]
    if x.dim() < 2 or any(tensor is not None and tensor.shape != x.shape[1:2] for tensor in args[1:5]):
        return None
    if not _is_dense(x):
        return None
    statistics = x.shape[1:2] if args[5] else (0,)
    return on_meta(x), _empty(x, statistics), _empty(x, statistics)


def _group_norm(args: Any) -> Any:
    x, weight, bias, batch, channels, space, groups = args[:7]
    shapes = [tensor.shape for tensor in (weight, bias) if tensor is not None]
    if any(tuple(shape) != (channels,) for shape in shapes) or x.numel() != batch * channels * space:
        return None
    if tuple(x.shape[:2]) != (batch, channels) or channels % groups or not x.is_contiguous():
        return None
    return on_meta(x), _empty(x, (batch, groups)), _empty(x, (batch, groups))


def _convolution(args: Any) -> Tensor | None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    rank = x.dim() - 2
    fits = weight.dim() == x.dim() and not transposed and x.shape[1] == weight.shape[1] * groups
    if not fits or weight.shape[0] % groups or weight.shape[0] == 0 or not x.is_contiguous() or x.dtype != weight.dtype:
        return None
    if (bias is not None and bias.shape != weight.shape[:1]) or not weight.is_contiguous():
        return None
    (stride, padding, dilation) = (tuple(v) * rank if len(v) == 1 else tuple(v) for v in (stride, padding, dilation))
    sizes = [
        (size + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i] + 1
        for i, size in enumerate(x.shape[2:])
    ]
    if min(sizes) < 1:
        return None
    return _empty(x, (x.shape[0], weight.shape[0], *sizes))


def _cat(args: Any) -> Tensor | None:
    tensors, dim = args[0], args[1] if len(args) > 1 else 0
    first = tensors[0]
    dim %= max(first.dim(), 1)
    for tensor in tensors:
        rest = [*tensor.shape[:dim], *tensor.shape[dim + 1 :]] != [*first.shape[:dim], *first.shape[dim + 1 :]]
        if rest or tensor.dtype != first.dtype or not tensor.is_contiguous() or 0 in tensor.shape or not tensor.dim():
            return None
    sizes = [*first.shape]
    sizes[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return _empty(first, sizes)


def _layer_norm(args: Any) -> Any:
    x, normalized, weight, bias = args[:4]
    count = len(normalized)
    shapes = [tensor.shape for tensor in (weight, bias) if tensor is not None]
    if list(x.shape[-count:]) != list(normalized) or any(list(s) != list(normalized) for s in shapes):
        return None
    if not x.is_floating_point():
        return None
    statistics = (*x.shape[:-count], *(1,) * count)
    return _empty(x, x.shape), _empty(x, statistics), _empty(x, statistics)


def _mean(args: Any) -> Tensor | None:
    x = args[0]
    if len(args) < 2 or not args[1] or not x.is_floating_point() or not x.is_contiguous():
        return None
    gone = {axis % x.dim() for axis in args[1]}
    keep = len(args) > 2 and args[2]
    sizes = [1 if axis in gone else size for axis, size in enumerate(x.shape) if keep or axis not in gone]
    return _empty(x, sizes)


def _norm(args: Any) -> Tensor | None:
    """linalg_vector_norm: the tensor, its order, the dimensions, whether they stay."""
    return _mean((args[0], *args[2:])) if len(args) > 2 else None


def _softmax(args: Any) -> Tensor | None:
    x = args[0]
    return _empty(x, x.shape) if x.is_floating_point() and not any(args[2:]) else None


def _resampled(args: Any) -> Tensor | None:
    x, sizes = args[0], args[1]
    if sizes is None or min(sizes) < 1 or len(sizes) != x.dim() - 2:
        return None
    if x.stride() != _empty(x, x.shape).stride():  # one pixel is contiguous channels last too, and strides tell which
        return None
    return _empty(x, (*x.shape[:2], *sizes))


def _product(args: Any) -> Tensor | None:
    """mm, bmm: (..., n, k) @ (..., k, m)."""
    a, b = args[0], args[1]
    if a.dim() != b.dim() or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2] or a.dtype != b.dtype:
        return None
    return _empty(a, (*a.shape[:-1], b.shape[-1]))


def _product_with_addend(args: Any) -> Tensor | None:
    """addmm, baddbmm; the addend is a bias or as large as the product."""
    made = _product(args[1:3])
    if made is None or args[0].dtype != made.dtype or args[0].shape not in (made.shape, made.shape[-1:]):
        return None
    return made


_UNARY: Final = (
    *("relu", "gelu", "silu", "sigmoid", "hardswish", "hardsigmoid", "tanh", "elu", "leaky_relu", "mish", "softplus"),
    *("hardtanh", "clamp", "clamp_min", "exp", "sqrt", "rsqrt"),
)
_SHAPES: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        **dict.fromkeys(_UNARY, _same),
        **dict.fromkeys(["add", "mul", "sub", "div"], _both),
        "native_batch_norm": _batch_norm,
        "convolution": _convolution,
        "cat": _cat,
        "native_layer_norm": _layer_norm,
        "native_group_norm": _group_norm,
        **dict.fromkeys(["_softmax", "_safe_softmax"], _softmax),
        **dict.fromkeys(["upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d"], _resampled),
        "mean": _mean,
        "linalg_vector_norm": _norm,
        **dict.fromkeys(["mm", "bmm"], _product),
        **dict.fromkeys(["addmm", "baddbmm"], _product_with_addend),
    }
)


def hollow_result(func: Any, name: str, args: Any) -> Any:
    """What an operator returns on meta tensors; None where torch has to say."""
    shape = _SHAPES.get(name)
    made = None if shape is None else shape(args)
    if made is not None and func._schema.is_mutable and isinstance(made, Tensor):
        return args[0] if made.shape == args[0].shape else None  # it writes in place
    return made
