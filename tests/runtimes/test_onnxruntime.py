"""What is particular to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.errors import EngineError
from hwprune.runtimes.onnxruntime import OnnxRuntime


def convolution(c_out: int = 16, batch: int | str = 1, c_in: int = 8) -> onnx.ModelProto:
    """One convolution c_in→c_out, 3×3, of 8 channels of 10×10."""
    weight = numpy_helper.from_array(np.ones((c_out, c_in, 3, 3), dtype=np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8, 10, 10])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, c_out, 10, 10])
    graph = helper.make_graph(nodes, "one", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_activation_memory_holds_at_least_the_output_and_grows_with_it() -> None:
    narrow = OnnxRuntime().build_onnx(convolution(16).SerializeToString()).memory()
    wide = OnnxRuntime().build_onnx(convolution(64).SerializeToString()).memory()

    assert narrow.activation_bytes is not None and wide.activation_bytes is not None
    assert narrow.activation_bytes >= 16 * 100 * 4
    assert wide.activation_bytes - narrow.activation_bytes >= 48 * 100 * 4
    assert narrow.weight_bytes == 16 * 8 * 9 * 4


def test_weights_beside_the_graph_are_found_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(convolution(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    engine = OnnxRuntime().build_onnx(path)

    assert engine.run([np.ones((1, 8, 10, 10), dtype=np.float32)])[0][0, 0, 5, 5] == 72
    assert engine.size_bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size


def test_a_graph_without_fixed_shapes_is_refused_with_the_name_of_the_input() -> None:
    with pytest.raises(EngineError, match=r"x \['batch'"):
        OnnxRuntime().build_onnx(convolution(batch="batch").SerializeToString())


def test_half_precision_on_the_cpu_is_refused() -> None:
    with pytest.raises(EngineError, match="fp32"):
        OnnxRuntime(precision="fp16")


def test_without_a_cuda_provider_building_for_cuda_says_what_is_missing() -> None:
    runtime = OnnxRuntime("cuda")
    if runtime.can_time:
        pytest.skip("this ONNX Runtime has CUDA")

    with pytest.raises(EngineError, match="CUDAExecutionProvider"):
        runtime.build_onnx(convolution().SerializeToString())


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.run([np.ones((1, 8, 10, 10))]),
        lambda engine: engine.time(warmup=1, repeats=1),
        lambda engine: engine.layers(repeats=1),
        lambda engine: engine.memory(),
    ],
    ids=["run", "time", "layers", "memory"],
)
def test_a_network_that_fails_only_when_it_runs_is_an_error_that_says_why(use: Callable[[Any], object]) -> None:
    engine = OnnxRuntime().build_onnx(convolution(c_in=4).SerializeToString())

    with pytest.raises(EngineError, match="failed while it ran") as caught:
        use(engine)
    assert "kernel channels" in str(caught.value)
