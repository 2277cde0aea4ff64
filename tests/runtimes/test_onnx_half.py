"""Graphs in half precision."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from hwprune.errors import EngineError
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_half import to_half
from hwprune.runtimes.onnxruntime import OnnxRuntime
from tests.runtimes.networks import Small, images, trained


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load_from_string(export(trained(Small()), (images(),)))


@pytest.mark.parametrize(("precision", "code"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_nothing_stays_in_float32(model: onnx.ModelProto, precision: str, code: int) -> None:
    half = to_half(model, precision)  # type: ignore[arg-type]
    types = {t.data_type for t in half.graph.initializer} - {TensorProto.INT64}
    ends = {v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)}

    assert types == ends == {code}
    assert all(t.data_type != code for t in model.graph.initializer)


def test_half_precision_computes_nearly_the_same(model: onnx.ModelProto) -> None:
    x = images().numpy()
    half = OnnxRuntime().build_onnx(to_half(model, "fp16").SerializeToString())
    full = OnnxRuntime().build_onnx(model.SerializeToString())

    np.testing.assert_allclose(half.run([x])[0].astype(np.float32), full.run([x])[0], rtol=0.02)


@pytest.mark.parametrize("activation", [nn.Hardswish(), nn.Mish()], ids=["hardswish", "mish"])
def test_activations_that_tensorrt_lacks_in_bfloat16_are_spelled_out(activation: nn.Module) -> None:
    x = images()
    half = to_half(onnx.load_from_string(export(activation, (x,))), "bf16")
    names = [value.name for value in half.graph.input]
    got = ReferenceEvaluator(half).run(None, dict(zip(names, [x.numpy().astype(ml_dtypes.bfloat16)], strict=True)))[0]

    assert not {node.op_type for node in half.graph.node} & {"HardSwish", "Mish"}
    np.testing.assert_allclose(got.astype(np.float32), activation(x).numpy(), rtol=0.05, atol=0.05)


def test_a_cast_to_float_becomes_a_cast_to_half() -> None:
    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (x > 0).to(torch.float32)

    half = to_half(onnx.load_from_string(export(Counted(), (images(),))), "fp16")

    assert [a.i for n in half.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"][-1] == 10


def test_a_weight_above_the_range_is_refused_and_named() -> None:
    network = trained(Small())
    with torch.no_grad():
        network.head.weight[0, 0] = 1e6

    with pytest.raises(EngineError, match=r"head\.weight"):
        to_half(onnx.load_from_string(export(network, (images(),))), "fp16")
