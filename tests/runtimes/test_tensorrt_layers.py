"""What TensorRT tells of an engine's layers: small documents in each of its forms, written by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import EngineError
from hwprune.runtimes.tensorrt_layers import (
    EngineLayer,
    completed,
    from_build_log,
    from_information,
    joined,
    nodes_of,
)

NAMES_ONLY = {
    "Layers": [
        "Reformatting CopyNode for Input Tensor 0 to conv1/Conv",
        "conv1/Conv + PWN(relu/Relu)",
        "PWN(PWN(act/Sigmoid), PWN(act/Mul))",
        "a/Conv || b/Conv",
        "cat/Concat_output_0 copy",
    ],
    "Bindings": ["x", "y"],
}
TEN = {
    "Layers": [
        {
            "Name": "conv1/Conv + relu/Relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP16 format"}],
            "Outputs": [{"Name": "r", "Dimensions": [1, 8, 8, 8], "Format/Datatype": "Channel major FP16 format"}],
            "TacticName": "sm75_xmma",
            "Metadata": "[ONNX Layer: conv1/Conv]\x1e[ONNX Layer: bn1/BatchNormalization]\x1e[ONNX Layer: relu/Relu]",
        },
        {"Name": "Reformatting CopyNode for Input Tensor 0 to pool", "LayerType": "Reformat", "Metadata": ""},
        {"Name": "PWN(act/Sigmoid)", "LayerType": "PointWiseV2", "Metadata": "[ONNX Layer: act/Sigmoid]"},
    ],
    "Bindings": ["x", "y"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "__myl_Move_myl0_0",
            "LayerType": "kgen",
            "Inputs": [
                {"Name": "x", "Dimensions": [1, 3], "Datatype": "Half", "Format": "(Linear) Row major linear format"}
            ],
            "Outputs": [],
            "Metadata": "",
        },
        {"Name": "__mye9_myl0_1", "LayerType": "signal", "Inputs": [], "Outputs": [], "Metadata": ""},
        {
            "Name": "__myl_CorrMulAddRelu_myl0_2",
            "LayerType": "runtime_fusion",
            "Inputs": [],
            "Outputs": [],
            "Metadata": "[ONNX Layer: conv1/Conv]\x1f[ONNX Layer: relu/Relu]",
        },
        {"Name": "__myl_Move_myl0_3", "LayerType": "kgen", "Metadata": "[ONNX Layer: cat/Concat]"},
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input"}],
}
LOGGED = (
    "Layer: {ForeignNode[conv1.weight...fc/Gemm]} Scratch Memory: 100 bytes",
    "Layers:\n"
    "Name: __myl_Move_myl0_0, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1,3,8,8], Strides: [192,64,8,1],"
    " StrideOrder: [3,2,1,0], Datatype: Float, Format: (Linear) Row major linear format }], Constants: [], Outputs: ["
    " { Name: a, Dimensions: [1,3,8,8], Strides: [192,1,24,3], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC)"
    " Channel major format }], TacticName: moved, StreamId: 0, Metadata: \n"
    "Name: __mye1_myl0_1, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
    "Metadata: \n"
    "Name: __myl_CorrRelu_myl0_2, LayerType: runtime_fusion, Inputs: [ { Name: a, Dimensions: [1,3,8,8], Strides:"
    " [192,1,24,3], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], Constants: ["
    " { Name: w, Dimensions: [8,3,3,3], Strides: [27,1,9,3], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC)"
    " Channel major format }], Outputs: [], TacticName: , StreamId: 0, Metadata: [ONNX Layer: conv1/Conv]\x1f"
    "[ONNX Layer: relu/Relu]\n"
    "\n"
    "I/O Tensors:\n"
    " Name: x, IOMode: Input, DataType: Float, Dimensions: [1,3,8,8]",
)


def _short(layers: list[EngineLayer]) -> list[tuple[str, tuple[str, ...]]]:
    return [(layer.kind, layer.nodes) for layer in layers]


def test_bare_names_tell_kinds_and_nodes() -> None:
    layers = from_information(json.dumps(NAMES_ONLY))

    assert _short(layers) == [
        ("reformat", ("conv1/Conv",)),
        ("layer", ("conv1/Conv", "relu/Relu")),
        ("layer", ("act/Sigmoid", "act/Mul")),
        ("layer", ("a/Conv", "b/Conv")),
        ("copy", ("cat/Concat",)),
    ]
    assert [layer.pointwise for layer in layers] == [False, False, True, False, False]


def test_the_detailed_document_of_10_tells_nodes_that_the_name_leaves_out() -> None:
    convolution, reformat, pointwise = from_information(TEN)

    assert convolution.nodes == ("conv1/Conv", "bn1/BatchNormalization", "relu/Relu")
    assert convolution.tactic == "sm75_xmma"
    assert convolution.inputs[0].shape == (1, 3, 8, 8)
    assert convolution.outputs[0].format == "Channel major FP16 format"
    assert (reformat.kind, reformat.nodes) == ("reformat", ("pool",))
    assert pointwise.pointwise


def test_the_document_of_11_has_format_and_type_apart_and_layers_of_the_compiler() -> None:
    layers = from_information(ELEVEN)

    assert _short(layers) == [("reformat", ()), ("layer", ("conv1/Conv", "relu/Relu")), ("layer", ("cat/Concat",))]
    assert (layers[0].inputs[0].datatype, layers[0].inputs[0].format) == ("Half", "(Linear) Row major linear format")


def test_the_builders_log_tells_the_same_as_the_document() -> None:
    move, convolution = from_build_log(LOGGED)

    assert (move.kind, move.tactic, move.inputs[0].shape) == ("reformat", "moved", (1, 3, 8, 8))
    assert move.outputs[0].format == "(NHWC) Channel major format"
    assert (convolution.kind, convolution.nodes) == ("layer", ("conv1/Conv", "relu/Relu"))
    assert [tensor.name for tensor in convolution.inputs] == ["a"], "constants are no inputs"


def test_a_log_without_a_list_gives_no_layers() -> None:
    assert from_build_log(["Formats and tactics selection completed in 0.1 seconds."]) == []


def test_products_that_tell_no_node_are_those_that_no_layer_stands_for() -> None:
    told = [
        EngineLayer("__myl_CorrRelu_myl0_0", "runtime_fusion", "layer", ("a/Conv", "a/Relu")),
        EngineLayer("__mye12_myl0_1", "gemm", "layer", ()),
        EngineLayer("__myl_MulCast_myl0_2", "kgen", "layer", ()),
        EngineLayer("__myl_FcAdd_myl0_3", "runtime_fusion", "layer", ()),
        EngineLayer("__myl_Move_myl0_4", "kgen", "reformat", ()),
    ]
    nodes = [layer.nodes for layer in completed(told, ["a/Conv", "b/Conv", "c/Gemm"])]

    assert nodes == [("a/Conv", "a/Relu"), ("b/Conv",), (), ("c/Gemm",), ()]
    assert completed(told, ["a/Conv", "b/Conv"]) == told, "which of the two it is, nobody knows"


def test_the_padding_of_an_input_is_a_reformat_and_a_concatenation_is_not() -> None:
    told = [
        EngineLayer("__myl_ConcMove_myl0_0", "kgen", "layer", ("stem/Conv",)),
        EngineLayer("__myl_CorrRelu_myl0_1", "runtime_fusion", "layer", ("stem/Conv", "Relu")),
        EngineLayer("__myl_ConcMove_myl0_2", "kgen", "layer", ("cat/Concat",)),
    ]

    assert [layer.kind for layer in completed(told, ["stem/Conv"])] == ["reformat", "layer", "layer"]


def test_times_find_their_layers_and_none_is_lost() -> None:
    layers = from_information(TEN)
    times = [("conv1/Conv + relu/Relu", 0.5), ("Reformatting CopyNode for Input Tensor 0 to pool", 0.1), ("new", 0.2)]
    found = joined(times, layers)

    assert [(one.name, one.median_ms) for one in found] == times
    assert [one.kind for one in found] == ["layer", "reformat", "layer"]
    assert found[0].nodes == ("conv1/Conv", "bn1/BatchNormalization", "relu/Relu")
    assert found[2].nodes == ("new",)


def test_a_part_that_is_profiled_as_one_stands_for_all_of_its_layers() -> None:
    found = joined([("{ForeignNode[conv1.weight...cat/Concat]}", 1.0)], from_information(ELEVEN))

    assert found[0].nodes == ("conv1/Conv", "relu/Relu", "cat/Concat")


NODE = st.from_regex(r"[a-z]{1,5}(\.[0-9]{1,2}){0,2}/[A-Z][a-z]{1,6}(@[2-9])?", fullmatch=True)


@given(st.lists(NODE, min_size=1, max_size=4, unique=True), st.sampled_from([" + ", " || ", ", "]))
def test_names_joined_in_any_way_come_apart_again(nodes: list[str], separator: str) -> None:
    plain = separator.join(nodes)

    assert nodes_of(plain) == tuple(nodes)
    assert nodes_of(f"PWN({separator.join(f'PWN({node})' for node in nodes)})") == tuple(nodes)
    assert nodes_of(f"Reformatting CopyNode for Output Tensor 1 to {plain}") == tuple(nodes)


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"Layers": [3]}', '{"Layers": [{"LayerType": "kgen"}]}'])
def test_anything_else_is_one_clear_error(document: str) -> None:
    with pytest.raises(EngineError, match="no engine information"):
        from_information(document)
