"""Small facts about ONNX graphs that several modules need: shapes, constants, sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from hwprune.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL = 256  # elements: larger constants never decide a shape
TENSORS = "hwprune.tensors"  # entry of a graph: names of all tensors of the module that it was exported from


def shapes_of(model: ModelProto, *, check_types: bool = True) -> dict[str, tuple[int, ...]]:
    """Shape of every value by ONNX's strict inference; unknown or symbolic ones are left out.

    Large weights are replaced by bare declarations first, so it takes milliseconds whatever the size.

    Raises:
        EngineError: operators, types or shapes do not fit together.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(
            _without_weights(model), check_type=check_types, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EngineError("the ONNX graph does not fit together", where=reason) from error
    graph = inferred.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if (shape := static_shape(value)) is not None:
            shapes[value.name] = shape
    return shapes


def static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The declared shape, or None where it is missing or has a symbol in it."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tuple(dim.dim_value for dim in tensor.shape.dim)


def small_constants(model: ModelProto) -> dict[str, np.ndarray]:
    """Initialisers that may decide a shape: integers, few elements."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and int(np.prod(tensor.dims)) <= SMALL
    }


def attribute(node: onnx.NodeProto, name: str, default: int = 0) -> int:
    """An integer attribute of a node."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def set_attribute(node: onnx.NodeProto, name: str, value: int) -> None:
    """Set an integer attribute of a node, whether it was there or not."""
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by state-dict name, tied and non-persistent ones too."""
    return {
        **dict(model.named_buffers(remove_duplicate=False)),
        **dict(model.named_parameters(remove_duplicate=False)),
    }


def load(model: bytes | Path) -> ModelProto:
    """Parse a model; with a path, weights that lie beside it are read too.

    Raises:
        EngineError: it is no ONNX model, or a file is missing.
    """
    try:
        if isinstance(model, Path):
            return onnx.load(model)
        return onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's DecodeError is private, and files fail in their own ways
        where = model if isinstance(model, Path) else f"{len(model)} bytes"
        raise EngineError("this cannot be read as an ONNX model", where=f"{where}: {error}") from error


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy whose large initialisers are inputs without data."""
    small = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = small.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return small
