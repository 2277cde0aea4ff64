"""What the nodes of an exported graph are: their operators and, of convolutions and products, their geometry.

An engine's layers name the nodes that they stand for. What those nodes do comes from the ONNX graph where there is
one, from the engine inspector's shapes where there is that, else from the nodes' names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import onnx
from onnx import ModelProto, NodeProto, helper

from hwprune.layer import Layer
from hwprune.runtimes.onnx_graph import attribute, load, shapes_of
from hwprune.runtimes.tensorrt_layers import EngineLayer

Role = Literal["main", "pointwise", "other"]
Shapes = Mapping[str, tuple[int, ...]]

MAIN: Final = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
# Work on single elements (and batch norm, which is so at inference): what a runtime can fold into a layer before it.
# fmt: off
POINTWISE: Final = frozenset({
    "Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "PRelu", "QuickGelu",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh",
    "Where",
})
# fmt: on
_COUNTED: Final = re.compile(r"[@_]\d+$")  # "Conv_12" and "Conv@2": of the second node of a name


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the graph.

    Attributes:
        op: its ONNX operator.
        widths: input and output channels, where they are known and it is a convolution or product.
        layer: the same as the hardware sees it, where its whole geometry is known.
    """

    op: str
    widths: tuple[int, int] | None = None
    layer: Layer | None = None

    @property
    def role(self) -> Role:
        """Whether it is worth a layer of its own, could be fused into one, or moves and pools."""
        return "main" if self.op in MAIN else "pointwise" if self.op in POINTWISE else "other"


@dataclass(frozen=True)
class Structure:
    """The nodes of one network by name; may be empty, and then names are all there is."""

    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))

    def __getitem__(self, name: str) -> Node:
        """The node, or what its name tells.

        >>> Structure()["layer1.0.conv1/Conv@2"].role, Structure()["/model.0/act/Sigmoid"].role
        ('main', 'pointwise')
        """
        return self.nodes.get(name) or Node(_COUNTED.sub("", name.rpartition("/")[2]))

    def names(self, name: str) -> tuple[str, ...]:
        """The nodes that a name means: itself, or all nodes of the module of that name."""
        if name in self.nodes:
            return (name,)
        inside = tuple(node for node in self.nodes if node.rpartition("/")[0] == name)
        return inside or (name,)


def of_onnx(model: bytes | Path) -> Structure:
    """The structure of an ONNX file. Raises `EngineError` where it cannot be read or does not fit together."""
    proto = load(model)
    shapes = shapes_of(proto)
    return Structure({node.name: _node(node, shapes, proto) for node in proto.graph.node if node.name})


def of_layers(layers: Iterable[EngineLayer]) -> Structure:
    """The structure that an engine's inspector tells; of layers without shapes it tells nothing."""
    found = {}
    for layer in layers:
        for name in layer.nodes if layer.kind == "layer" else ():
            node = Structure()[name]
            if node.role == "main" and layer.inputs and layer.outputs:
                shapes = layer.inputs[0].shape, layer.outputs[0].shape
                if all(len(shape) > 1 for shape in shapes):
                    node = Node(node.op, (shapes[0][1], shapes[1][1]))
            found[name] = node
    return Structure(found)


def _node(node: NodeProto, shapes: Shapes, proto: ModelProto) -> Node:
    known = all(value in shapes for value in (*node.input[:2], *node.output))
    if node.op_type not in MAIN or not known:
        return Node(node.op_type)
    layer = None
    if node.op_type in ("Conv", "ConvTranspose"):
        layer = _convolution(node, shapes, proto)
    elif node.op_type in ("Gemm", "MatMul"):
        layer = _linear(node, shapes)
    return Node(node.op_type, None if layer is None else (layer.c_in, layer.c_out), layer)


def _convolution(node: NodeProto, shapes: Shapes, proto: ModelProto) -> Layer:
    x, weight, out = (shapes[name] for name in (node.input[0], node.input[1], node.output[0]))
    rank, groups = len(weight) - 2, attribute(node, "group", 1)
    pads = _integers(node, "pads", (0,) * (2 * rank))
    followed = [other for other in proto.graph.node if node.output[0] in other.input]
    normalised = len(followed) == 1 and followed[0].op_type == "BatchNormalization"  # its shift becomes the bias
    biased = "bias" if len(node.input) > 2 or normalised else ""
    return Layer(
        "conv",
        x[1],
        out[1],
        batch=x[0],
        size=x[2:],
        kernel=weight[2:],
        stride=_integers(node, "strides", (1,) * rank),
        padding=pads[:rank],
        dilation=_integers(node, "dilations", (1,) * rank),
        group_width=0 if groups == 1 else x[1] // groups,
        variant="transposed" if node.op_type == "ConvTranspose" else biased,
        out_size=out[2:],
    )


def _linear(node: NodeProto, shapes: Shapes) -> Layer:
    x, out = shapes[node.input[0]], shapes[node.output[0]]
    rows, batch = prod(x[:-1]), x[0]
    tokens = () if rows == batch or rows % batch else (rows // batch,)
    return Layer(
        "linear",
        x[-1],
        out[-1],
        batch=batch if tokens else rows,
        size=tokens,
        variant="bias" if len(node.input) > 2 else "",
        out_size=tokens,
    )


def _integers(node: NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found: onnx.AttributeProto | None = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else tuple(helper.get_attribute_value(found))
