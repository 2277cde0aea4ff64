"""Every kind of layer as ONNX nodes, made directly: neither torch nor an exporter has a part in it.

`BUILDERS` is the table of kinds, `ACTIVATIONS`, `NORMS` and `POOLS` those of variants, named as PyTorch names its
operators; a variant that is in none of them is a `ProfileError` that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwprune.errors import ProfileError, listed
from hwprune.layer import Kind, Layer

OPSET: Final = 20  # the first with Gelu
IR_VERSION: Final = 10  # what every runtime that reads this opset accepts
RANDOM_VALUES: Final = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32) * np.float32(0.05)


@dataclass
class Graph:
    """An ONNX graph in the making; tensors are known by name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def input(self, *shape: int) -> str:
        """A new input of the model."""
        name = f"input{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def weight(self, *shape: int, positive: bool = False) -> str:
        """Random values, the same in every model."""
        values = np.resize(RANDOM_VALUES, prod(shape)).reshape(shape)
        return self.constant(np.abs(values) + np.float32(0.5) if positive else values)

    def constant(self, values: np.ndarray) -> str:
        """These values."""
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        """An operator with one output; returns that output."""
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, outputs: Iterable[str]) -> bytes:
        """The model, with the fixed output shapes that engine builders ask for."""
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "layer", self.inputs, results, self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="hwprune")
        serialised: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
        return serialised


def add_layer(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    """Adds the nodes of ``layer`` behind the tensors ``inputs``; returns its output.

    A convolution is followed by a ReLU, as in a network, where runtimes fuse it.

    Raises:
        ProfileError: the kind has no such variant.
    """
    return BUILDERS[layer.kind](graph, layer, inputs)


def unknown_variant(layer: Layer, known: Iterable[str]) -> ProfileError:
    """The error for a variant that nobody knows how to build."""
    return ProfileError(
        f"no way to measure the {layer.kind} variant {layer.variant!r}",
        where=layer,
        effect="its latency would be missing from every prediction",
        fix=f"known variants are {listed(sorted(known), most=60)}",
    )


def _conv(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    if layer.variant not in ("", "bias", "transposed"):
        raise unknown_variant(layer, ("", "bias", "transposed"))
    dilations = list(layer.dilation) or [1] * len(layer.kernel)
    settings = {"group": layer.groups, "dilations": dilations, **_window(layer)}
    if layer.variant == "transposed":
        weight = graph.weight(layer.c_in, layer.c_out // layer.groups, *layer.kernel)
        out = graph.node("ConvTranspose", *inputs, weight, output_shape=list(layer.out_size), **settings)
    else:
        weight = graph.weight(layer.c_out, layer.c_in // layer.groups, *layer.kernel)
        bias = [graph.weight(layer.c_out)] if layer.variant == "bias" else []
        out = graph.node("Conv", *inputs, weight, *bias, **settings)
    return graph.node("Relu", out)


def _linear(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    bias = [graph.weight(layer.c_out)] if layer.variant == "bias" else []
    if not layer.size:
        return graph.node("Gemm", *inputs, graph.weight(layer.c_out, layer.c_in), *bias, transB=1)
    out = graph.node("MatMul", *inputs, graph.weight(layer.c_in, layer.c_out))
    return graph.node("Add", out, *bias) if bias else out


def _norm(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    if layer.variant not in NORMS:
        raise unknown_variant(layer, NORMS)
    scale, shift = graph.weight(layer.c_in), graph.weight(layer.c_in)
    if layer.variant == "group_norm":
        return _group_norm(graph, layer, inputs[0], scale, shift)
    if layer.variant == "instance_norm":
        return graph.node("InstanceNormalization", *inputs, scale, shift)
    mean, variance = graph.weight(layer.c_in), graph.weight(layer.c_in, positive=True)
    return graph.node("BatchNormalization", *inputs, scale, shift, mean, variance)


def _group_norm(graph: Graph, layer: Layer, x: str, scale: str, shift: str) -> str:
    """As exporters write it: instance normalisation of the regrouped channels, then scale and shift."""
    groups = layer.groups
    grouped = graph.node("Reshape", x, graph.constant(np.array([layer.batch, groups, -1])))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    normed = graph.node("InstanceNormalization", grouped, graph.constant(ones), graph.constant(zeros))
    back = graph.node("Reshape", normed, graph.constant(np.array([layer.batch, layer.c_in, *layer.size])))
    shape = graph.constant(np.array([layer.c_in, *(1 for _ in layer.size)]))
    scaled = graph.node("Mul", back, graph.node("Reshape", scale, shape))
    return graph.node("Add", scaled, graph.node("Reshape", shift, shape))


def _activation(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    if layer.variant in RESIZES:
        scales = [1.0, 1.0, *(out / size for out, size in zip(layer.out_size, layer.size, strict=True))]
        factors = graph.constant(np.array(scales, np.float32))
        return graph.node("Resize", *inputs, "", factors, mode=RESIZES[layer.variant])
    if layer.variant == "copy":
        return _copy(graph, layer, inputs[0])
    if layer.variant in ("native_layer_norm", "layer_norm"):
        last = (layer.size or (layer.c_in,))[-1]
        return graph.node("LayerNormalization", *inputs, graph.weight(last), graph.weight(last), axis=-1)
    if layer.variant not in ACTIVATIONS:
        raise unknown_variant(layer, [*ACTIVATIONS, *RESIZES, "copy", "layer_norm"])
    return ACTIVATIONS[layer.variant](graph, inputs[0])


def _copy(graph: Graph, layer: Layer, x: str) -> str:
    """One pass over the tensor: runtimes would drop an identity, so the first channel changes its end."""
    rank = 2 + len(layer.size)
    front, back = [0] * rank, [0] * rank
    front[1], back[1] = 1, -1
    return graph.node("Pad", x, graph.constant(np.array([*front, *back])))


def _add(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    return graph.node("Add", *inputs)


def _mul(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    return graph.node("Mul", *inputs)


def _cat(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    return graph.node("Concat", *inputs, axis=1)


def _pool(graph: Graph, layer: Layer, inputs: list[str]) -> str:
    if layer.variant not in POOLS:
        raise unknown_variant(layer, POOLS)
    op = POOLS[layer.variant]
    if not layer.variant.startswith("adaptive"):
        return graph.node(op, *inputs, **_window(layer))
    if prod(layer.out_size) == 1:
        return graph.node(f"Global{op}", *inputs)
    # Windows of an adaptive pooling differ by a pixel; equal ones of the same stride cost the same.
    stride = [max(size // out, 1) for size, out in zip(layer.size, layer.out_size, strict=True)]
    sizes = zip(layer.size, layer.out_size, stride, strict=True)
    kernel = [max(size - (out - 1) * step, 1) for size, out, step in sizes]
    return graph.node(op, *inputs, kernel_shape=kernel, strides=stride)


def _window(layer: Layer) -> dict[str, list[int]]:
    rank = len(layer.kernel)
    settings = {"kernel_shape": list(layer.kernel), "strides": list(layer.stride) or [1] * rank}
    if layer.variant == "transposed":  # the fixed output shape says the padding
        return settings
    before = list(layer.padding) or [0] * rank
    after = _padding_after(layer, before) if layer.kind == "pool" and layer.out_size else before
    return {**settings, "pads": before + after}


def _padding_after(layer: Layer, before: list[int]) -> list[int]:
    """Of a pooling: as much as makes the output's size, which may have been rounded up."""
    stride = layer.stride or (1,) * len(layer.kernel)
    sizes = zip(layer.size, layer.out_size, layer.kernel, stride, before, strict=True)
    return [max((out - 1) * step + kernel - size - pad, 0) for size, out, kernel, step, pad in sizes]


def _unary(op: str, **attributes: object) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.node(op, x, **attributes)


def _with_scalar(op: str, *scalars: float) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.node(op, x, *(graph.constant(np.array(value, np.float32)) for value in scalars))


def _silu(graph: Graph, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _log_sigmoid(graph: Graph, x: str) -> str:
    return graph.node("Log", graph.node("Sigmoid", x))


def _prelu(graph: Graph, x: str) -> str:
    return graph.node("PRelu", x, graph.weight(1))


def _rsub(graph: Graph, x: str) -> str:
    return graph.node("Sub", graph.constant(np.array(0.5, np.float32)), x)


def _rsqrt(graph: Graph, x: str) -> str:
    return graph.node("Reciprocal", graph.node("Sqrt", x))


Builder = Callable[[Graph, Layer, list[str]], str]

BUILDERS: Final[Mapping[Kind, Builder]] = MappingProxyType(
    {
        "conv": _conv,
        "linear": _linear,
        "norm": _norm,
        "activation": _activation,
        "add": _add,
        "mul": _mul,
        "cat": _cat,
        "pool": _pool,
    }
)

NORMS: Final = ("batch_norm", "group_norm", "instance_norm")

POOLS: Final[Mapping[str, str]] = MappingProxyType(
    {"max": "MaxPool", "avg": "AveragePool", "adaptive_max": "MaxPool", "adaptive_avg": "AveragePool"}
)

RESIZES: Final[Mapping[str, str]] = MappingProxyType(
    {"upsample_nearest2d": "nearest", "upsample_bilinear2d": "linear", "_upsample_bilinear2d_aa": "linear"}
)

ACTIVATIONS: Final[Mapping[str, Callable[[Graph, str], str]]] = MappingProxyType(
    {
        "_prelu_kernel": _prelu,
        "_softmax": _unary("Softmax", axis=-1),
        "abs": _unary("Abs"),
        "add": _with_scalar("Add", 0.5),
        "celu": _unary("Celu"),
        "clamp": _with_scalar("Clip", -1.0, 1.0),
        "clamp_max": _with_scalar("Min", 1.0),
        "clamp_min": _with_scalar("Max", 0.5),
        "div": _with_scalar("Div", 1.5),
        "elu": _unary("Elu"),
        "erf": _unary("Erf"),
        "exp": _unary("Exp"),
        "gelu": _unary("Gelu"),
        "hardsigmoid": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
        "hardswish": _unary("HardSwish"),
        "hardtanh": _with_scalar("Clip", -1.0, 1.0),
        "leaky_relu": _unary("LeakyRelu", alpha=0.01),
        "log": _unary("Log"),
        "log_sigmoid": _log_sigmoid,
        "mish": _unary("Mish"),
        "mul": _with_scalar("Mul", 1.5),
        "neg": _unary("Neg"),
        "pow": _with_scalar("Pow", 3.0),
        "prelu": _prelu,
        "reciprocal": _unary("Reciprocal"),
        "relu": _unary("Relu"),
        "relu6": _with_scalar("Clip", 0.0, 6.0),
        "round": _unary("Round"),
        "rsqrt": _rsqrt,
        "rsub": _rsub,
        "selu": _unary("Selu"),
        "sigmoid": _unary("Sigmoid"),
        "silu": _silu,
        "sin": _unary("Sin"),
        "softmax": _unary("Softmax", axis=-1),
        "softplus": _unary("Softplus"),
        "softsign": _unary("Softsign"),
        "sqrt": _unary("Sqrt"),
        "square": _with_scalar("Pow", 2.0),
        "sub": _with_scalar("Sub", 0.5),
        "tanh": _unary("Tanh"),
    }
)
