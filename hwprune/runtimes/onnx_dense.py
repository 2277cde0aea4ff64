"""Products with a constant matrix as 1x1 convolutions: the same sums, for builders that only have the latter.

TensorRT-RTX 1.7 has float32 convolutions for Turing (sm_75) and no float32 matrix products: a network's classifier
alone would make it refuse the whole network.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hwprune.runtimes.onnx_graph import attribute, shapes_of


def products_as_convolutions(model: ModelProto) -> ModelProto:
    """A copy whose Gemm and MatMul nodes with a float32 matrix among the constants are Conv nodes of the same name.

    Those of two activations stay, and so does a Gemm whose bias is no vector.
    """
    found = ModelProto()
    found.CopyFrom(model)
    graph, shapes = found.graph, shapes_of(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        weights = _weights(node, constants)
        before, after = (shapes.get(value) for value in (node.input[0] if node.input else "", node.output[0]))
        if weights is None or before is None or after is None:
            nodes.append(node)
            continue
        flat, shape = f"{node.name}/flat", f"{node.name}/shape"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, before[-1], 1, 1]), flat))
        graph.initializer.append(numpy_helper.from_array(np.array(after), shape))
        graph.initializer.extend(weights)
        inputs = [f"{node.name}/rows", *(tensor.name for tensor in weights)]
        nodes += [
            helper.make_node("Reshape", [node.input[0], flat], inputs[:1], name=f"{node.name}/before"),
            helper.make_node("Conv", inputs, [f"{node.name}/columns"], name=node.name),
            helper.make_node("Reshape", [f"{node.name}/columns", shape], node.output[:1], name=f"{node.name}/after"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {value for node in nodes for value in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return found


def _weights(node: NodeProto, constants: dict[str, TensorProto]) -> list[TensorProto] | None:
    """Weight (out, in, 1, 1) and bias of the convolution; None where the node has to stay."""
    if node.op_type not in ("Gemm", "MatMul") or node.input[0] in constants or attribute(node, "transA"):
        return None
    tensor = constants.get(node.input[1])
    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
        return None
    matrix = numpy_helper.to_array(tensor)
    if not attribute(node, "transB"):  # a MatMul has no such attribute, and its matrix is (in, out) as well
        matrix = matrix.T
    matrix = matrix * np.float32(_factor(node, "alpha"))
    found = [numpy_helper.from_array(np.ascontiguousarray(matrix[:, :, None, None]), f"{node.name}/weight")]
    if len(node.input) > 2 and node.input[2]:
        bias = constants.get(node.input[2])
        if bias is None or list(bias.dims) != [len(matrix)]:
            return None
        scaled = numpy_helper.to_array(bias) * np.float32(_factor(node, "beta"))
        found.append(numpy_helper.from_array(scaled, f"{node.name}/bias"))
    return found


def _factor(node: NodeProto, name: str) -> float:
    return next((float(a.f) for a in node.attribute if a.name == name), 1.0)
