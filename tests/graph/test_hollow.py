"""Shapes and layouts worked out directly are those that torch itself gives on meta tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hwprune.graph.hollow import _SHAPES, hollow_result

aten = torch.ops.aten
LAYOUTS = ("plain", "permuted", "a part")


def hollow(sizes: tuple[int, ...]) -> Tensor:
    return torch.empty(sizes, device="meta")


@st.composite
def tensors(draw: st.DrawFn, sizes: tuple[int, ...]) -> Tensor:
    """A meta tensor of these sizes, laid out in one of the ways that permute, transpose and slices leave behind."""
    layout = draw(st.sampled_from(LAYOUTS))
    order = list(range(len(sizes)))
    if layout != "plain":
        order = draw(st.permutations(order))
    back = [order.index(axis) for axis in range(len(sizes))]
    made = hollow(tuple(sizes[axis] for axis in order))
    if layout == "a part" and sizes:
        wider = [size + (1 if position == len(order) - 1 else 0) for position, size in enumerate(made.shape)]
        made = hollow(tuple(wider))[..., : made.shape[-1]]
    return made.permute(back) if sizes else made


@st.composite
def shapes(draw: st.DrawFn, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, 5), min_size=least, max_size=most)))


@st.composite
def broadcast(draw: st.DrawFn, sizes: tuple[int, ...]) -> tuple[int, ...]:
    kept = sizes[draw(st.integers(0, len(sizes))) :]
    return tuple(1 if draw(st.booleans()) else size for size in kept)


@st.composite
def calls(draw: st.DrawFn, name: str) -> tuple[Any, tuple[Any, ...]]:
    """An operator of this name and arguments for it."""
    if name in ("add", "mul", "sub", "div"):
        sizes = draw(shapes())
        func = getattr(aten, name).Tensor
        first, second = draw(tensors(sizes)), draw(tensors(draw(broadcast(sizes))))
        number = draw(st.sampled_from([None, 2.0, 3]))
        if number is not None:
            return func, (first, number)
        return func, (first, second) if draw(st.booleans()) else (second, first)
    if name == "native_batch_norm":
        sizes = (2, *draw(shapes(1, 3)))
        scales = [draw(st.sampled_from([None, hollow(sizes[1:2])])) for _ in range(2)]
        training = draw(st.booleans())
        running = [None, None] if training and draw(st.booleans()) else [hollow(sizes[1:2])] * 2
        return aten.native_batch_norm.default, (draw(tensors(sizes)), *scales, *running, training, 0.1, 1e-5)
    if name == "native_group_norm":
        groups = draw(st.integers(1, 3))
        sizes = (draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), *draw(shapes(1, 2)))
        space = torch.Size(sizes[2:]).numel()
        scale = draw(st.sampled_from([None, hollow(sizes[1:2])]))
        args = (draw(tensors(sizes)), scale, scale, sizes[0], sizes[1], space, groups, 1e-5)
        return aten.native_group_norm.default, args
    if name == "native_layer_norm":
        sizes = draw(shapes(2))
        last = list(sizes[-draw(st.integers(1, len(sizes) - 1)) :])
        scale = draw(st.sampled_from([None, hollow(tuple(last))]))
        return aten.native_layer_norm.default, (draw(tensors(sizes)), last, scale, scale, 1e-5)
    if name == "convolution":
        groups = draw(st.integers(1, 2))
        into, out, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        rank = draw(st.integers(1, 2))
        x = hollow((2, into * groups, *(7,) * rank))
        weight = hollow((out * groups, into, *(kernel,) * rank))
        bias = draw(st.sampled_from([None, hollow((out * groups,))]))
        numbers = [[draw(st.integers(low, 2))] * rank for low in (1, 0, 1)]
        return aten.convolution.default, (x, weight, bias, *numbers, False, [0] * rank, groups)
    if name == "cat":
        sizes, axis = draw(shapes()), 0
        axis = draw(st.integers(-len(sizes), len(sizes) - 1))
        others = [tuple(n + (1 if i == axis % len(sizes) else 0) for i, n in enumerate(sizes)), sizes]
        return aten.cat.default, ([draw(tensors(one)) for one in (sizes, *others)], axis)
    if name in ("mean", "linalg_vector_norm"):
        sizes = draw(shapes())
        axes = draw(st.lists(st.integers(0, len(sizes) - 1), unique=True, min_size=1))
        keep = draw(st.booleans())
        if name == "mean":
            return aten.mean.dim, (draw(tensors(sizes)), axes, keep)
        return aten.linalg_vector_norm.default, (draw(tensors(sizes)), 2, axes, keep)
    if name in ("_softmax", "_safe_softmax"):
        sizes = draw(shapes())
        rest = (False,) if name == "_softmax" else ()
        return getattr(aten, name).default, (draw(tensors(sizes)), draw(st.integers(0, len(sizes) - 1)), *rest)
    if name.startswith("upsample"):
        sizes = draw(shapes(4, 4))
        wanted = [draw(st.integers(1, 9)) for _ in range(2)]
        rest = (None, None) if "nearest" in name else (False, None, None)
        return getattr(aten, name).default, (draw(tensors(sizes)), wanted, *rest)
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        batch = (draw(st.integers(1, 3)),) if "b" in name else ()
        n, k, m = (draw(st.integers(1, 4)) for _ in range(3))
        pair = (draw(tensors((*batch, n, k))), draw(tensors((*batch, k, m))))
        if name in ("mm", "bmm"):
            return getattr(aten, name).default, pair
        added = draw(st.sampled_from([(m,), (*batch, n, m)]))
        return getattr(aten, name).default, (draw(tensors(added)), *pair)
    return getattr(aten, name).default, (
        draw(tensors(draw(shapes()))),
        *{"clamp": (0.1, 2.0), "clamp_min": (0.1,)}.get(name, ()),
    )


def layout(x: Tensor) -> tuple[Any, ...]:
    """What later operators can see; the stride of a dimension of one tells nothing."""
    return tuple(x.shape), [s for n, s in zip(x.shape, x.stride(), strict=True) if n > 1], x.dtype, x.device.type


def test_one_pixel_with_its_channels_last_is_resampled_as_torch_does() -> None:
    pixel = torch.empty_strided((1, 2, 1, 1), (2, 1, 2, 2), device="meta")
    args = (pixel, [1, 2], None, None)
    found = hollow_result(aten.upsample_nearest2d.default, "upsample_nearest2d", args)

    assert pixel.is_contiguous()
    assert found is None or layout(found) == layout(aten.upsample_nearest2d.default(*args))


@pytest.mark.parametrize("name", sorted(_SHAPES))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_direct_results_are_torchs_own(name: str, data: st.DataObject) -> None:
    """Whatever is worked out directly has the shape, the layout and the type that torch gives it."""
    func, args = data.draw(calls(name))
    found = hollow_result(func, name, args)
    if found is None:  # left to torch
        return
    expected = func(*args)
    mine, theirs = ([x for x in tree_leaves(made) if isinstance(x, Tensor)] for made in (found, expected))
    assert layout(mine[0]) == layout(theirs[0])
    if name != "native_batch_norm" or args[5]:  # in eval mode its statistics are empty on real tensors
        assert [tuple(x.shape) for x in mine] == [tuple(x.shape) for x in theirs]


@pytest.mark.parametrize("name", sorted(_SHAPES))
def test_plain_calls_are_worked_out_directly(name: str) -> None:
    """The short way is taken at all: a table whose entries always give up would pass the comparison."""

    @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], database=None, derandomize=True)
    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        func, args = data.draw(calls(name))
        taken.append(hollow_result(func, name, args) is not None)

    taken: list[bool] = []
    collect()
    assert any(taken)
