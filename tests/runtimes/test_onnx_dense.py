"""Products as 1x1 convolutions: ONNX Runtime computes both graphs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hwprune.runtimes.onnx_dense import products_as_convolutions
from hwprune.runtimes.onnx_export import export
from tests.runtimes.networks import Small, images, trained


def computed(model: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return list(session.run(None, {v.name: x for v, x in zip(session.get_inputs(), inputs, strict=True)}))


class Tokens(nn.Module):
    """A linear layer over sequences, with a bias and without, and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return y @ y.transpose(1, 2)


@pytest.mark.parametrize(
    ("network", "x"), [(Small(), images(3)), (Tokens(), torch.randn(2, 7, 6))], ids=["classifier", "tokens"]
)
def test_the_numbers_stay_and_the_products_with_weights_go(network: nn.Module, x: Tensor) -> None:
    model = onnx.load_from_string(export(trained(network), (x,)))
    found = products_as_convolutions(model)
    onnx.checker.check_model(found)

    for mine, expected in zip(computed(found, [x.numpy()]), computed(model, [x.numpy()]), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)
    assert not any(node.op_type == "Gemm" for node in found.graph.node)
    named = {node.name for node in model.graph.node if node.op_type == "Gemm"}
    assert named <= {node.name for node in found.graph.node if node.op_type == "Conv"}, "layers keep their names"


@pytest.mark.parametrize("transposed", [0, 1])
def test_factors_and_transposed_matrices_are_folded_in(transposed: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((4, 3) if transposed else (3, 4)).astype(np.float32)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="g", alpha=0.5, beta=2.0, transB=transposed)
    values = [onnx.helper.make_tensor_value_info(n, 1, [2, size]) for n, size in (("x", 3), ("y", 4))]
    constants = [
        onnx.numpy_helper.from_array(matrix, "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(4).astype(np.float32), "b"),
    ]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    x = rng.standard_normal((2, 3)).astype(np.float32)

    found = products_as_convolutions(model)

    assert [n.op_type for n in found.graph.node] == ["Reshape", "Conv", "Reshape"]
    np.testing.assert_allclose(computed(found, [x])[0], computed(model, [x])[0], rtol=1e-5, atol=1e-5)
