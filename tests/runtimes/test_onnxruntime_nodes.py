"""Which nodes of the exported graph a kernel stands for, by hand and in a real engine."""

from __future__ import annotations

import torch
from onnx import ModelProto, helper

from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnxruntime import OnnxRuntime
from hwprune.runtimes.onnxruntime_nodes import nodes_of
from tests import tiny


def model(*nodes: tuple[str, str, str]) -> ModelProto:
    """A graph of (name, operator, names of what it reads)."""
    made = [helper.make_node(op, reads.split(), [name], name=name) for name, op, reads in nodes]
    return helper.make_model(helper.make_graph(made, "g", [], []))


RESIDUAL = model(
    ("a/Conv", "Conv", "x w"),
    ("a/BatchNormalization", "BatchNormalization", "a/Conv s"),
    ("a/Relu", "Relu", "a/BatchNormalization"),
    ("b/Conv", "Conv", "a/Relu w"),
    ("b/BatchNormalization", "BatchNormalization", "b/Conv s"),
    ("Add", "Add", "b/BatchNormalization a/Relu"),
    ("Relu", "Relu", "Add"),
    ("c/Conv", "Conv", "Relu w"),
)


def test_a_fused_kernel_stands_for_its_convolution_and_all_that_follows_without_a_kernel_of_its_own() -> None:
    kernels = ["a/Relu_nchwc", "ReorderOutput_token_1", "b/BatchNormalization_nchwc", "c/Conv_nchwc"]

    first, reorder, second, third = nodes_of(kernels, RESIDUAL)

    assert first == ("a/Conv", "a/BatchNormalization", "a/Relu")
    assert reorder == second == ("b/Conv", "b/BatchNormalization", "Add", "Relu")
    assert third == ("c/Conv",)


def test_an_addition_with_a_kernel_of_its_own_is_not_part_of_the_convolution() -> None:
    kernels = ["a/Relu_nchwc", "b/BatchNormalization_nchwc", "ReorderOutput", "Add", "Relu", "c/Conv"]

    found = nodes_of(kernels, RESIDUAL)

    assert found[1] == ("b/Conv", "b/BatchNormalization")
    assert found[2] == found[3] == ("Add",)


def test_a_name_with_anything_appended_is_found_and_a_gate_belongs_to_its_product() -> None:
    gated = model(("m/Conv", "Conv", "x w"), ("m/Sigmoid", "Sigmoid", "m/Conv"), ("m/Mul", "Mul", "m/Conv m/Sigmoid"))

    assert nodes_of(["m/Conv_nchwc", "m/Mul/QuickGeluFusion/"], gated) == [("m/Conv",), ("m/Sigmoid", "m/Mul")]


def test_every_node_of_a_real_engine_belongs_to_a_kernel_and_none_to_two() -> None:
    exported = export(tiny.network(), (torch.zeros(1, 3, tiny.SIDE, tiny.SIDE),))
    times = OnnxRuntime().build_onnx(exported).layers(repeats=3)
    named = [node for time in times if time.kind == "layer" for node in time.nodes]

    assert len(named) == len(set(named))
    assert {"0/Conv", "3/Conv", "6/Conv"} < set(named)
    assert all(time.median_ms >= 0 and time.nodes for time in times)
