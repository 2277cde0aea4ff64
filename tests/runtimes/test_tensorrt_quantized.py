"""Q/DQ graphs for TensorRT, computed by ONNX Runtime without its optimiser, which would fuse the pairs away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from hwprune.errors import DataError, EngineError
from hwprune.runtimes.calibration import Calibration, save_calibration
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_half import to_half
from hwprune.runtimes.onnx_quantized import Quantized, half_scale, quantized
from tests.runtimes.networks import Small, images, trained

LARGEST = {"int8": 127.0, "fp8": 448.0}


def computed(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    return onnx.load_from_string(export(trained(Small()), (images(4),)))


@pytest.fixture
def own(tmp_path: Path) -> Calibration:
    save_calibration(tmp_path / "calibration.npz", [images(10).numpy()])
    return Calibration(tmp_path / "calibration.npz")


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.01), ("fp8", 0.05)])
def test_the_quantised_graph_computes_nearly_the_same(
    small: onnx.ModelProto, own: Calibration, precision: Quantized, most: float
) -> None:
    x = images(4).numpy()
    expected, found = computed(small, x), computed(quantized(small, precision, own), x)

    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < most


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_every_layer_with_weights_reads_pairs_and_keeps_its_name(
    small: onnx.ModelProto, own: Calibration, precision: Quantized
) -> None:
    graph = quantized(small, precision, own).graph
    maker = {value: node for node in graph.node for value in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]

    assert {node.name for node in layers} == {"stem/Conv", "deep/Conv", "point/Conv", "head/Gemm", "last/Gemm"}
    assert all(maker[value].op_type == "DequantizeLinear" for node in layers for value in node.input[:2])
    assert all(value not in maker for node in layers for value in node.input[2:]), "biases are no pairs"
    assert not any(node.op_type == "BatchNormalization" for node in graph.node), "folded into the weights"
    assert {"head/QuantizeLinear", "head/DequantizeLinear", "head/weight/DequantizeLinear"} <= {
        node.name for node in graph.node
    }
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_int8_weights_have_a_scale_for_each_output_channel_and_fp8_weights_one(small: onnx.ModelProto) -> None:
    def scales(precision: Quantized) -> dict[str, int]:
        graph = quantized(small, precision, Calibration()).graph
        sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
        pairs = [node for node in graph.node if node.name.endswith("/weight/DequantizeLinear")]
        return {node.name.split("/")[0]: sizes[node.input[1]] for node in pairs}

    assert scales("int8") == {"stem": 16, "deep": 16, "point": 16, "head": 24, "last": 5}
    assert set(scales("fp8").values()) == {1}


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_zero_points_are_zero_and_scales_fit_half_precision(small: onnx.ModelProto, precision: Quantized) -> None:
    graph = quantized(small, precision, Calibration()).graph
    tensors = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = tensors[node.input[1]], tensors[node.input[2]]
            assert not zero.any()
            assert (scale > 0).all()
            np.testing.assert_array_equal(scale, scale.astype(np.float16))


def test_the_rest_runs_in_half_precision_with_the_same_integers(small: onnx.ModelProto, own: Calibration) -> None:
    whole = quantized(small, "int8", own)
    half = to_half(whole, "fp16")
    before, after = ({t.name: t for t in m.graph.initializer if t.data_type == 3} for m in (whole, half))

    assert before.keys() == after.keys() != set()
    assert all(before[name] == after[name] for name in before)
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in half.graph.initializer)
    x = images(4).numpy()
    np.testing.assert_allclose(computed(half, x.astype(np.float16)), computed(whole, x), rtol=0.02)


@given(st.floats(0, 1e4), st.sampled_from([127.0, 448.0]))
def test_a_scale_is_the_least_of_half_precision_that_holds_the_largest_number(top: float, largest: float) -> None:
    scale = float(half_scale(top, largest))
    below = float(np.nextafter(np.float16(scale), np.float16(0)))

    assert scale == float(np.float16(scale)) > 0
    assert scale * largest >= top
    assert below == 0 or below * largest < top


def test_scales_come_from_the_users_inputs(small: onnx.ModelProto, tmp_path: Path) -> None:
    scales = []
    for factor in (1, 3):
        path = tmp_path / f"{factor}.npz"
        save_calibration(path, [factor * images(10).numpy()])
        graph = quantized(small, "int8", Calibration(path)).graph
        pair = next(node for node in graph.node if node.name == "stem/QuantizeLinear")
        scales.append(next(numpy_helper.to_array(t) for t in graph.initializer if t.name == pair.input[1]))

    assert float(scales[0]) == pytest.approx(float(images(10).abs().max()) / 127, rel=1e-3)
    assert float(scales[1]) == pytest.approx(3 * float(scales[0]), rel=2e-3)


def test_a_network_without_weighted_layers_has_nothing_to_quantise() -> None:
    model = onnx.load_from_string(export(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (torch.randn(1, 3, 8, 8),)))

    with pytest.raises(EngineError, match="nothing that runs in int8"):
        quantized(model, "int8", Calibration())


def test_batches_have_the_networks_size_and_the_last_is_filled_up(tmp_path: Path) -> None:
    x = np.arange(10, dtype=np.float32)[:, None]
    save_calibration(tmp_path / "c.npz", [x, 2 * x])
    inputs = {"a": ((4, 1), np.dtype(np.float32)), "b": ((4, 1), np.dtype(np.float64))}
    batches = list(Calibration(tmp_path / "c.npz").batches(inputs))

    assert [batch["a"].ravel().tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert all((batch["b"] == 2 * batch["a"]).all() and batch["b"].dtype == np.float64 for batch in batches)


def test_random_inputs_are_always_the_same_and_say_what_they_are() -> None:
    inputs = {"x": ((2, 3), np.dtype(np.float32))}
    first, second = (list(Calibration().batches(inputs)) for _ in range(2))

    assert all((a["x"] == b["x"]).all() for a, b in zip(first, second, strict=True))
    assert "random" in Calibration().describe()
    assert "random" in Calibration(Path("not-there.npz")).describe()


def test_inputs_that_do_not_fit_or_cannot_be_read_are_one_clear_error(small: onnx.ModelProto, tmp_path: Path) -> None:
    wrong, damaged = tmp_path / "wrong.npz", tmp_path / "damaged.npz"
    save_calibration(wrong, [np.zeros((4, 3, 9, 9), dtype=np.float32)])
    damaged.write_bytes(wrong.read_bytes()[:100])

    with pytest.raises(DataError, match="do not fit the network"):
        quantized(small, "int8", Calibration(wrong))
    with pytest.raises(DataError, match="cannot be read"):
        quantized(small, "int8", Calibration(damaged))
