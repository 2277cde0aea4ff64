"""Exported graphs compute what the module computes, and say which module each node is."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from hwprune.errors import EngineError
from hwprune.runtimes.onnx_export import OPSET, export
from hwprune.runtimes.onnxruntime import OnnxRuntime
from tests.runtimes.networks import Small, images, trained


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(Small())


@pytest.fixture(scope="module")
def exported(network: nn.Module) -> bytes:
    return export(network, (images(),))


def test_the_graph_computes_what_the_module_computes(network: nn.Module, exported: bytes) -> None:
    got = OnnxRuntime().build_onnx(exported).run([images().numpy()])

    np.testing.assert_allclose(got[0], network(images()).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_every_parameter_and_buffer_that_is_used_stays_under_its_own_name(network: nn.Module, exported: bytes) -> None:
    graph = onnx.load_from_string(exported).graph
    names = {tensor.name for tensor in graph.initializer}

    assert set(network.state_dict()) - names == {"bn.num_batches_tracked"}


def test_nodes_are_named_after_their_modules_and_say_nothing_of_this_machine(exported: bytes) -> None:
    graph = onnx.load_from_string(exported).graph
    names = [node.name for node in graph.node]

    assert {"stem/Conv", "bn/BatchNormalization", "deep/Conv", "head/Gemm"} <= set(names)
    assert len(set(names)) == len(names)
    assert b".py" not in exported


def test_no_reshape_names_a_width(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    targets = [constants[node.input[1]].tolist() for node in model.graph.node if node.op_type == "Reshape"]

    assert targets == [[0, -1]]
    assert model.opset_import[0].version == OPSET


def test_exporting_leaves_the_model_as_it_was_and_in_training() -> None:
    network = trained(Small()).train()
    before = copy.deepcopy(network.state_dict())
    export(network, (images(),))

    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_reason_of_a_refused_export_is_told() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum().item() > 0 else x - 1

    with pytest.raises(EngineError, match="cannot be exported"):
        export(Branching(), (images(),))
