"""A PyTorch module as an ONNX graph whose constants keep their state-dict names.

The exporter's own optimiser folds batch norms into weights under the old weight's name. Every runtime does that
itself when it builds, so here they stay: all parameters are in the graph, each under its own name, and
`hwprune.runtimes.onnx_weights.with_weights` can put a pruned copy's parameters in their place.
Nodes are named after their modules ("layer1.0.conv1/Conv"), which is how engines then call their layers.
"""

from __future__ import annotations

import ast
import copy
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from onnx import ModelProto, numpy_helper
from onnxscript import ir, optimizer
from torch import Tensor, nn

from hwprune.errors import EngineError
from hwprune.runtimes.onnx_graph import TENSORS, named_tensors, set_attribute, shapes_of, small_constants
from hwprune.runtimes.onnx_weights import with_weights
from hwprune.units import format_bytes

__all__ = ["OPSET", "export", "with_weights"]

OPSET = 18  # the exporter's native one, read by every runtime
MOST_BYTES = 2_000_000_000  # protobuf's limit is 2 GiB


def export(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> bytes:
    """``model`` in eval mode as a serialised ONNX graph at the fixed shapes of ``example_inputs``.

    Raises:
        EngineError: the exporter refuses the model, or the graph is above protobuf's 2 GB.
    """
    network = copy.deepcopy(model).cpu().eval()
    names = set(named_tensors(network))
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                tuple(tensor.detach().cpu() for tensor in example_inputs),
                dynamo=True,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
            graph = program.model  # type: ignore[union-attr]
            _fold(graph, names)
    except Exception as error:  # the exporter raises whatever the model's code or a translation raises
        raise EngineError("the model cannot be exported to ONNX", where=_root_reason(error)) from error
    nbytes = sum(v.const_value.nbytes for v in graph.graph.initializers.values() if v.const_value is not None)
    if nbytes > MOST_BYTES:
        raise EngineError(
            "the model is too large for one ONNX file",
            where=f"{format_bytes(nbytes)} of weights",
            effect="ONNX graphs above 2 GB need weights beside the file, which runtimes treat differently",
            fix="use the pytorch runtime, or a lower precision",
        )
    proto = ir.serde.serialize_model(graph)
    _tidy(proto)
    _free_reshapes(proto)
    proto.metadata_props.add(key=TENSORS, value=json.dumps(sorted(names)))
    return bytes(proto.SerializeToString())


def _fold(graph: ir.Model, names: set[str]) -> None:
    """Fold what depends on shapes alone; leave all that reads a parameter, so that it can be exchanged."""
    optimizer.inline(graph)
    for node in graph.graph:
        # A convolution without a bias is exported with zeros made from the weight's shape.
        if node.op_type == "Conv" and len(node.inputs) == 3 and _is_zero(node.inputs[2]):
            node.replace_input_with(2, None)

    def keep_parameters(node: ir.Node) -> bool | None:
        return False if any(v is not None and v.name in names for v in node.inputs) else None

    optimizer.fold_constants_ir(graph, onnx_shape_inference=True, should_fold=keep_parameters)
    optimizer.remove_unused_nodes(graph)


def _is_zero(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    if value is None or node is None:
        return False
    if node.op_type in ("Expand", "CastLike", "Cast"):
        return _is_zero(node.inputs[0])
    constant = ir.convenience.get_const_tensor(value)
    return constant is not None and not np.any(constant.numpy())


def _tidy(proto: ModelProto) -> None:
    """Name nodes and values after modules; drop the exporter's notes, which quote paths and source code."""
    outputs = {value.name for value in proto.graph.output}
    renamed: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        module = ["", *ast.literal_eval(scopes)[:-1]][-1]
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}@{seen[name]}"
        del node.metadata_props[:]
        node.doc_string = ""
        # Runtimes name a fused node after its node or after its output.
        node.input[:] = [renamed.get(value, value) for value in node.input]
        for position, value in enumerate(node.output):
            if value and value not in outputs:
                renamed[value] = f"{node.name}:{position}" if position else node.name
                node.output[position] = renamed[value]
    graph = proto.graph
    for part in (proto, graph, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]


def _free_reshapes(proto: ModelProto) -> None:
    """Say reshape targets by what they copy (0) and infer (-1), where that is unambiguous.

    A flatten is exported as a reshape to (1, 512); as (0, -1) it holds at every width. Common leading dimensions
    are copied, common trailing ones stay as numbers, and at most one between them is inferred.
    """
    shapes, constants = shapes_of(proto), small_constants(proto)
    for position, node in enumerate(proto.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        target = _free_target(before, after) if before is not None and after is not None else None
        if target is not None:
            name = f"reshape_target_{position}"
            proto.graph.initializer.append(numpy_helper.from_array(np.array(target, dtype=np.int64), name))
            node.input[1] = name
            set_attribute(node, "allowzero", 0)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def _free_target(before: tuple[int, ...], after: tuple[int, ...]) -> list[int] | None:
    """The reshape target, or None where more than one dimension is new.

    >>> _free_target((1, 512, 1, 1), (1, 512)), _free_target((1, 8, 2, 7, 7), (1, 16, 7, 7))
    ([0, 0], [0, -1, 7, 7])
    >>> _free_target((1, 16, 7, 7), (1, 2, 8, 7, 7)) is None
    True
    """
    lead = next((i for i, (b, a) in enumerate(zip(before, after, strict=False)) if a != b), None)
    if lead is None:
        lead = min(len(before), len(after))
    rest_before, rest = before[lead:], after[lead:]
    tail = 0
    while tail < min(len(rest), len(rest_before)) and rest[-1 - tail] == rest_before[-1 - tail]:
        tail += 1
    new, trailing = rest[: len(rest) - tail], list(rest[len(rest) - tail :])
    if len(new) > 1:
        return None
    if not new and trailing:
        trailing[-1] = -1  # only ones were inserted or dropped
    return [0] * lead + [-1] * len(new) + trailing


def _root_reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
