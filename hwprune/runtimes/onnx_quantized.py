"""An ONNX graph with explicit Q/DQ pairs, which TensorRT runs in INT8 or FP8.

ONNX Runtime's quantiser places the pairs and measures the ranges of activations. (NVIDIA's Model Optimizer would do as
well; its ONNX part pins versions of onnx and onnxruntime that are older than the ones exported with here.) Scales are
set here:
- Symmetric, zero points at zero: TensorRT takes no others.
- The largest magnitude maps to the largest number of the type, for weights and for activations. ONNX Runtime's own
  FP8 scales fit standard deviations: on the digits' ResNet-20 they left an output error of 27 %, these 5 %
  (``benchmarks/quantisation_error.py``).
- INT8 weights have a scale for each output channel, FP8 weights one, as NVIDIA's recipes do.
- Scales are numbers of float16, so that what is not quantised can run in half precision with them unchanged.

Quantised are the inputs and weights of convolutions and of products with a weight; batch norms are folded first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnxscript import ir, optimizer, rewriter, version_converter
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from hwprune.errors import EngineError, MissingPackageError
from hwprune.runtimes.calibration import Calibration
from hwprune.runtimes.onnx_graph import attribute, static_shape

Quantized = Literal["int8", "fp8"]
OPSET = 19  # the first with 8-bit floats and with scales in half precision
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# The type, its largest number, and the name that ONNX Runtime's quantiser has for it.
TYPES: Mapping[Quantized, tuple[Any, float, str]] = {
    "int8": (np.int8, 127.0, "QInt8"),
    "fp8": (ml_dtypes.float8_e4m3fn, 448.0, "QFLOAT8E4M3FN"),
}
FOLDS = (fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_conv_transpose_rule, fuse_batchnorm_into_gemm_rule)


def quantized(model: ModelProto, precision: Quantized, calibration: Calibration) -> ModelProto:
    """A copy of a float32 ``model`` with Q/DQ pairs; its inputs, its outputs and the rest stay float32.

    Raises:
        EngineError: there is nothing to quantise, or the quantiser refuses the graph.
        MissingPackageError: ONNX Runtime is not installed.
        DataError: the calibration inputs do not fit.
    """
    quantizer = _import(precision)
    try:
        with _quiet():
            folded = _folded(model)
    except Exception as error:  # graph passes raise whatever they stumble over
        raise EngineError("this graph cannot be prepared for quantisation", where=error) from error
    chosen = [node for node in folded.graph.node if _quantizable(node, folded)]
    if not chosen:
        raise EngineError(f"the network has nothing that runs in {precision}", where="no convolution with weights")
    batches = list(calibration.batches(_inputs(folded)))
    try:
        with _quiet():
            found = _with_pairs(folded, chosen, precision, quantizer, _ranges(folded, chosen, quantizer, batches))
    except Exception as error:  # of no common class
        raise EngineError(f"ONNX Runtime cannot quantise the network to {precision}", where=error) from error
    _name_pairs(found)
    return found


def _folded(model: ModelProto) -> ModelProto:
    """``model`` at `OPSET` with constants and batch norms folded; nodes keep their names."""
    graph = ir.serde.deserialize_model(model)
    version_converter.convert_version(graph, OPSET)
    whole = max((len(t.raw_data) for t in model.graph.initializer), default=0) + 1
    optimizer.fold_constants(graph, input_size_limit=whole, output_size_limit=whole)
    owners = {node.inputs[1].name: node.name for node in graph.graph if node.op_type in WEIGHTED and node.inputs[1]}
    rewriter.rewrite(graph, pattern_rewrite_rules=FOLDS)
    for node in graph.graph:  # a folded convolution is a new node with the old weight
        if node.op_type in WEIGHTED and node.inputs[1] is not None:
            node.name = owners.get(node.inputs[1].name, node.name)
    optimizer.remove_unused_nodes(graph)
    return ir.serde.serialize_model(graph)


def _quantizable(node: NodeProto, model: ModelProto) -> bool:
    """Whether a node multiplies an activation by a constant weight."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    if node.op_type not in WEIGHTED or node.input[0] in shapes or node.input[1] not in shapes:
        return False
    return node.op_type != "MatMul" or len(shapes[node.input[1]]) == 2


def _inputs(model: ModelProto) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    found = {}
    for value in model.graph.input:
        if (shape := static_shape(value)) is None:
            raise EngineError("the ONNX model has inputs without a fixed shape", where=value.name)
        found[value.name] = shape, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return found


def _ranges(model: ModelProto, chosen: list[NodeProto], quantizer: Any, batches: list[dict[str, np.ndarray]]) -> Any:
    """Least and greatest value of every tensor that is to be quantised, over all batches."""
    waiting = iter(batches)

    class Reader(quantizer.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(waiting, None)

    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        source, watched = Path(folder) / "model.onnx", Path(folder) / "watched.onnx"
        onnx.save(model, source)
        kinds = sorted({node.op_type for node in chosen})
        calibrator = quantizer.create_calibrator(source, kinds, augmented_model_path=str(watched))
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
        del calibrator  # it has the files open
    # Without the others, for which the quantiser would look for scales as well.
    wanted = {name: found[name] for name in dict.fromkeys(node.input[0] for node in chosen)}
    return quantizer.TensorsData(quantizer.CalibrationMethod.MinMax, wanted)


def _with_pairs(
    model: ModelProto, chosen: list[NodeProto], precision: Quantized, quantizer: Any, ranges: Any
) -> ModelProto:
    kind = getattr(quantizer.QuantType, TYPES[precision][2])
    placing = quantizer.QDQQuantizer(
        model,
        per_channel=precision == "int8",
        reduce_range=False,
        weight_qType=kind,
        activation_qType=kind,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in chosen}),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
            "TensorQuantOverrides": _scales(model, chosen, precision, ranges),
        },
    )
    placing.quantize_model()
    placing.model.topological_sort()
    found: ModelProto = placing.model.model
    del found.graph.value_info[:]
    return found


def _scales(model: ModelProto, chosen: list[NodeProto], precision: Quantized, ranges: Any) -> dict[str, Any]:
    """Scale and zero point of every tensor, in the form that the quantiser takes them."""
    dtype, largest, _ = TYPES[precision]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    zero = np.array(0, dtype=dtype)
    found: dict[str, Any] = {}
    for node in chosen:
        low, high = ranges[node.input[0]].range_value
        top = max(float(np.abs(low).max()), float(np.abs(high).max()))
        found[node.input[0]] = [{"scale": half_scale(top, largest), "zero_point": zero}]
        weight, axis = np.abs(numpy_helper.to_array(weights[node.input[1]])), _channel_axis(node)
        if precision == "fp8" or axis is None:
            found[node.input[1]] = [{"scale": half_scale(float(weight.max()), largest), "zero_point": zero}]
            continue
        tops = weight.max(axis=tuple(other for other in range(weight.ndim) if other != axis))
        found[node.input[1]] = [
            {"axis": axis, "scale": half_scale(float(top), largest), "zero_point": zero} for top in tops
        ]
    return found


def half_scale(top: float, largest: float) -> np.ndarray:
    """The least number of float16, as a float32, of which ``largest`` times is at least ``top``.

    >>> float(half_scale(127.0, 127.0)), float(half_scale(0.0, 127.0)) > 0
    (1.0, True)
    """
    least = np.nextafter(np.float16(0), np.float16(1))
    scale = np.maximum(np.float16(min(top / largest, 65504.0)), least)
    if float(scale) * largest < top:
        scale = np.nextafter(scale, np.float16(np.inf))
    return np.array(scale, dtype=np.float32)


def _channel_axis(node: NodeProto) -> int | None:
    """Dimension of the weight that is the output's channels; None where there is none such."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    return 0 if node.op_type == "Gemm" and attribute(node, "transB") else 1


def _name_pairs(model: ModelProto) -> None:
    """Call Q and DQ nodes after the layer that needs them, as exported nodes are called after their modules."""
    readers: dict[str, str] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, node.name)
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        for node in model.graph.node:
            if node.op_type == kind and (reader := readers.get(node.output[0])) is not None:
                side = "/weight" if kind == "DequantizeLinear" and "QuantizeLinear" not in node.input[0] else ""
                node.name = f"{reader.rpartition('/')[0] or reader}{side}/{kind}"
                readers[node.input[0]] = node.name


def _import(precision: Quantized) -> Any:
    try:
        import onnxruntime.quantization as quantizer
    except ImportError:
        raise MissingPackageError(
            "onnxruntime", extra="onnxruntime", needed_for=f"--precision {precision}: it places the Q/DQ pairs"
        ) from None
    return quantizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' words off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
