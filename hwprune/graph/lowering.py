"""From ATen calls to the layers that cost time, with widths as functions of the groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from math import prod
from typing import Final

import numpy as np

from hwprune.graph.labels import Dims, Labels
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.graph.mixing import convolve, normalise
from hwprune.graph.rules import RULES, unlabelled
from hwprune.graph.tiling import constant, made_like
from hwprune.graph.trace import Op, Trace, Value
from hwprune.layer import Kind, Layer

# Operators that move no data of their own: views, and what every runtime removes.
FREE: Final = frozenset(
    (
        *("alias", "as_strided", "chunk", "contiguous", "detach", "dropout", "expand", "feature_dropout", "flatten"),
        *("lift_fresh", "native_dropout", "permute", "reshape", "select", "slice", "split", "split_with_sizes"),
        *("squeeze", "t", "to", "transpose", "unflatten", "_unsafe_view", "unsqueeze", "view", "_to_copy"),
    )
)
_POOLS: Final[Mapping[str, str]] = {
    "max_pool1d": "max",
    "max_pool2d": "max",
    "max_pool2d_with_indices": "max",
    "max_pool3d_with_indices": "max",
    "avg_pool1d": "avg",
    "avg_pool2d": "avg",
    "avg_pool3d": "avg",
    "_adaptive_avg_pool2d": "adaptive_avg",
    "_adaptive_avg_pool3d": "adaptive_avg",
    "adaptive_avg_pool1d": "adaptive_avg",
    "adaptive_max_pool2d": "adaptive_max",
}
_ARITHMETIC: Final[Mapping[str, Kind]] = {"add": "add", "sub": "add", "rsub": "add", "mul": "mul", "div": "mul"}
_COPIES: Final = frozenset(["clone", "copy", "constant_pad_nd", "flip"])
_MATRIX: Final = frozenset(["addmm", "mm", "linear"])
# What a runtime folds into a convolution or linear layer that stands right before it.
_FUSED_ACTIVATIONS: Final = frozenset(["relu", "relu6"])


def lower(
    record: Trace,
    dims: Callable[[Value], Dims],
    group_of: Labels,
    names: Sequence[str],
    offsets: Container[int] = frozenset(),
) -> tuple[tuple[NetworkLayer, ...], dict[str, tuple[WidthOf, ...]]]:
    """The network's layers, and the dimensions of its parameters, as functions of the widths.

    Args:
        dims: of a value the coupled channels' numbers, -1 where they stay, None where a dimension is no channels.
        group_of: (coupled channels,) position of each one's group in ``names``.
        names: of the groups.
        offsets: positions of grouped convolutions that lose the same offset in every group.
    """
    totals = np.bincount(group_of, minlength=len(names)) if len(names) else np.zeros(0, dtype=np.int64)

    known: dict[int, tuple[Labels, WidthOf]] = {}  # values share their numbers; an id needs its array alive

    def width(size: int, numbers: Labels | None) -> WidthOf:
        if numbers is None:
            return WidthOf(size)
        if id(numbers) not in known:
            here = np.bincount(group_of[numbers[numbers >= 0]], minlength=len(names))
            terms = tuple((names[g], round(int(here[g]) / int(totals[g]))) for g in np.flatnonzero(here).tolist())
            known[id(numbers)] = (numbers, WidthOf(int((numbers < 0).sum()), terms))
        return known[id(numbers)][1]

    def widths_of(value: Value) -> tuple[WidthOf, ...]:
        return tuple(width(size, numbers) for size, numbers in zip(value.shape, dims(value), strict=True))

    sizes = {name: widths_of(value) for name, value in record.parameters.items()}
    return tuple(_Lowering(record, widths_of, offsets).layers()), sizes


class _Lowering:
    """One pass over the calls; remembers who wrote a value and how often it is read, to see what gets fused."""

    def __init__(
        self, record: Trace, widths_of: Callable[[Value], tuple[WidthOf, ...]], offsets: Container[int]
    ) -> None:
        self.record, self.widths_of, self.offsets = record, widths_of, offsets
        self.writer = {value.number: op for op in record.ops for value in op.outputs}
        self.readers: dict[int, list[Op]] = {}
        for op in record.ops:
            for value in op.inputs:
                self.readers.setdefault(value.number, []).append(op)
        self.batch = record.inputs[0].shape[0] if record.inputs and record.inputs[0].shape else 1
        self.open: set[int] = set()  # values that a following norm or activation would be fused onto
        self.seen: Counter[str] = Counter()

    def layers(self) -> list[NetworkLayer]:
        made = []
        for position, op in enumerate(self.record.ops):
            if op.name in FREE:
                continue
            rule = RULES.get(op.name)
            if rule in (unlabelled, made_like, constant) or not op.inputs or not op.outputs:
                continue
            made.append(self._layer(op, position in self.offsets))
        return made

    def _layer(self, op: Op, groups_stay: bool) -> NetworkLayer:
        x, out = op.inputs[0], op.outputs[0]
        rule = RULES.get(op.name)
        if rule is convolve:
            layer, c_in, c_out = self._convolution(op)
        elif op.name in _MATRIX:
            layer, c_in, c_out = self._linear(op)
        else:
            c_in = c_out = self._channels(out)
            layer = self._channelwise(op, x, out)
        fused = self._is_fused(op, layer)
        if layer.kind in ("conv", "linear", "add") or fused:
            self.open.add(out.number)
        name = op.module or op.name
        self.seen[name] += 1
        unique = name if self.seen[name] == 1 else f"{name}@{self.seen[name]}"
        return NetworkLayer(unique, layer, c_in, c_out, fused, layer.groups if groups_stay else 0)

    def _is_fused(self, op: Op, layer: Layer) -> bool:
        source = op.inputs[0].number
        alone = len(self.readers.get(source, [])) == 1
        follows = source in self.open and alone
        if layer.kind == "norm":
            writer = self.writer.get(source)
            return follows and writer is not None and RULES.get(writer.name) is convolve
        return follows and layer.kind == "activation" and layer.variant in _FUSED_ACTIVATIONS

    def _channels(self, value: Value) -> WidthOf:
        dims = self.widths_of(value)
        return dims[1] if len(dims) > 1 else WidthOf(prod(value.shape))

    def _convolution(self, op: Op) -> tuple[Layer, WidthOf, WidthOf]:
        x, weight = op.args[0], op.args[1]
        stride, padding, dilation = (tuple(int(v) for v in op.args[i]) for i in (3, 4, 5))
        transposed, groups = bool(op.args[6]), int(op.args[8])
        out, rank = op.outputs[0], len(weight.shape) - 2
        followed = self.readers.get(out.number, [])
        biased = op.args[2] is not None or (len(followed) == 1 and RULES.get(followed[0].name) is normalise)
        layer = Layer(
            "conv",
            x.shape[1],
            out.shape[1],
            batch=x.shape[0],
            size=x.shape[2:],
            kernel=weight.shape[2:],
            stride=(stride * rank)[:rank],
            padding=(padding * rank)[:rank],
            dilation=(dilation * rank)[:rank],
            group_width=0 if groups == 1 else x.shape[1] // groups,
            variant="transposed" if transposed else "bias" if biased else "",
            out_size=out.shape[2:],
        )
        return layer, self._channels(x), self._channels(out)

    def _linear(self, op: Op) -> tuple[Layer, WidthOf, WidthOf]:
        *bias, x, weight = op.inputs
        rows = prod(x.shape[:-1])
        tokens = () if rows == self.batch or rows % self.batch else (rows // self.batch,)
        layer = Layer(
            "linear",
            x.shape[-1],
            op.outputs[0].shape[-1],
            batch=rows if not tokens else self.batch,
            size=tokens,
            variant="bias" if bias else "",
            out_size=tokens,
        )
        return layer, self.widths_of(weight)[0], self.widths_of(op.outputs[0])[-1]

    def _channelwise(self, op: Op, x: Value, out: Value) -> Layer:
        channels = out.shape[1] if len(out.shape) > 1 else prod(out.shape)
        size, out_size, batch = x.shape[2:], out.shape[2:], out.shape[0] if out.shape else 1
        tensors = len(op.inputs)
        if RULES.get(op.name) is normalise:
            return Layer("norm", channels, channels, batch, size, variant="batch_norm", out_size=out_size)
        if op.name in _ARITHMETIC and tensors > 1:
            small = min(op.inputs, key=lambda value: prod(value.shape))
            variant = "" if small.shape == out.shape else "broadcast"
            return Layer(_ARITHMETIC[op.name], channels, channels, batch, out_size, variant=variant, out_size=out_size)
        if op.name == "cat":
            return Layer("cat", channels, channels, batch, out_size, out_size=out_size)
        if op.name in _COPIES:
            return Layer("activation", channels, channels, batch, out_size, variant="copy", out_size=out_size)
        if op.name in _POOLS or (op.name == "mean" and len(x.shape) > 2):
            return self._pool(op, channels, batch, size, out_size)
        return Layer("activation", channels, channels, batch, size, variant=_activation(op), out_size=out_size)

    def _pool(self, op: Op, channels: int, batch: int, size: tuple[int, ...], out_size: tuple[int, ...]) -> Layer:
        variant = _POOLS.get(op.name, "adaptive_avg")
        out_size = out_size or (1,) * len(size)
        if variant.startswith("adaptive"):
            return Layer("pool", channels, channels, batch, size, variant=variant, out_size=out_size)
        rank = len(size)
        kernel = tuple(int(v) for v in op.args[1])
        stride = tuple(int(v) for v in (op.args[2] if len(op.args) > 2 and op.args[2] else kernel))
        padding = tuple(int(v) for v in (op.args[3] if len(op.args) > 3 else (0,)))
        return Layer(
            "pool",
            channels,
            channels,
            batch,
            size,
            kernel=(kernel * rank)[:rank],
            stride=(stride * rank)[:rank],
            padding=(padding * rank)[:rank],
            variant=variant,
            out_size=out_size,
        )


def _activation(op: Op) -> str:
    """Name of an element-wise function; ReLU6 arrives as hardtanh from 0 to 6."""
    if op.name == "hardtanh" and tuple(float(v) for v in op.args[1:3]) == (0.0, 6.0):
        return "relu6"
    return op.name
