"""Small ONNX networks, written without an exporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save


def two_convolutions(path: Path, widths: tuple[int, int], *, size: int = 16) -> Path:
    """conv 3x3, ReLU, conv 3x3, ReLU of these widths on a (1, 3, size, size) image."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (widths[0], 3, 3, 3), "conv2": (widths[1], widths[0], 3, 3)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"{name}.weight")
        for name, shape in shapes.items()
    ]
    nodes, value = [], "image"
    for name in shapes:
        nodes += [
            helper.make_node("Conv", [value, f"{name}.weight"], [name], pads=[1, 1, 1, 1], name=name),
            helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"),
        ]
        value = f"{name}.relu"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, size, size))
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, widths[1], size, size))
    graph = helper.make_graph(nodes, "two_convolutions", [image], [result], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
