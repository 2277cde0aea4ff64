"""An exported graph with the weights of a pruned copy: much cheaper than exporting again.

Sound only where no constant of the graph was worked out from a width that has changed. So every node that sees a
changed shape must be of a kind that takes its sizes from its inputs; any other is refused, and the caller
exports the pruned network afresh.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hwprune.errors import EngineError, listed
from hwprune.runtimes.onnx_graph import (
    TENSORS,
    attribute,
    load,
    named_tensors,
    set_attribute,
    shapes_of,
    small_constants,
)

Shapes = Mapping[str, tuple[int, ...]]

# Operators that work at any width: channel by channel, or as wide as their weights and inputs are.
ANY_WIDTH = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Flatten",
        "Floor",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "Max",
        "MaxPool",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)


def with_weights(exported: bytes, model: nn.Module) -> bytes:
    """``exported``, by `hwprune.runtimes.onnx_export.export`, at the weights of ``model``.

    ``model`` has the structure that was exported, at other widths.

    Raises:
        EngineError: the graph holds a constant that depends on a changed width, the weights do not fit it, or the
            network's tensors have other names. The pruned network has to be exported itself then.
    """
    proto = load(exported)
    tensors = named_tensors(model)
    _check_names(proto, tensors)
    dense = shapes_of(proto)
    _exchange(proto, tensors)
    _check_kernels(proto, dense)
    _set_groups(proto, model, dense)
    _set_pads(proto, model, dense)
    del proto.graph.value_info[:]
    try:
        pruned = shapes_of(proto)
    except EngineError as error:
        raise _refused(" ".join(str(error).split())) from error
    constants = small_constants(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.input and weights.issuperset(node.input):
            weights.update(node.output)  # a transposed weight is still one
        changed = [v for v in (*node.input, *node.output) if v and dense.get(v) != pruned.get(v)]
        if changed and not _holds(node, dense, pruned, constants=constants, weights=weights):
            raise _refused(f"{node.op_type} node {node.name!r}")
    return bytes(proto.SerializeToString())


def _check_names(proto: ModelProto, tensors: Mapping[str, Tensor]) -> None:
    """A layer that was put in another's place brings tensors of other names; the other's would stay in the graph."""
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    if TENSORS not in notes:
        raise _refused("the graph does not say which tensors its network had")
    if other := sorted(tensors.keys() ^ json.loads(notes[TENSORS])):
        raise _refused(f"only one of the two networks has {listed(other, most=3)}")


def _exchange(proto: ModelProto, tensors: Mapping[str, Tensor]) -> None:
    for old in proto.graph.initializer:
        if old.name not in tensors:
            continue
        array = tensors[old.name].detach().cpu().numpy()
        if array.ndim != len(old.dims) or helper.np_dtype_to_tensor_dtype(array.dtype) != old.data_type:
            raise _refused(f"{old.name} is {array.dtype} of shape {array.shape}, the graph has {list(old.dims)}")
        old.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), old.name))


def _check_kernels(proto: ModelProto, dense: Shapes) -> None:
    """Nodes have the size of their kernels written into them: another one would only be noticed when it runs."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in sizes:
            before, after = dense[node.input[1]], sizes[node.input[1]]
            if before[2:] != after[2:]:
                raise _refused(f"{node.input[1]} has kernels of {after[2:]}, the graph of {before[2:]}")


def _set_groups(proto: ModelProto, model: nn.Module, dense: Shapes) -> None:
    """Convolution groups as the pruned modules have them: weights alone do not tell how many there are."""
    modules = dict(model.named_modules())
    sizes: dict[str, TensorProto] = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or attribute(node, "group", 1) == 1:
            continue
        weight = node.input[1]
        owner = modules.get(weight.rpartition(".")[0])
        if isinstance(groups := getattr(owner, "groups", None), int):
            set_attribute(node, "group", groups)
        elif weight not in sizes or tuple(sizes[weight].dims) != dense[weight]:
            raise _refused(f"groups of {node.name!r} are unknown: {weight!r} belongs to no convolution module")


def _set_pads(proto: ModelProto, model: nn.Module, dense: Shapes) -> None:
    """Amounts of padding modules, which may pad channels. The exporter names a node after its module."""
    modules = dict(model.named_modules())
    for node in proto.graph.node:
        owner = modules.get(node.name.rpartition("/")[0])
        if node.op_type != "Pad" or not isinstance(owner, nn.modules.padding._ConstantPadNd):
            continue
        amounts = np.zeros((2, len(dense[node.input[0]])), dtype=np.int64)
        for place, amount in enumerate(owner.padding):  # last dimension first, before and behind
            amounts[place % 2, -1 - place // 2] = amount
        name = f"{node.name}/pads"  # of its own: the exporter shares equal constants
        proto.graph.initializer.append(numpy_helper.from_array(amounts.ravel(), name))
        node.input[1], old = name, node.input[1]
        if not any(old in other.input for other in proto.graph.node):
            for kept in [other for other in proto.graph.node if old in other.output]:
                proto.graph.node.remove(kept)


def _holds(
    node: NodeProto, dense: Shapes, pruned: Shapes, *, constants: Mapping[str, np.ndarray], weights: set[str]
) -> bool:
    """Whether a node whose shapes have changed still means what the pruned network's code means."""
    if node.op_type == "Reshape":
        target = constants.get(node.input[1])
        before, after = dense.get(node.input[0]), pruned.get(node.input[0])
        return target is not None and before is not None and after is not None and _copies(target, before, after)
    if node.op_type == "Slice":  # along dimensions that have not changed
        axes = constants.get(node.input[3]) if len(node.input) > 3 else None
        before, after = dense.get(node.input[0]), pruned.get(node.input[0])
        if axes is None or before is None or after is None:
            return False
        return all(before[axis] == after[axis] for axis in axes.tolist())
    if node.op_type == "Split":
        return len(node.input) == 1  # in equal parts, not at given places
    if node.op_type == "MatMul" and weights.isdisjoint(node.input):
        # A product of activations over a changed dimension is attention, whose scale is a folded constant.
        left = node.input[0]
        return left in dense and left in pruned and dense[left][-1] == pruned[left][-1]
    return node.op_type in ANY_WIDTH or node.op_type == "MatMul"


def _copies(target: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape names no size but those of trailing dimensions that have not changed."""
    for place, size in enumerate(target):
        source = place - len(target)
        unchanged = -source <= min(len(before), len(after)) and before[source] == after[source] == size
        if size > 0 and not unchanged:
            return False
    return True


def _refused(where: str) -> EngineError:
    return EngineError(
        "the exported graph cannot take the pruned network's weights",
        where=where,
        effect="part of the graph was worked out from the dense network's widths",
        fix="export the pruned network itself",
    )
