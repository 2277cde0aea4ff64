"""An ONNX graph in half precision: runtimes with strongly typed networks take their types from the graph."""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hwprune.errors import EngineError
from hwprune.runtimes.onnx_graph import shapes_of

Half = Literal["fp16", "bf16"]
TYPES = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
LARGEST = {np.float16: 65504.0, ml_dtypes.bfloat16: 3.3895313892515355e38}


def to_half(model: ModelProto, precision: Half) -> ModelProto:
    """A copy of ``model`` whose float32 inputs, outputs, constants and casts are ``precision``.

    All of it is: nothing stays in float32 inside. Values below half precision's range become zero.

    Raises:
        EngineError: a weight is above the range, or an operator does not take the type.
    """
    code, dtype = TYPES[precision]
    half = ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    for position, tensor in enumerate(graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            graph.initializer[position].CopyFrom(_converted(tensor, dtype))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = code
    _convert_nodes(graph, code, dtype)
    if precision == "bf16":
        _spell_out(graph)
    del graph.value_info[:]
    try:
        # At this opset ONNX declares bfloat16 for few operators, though TensorRT takes it: the runtime decides.
        shapes_of(half, check_types=precision == "fp16")
    except EngineError as error:
        raise EngineError(
            f"this graph cannot be run in {precision} throughout",
            where=" ".join(str(error).split()),
            fix="use --precision fp32 or tf32 for this network",
        ) from error
    return half


def _spell_out(graph: GraphProto) -> None:
    """Activations that TensorRT's parser does not take in bfloat16, by ONNX's own definitions of them."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type not in ("HardSwish", "Mish"):
            nodes.append(node)
            continue
        x, gate, plus = node.input[0], f"{node.name}@gate", f"{node.name}@plus"
        if node.op_type == "HardSwish":
            nodes.append(helper.make_node("HardSigmoid", [x], [gate], name=gate, alpha=1 / 6, beta=0.5))
        else:
            nodes.append(helper.make_node("Softplus", [x], [plus], name=plus))
            nodes.append(helper.make_node("Tanh", [plus], [gate], name=gate))
        nodes.append(helper.make_node("Mul", [x, gate], node.output[:1], name=node.name))
    del graph.node[:]
    graph.node.extend(nodes)


def _convert_nodes(graph: GraphProto, code: int, dtype: type) -> None:
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # means zeros in float32
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise EngineError("control flow cannot be converted to half precision", where=node.name)
            if node.op_type in ("Cast", "Constant", "ConstantOfShape", "EyeLike", "RandomNormal"):
                _convert_attribute(node, attribute, code, dtype)


def _convert_attribute(node: NodeProto, attribute: onnx.AttributeProto, code: int, dtype: type) -> None:
    if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
        attribute.i = code
    elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
        attribute.t.CopyFrom(_converted(attribute.t, dtype))
    elif attribute.name in ("value_float", "value_floats"):
        raise EngineError("a constant without a tensor cannot be converted to half precision", where=node.name)


def _converted(tensor: TensorProto, dtype: type) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if values.size and np.abs(values[np.isfinite(values)]).max(initial=0.0) > LARGEST[dtype]:
        raise EngineError(
            f"a weight is above the largest number of {np.dtype(dtype).name}",
            where=tensor.name,
            effect="it would become infinite",
            fix="use --precision bf16, tf32 or fp32 for this network",
        )
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), tensor.name)
