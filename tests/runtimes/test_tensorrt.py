"""TensorRT: real builds for cards that are not here; running needs the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import Tensor, nn

from hwprune.errors import EngineError, MissingPackageError
from hwprune.runtimes.calibration import Calibration, save_calibration
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RUNTIMES, _installed
from hwprune.runtimes.tensorrt import TensorRT
from hwprune.runtimes.tensorrt_options import BuilderOptions
from tests.runtimes.networks import Small, images, trained

needs_rtx = pytest.mark.skipif(not _installed(RUNTIMES["tensorrt_rtx"]), reason="tensorrt_rtx is not installed")
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def resnet18() -> bytes:
    return export(torchvision.models.resnet18().eval(), (images(size=64),))


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_an_engine_for_an_rtx_3090_builds_without_one(resnet18: bytes, precision: str) -> None:
    runtime = TensorRT("tensorrt_rtx", precision=precision, compute_capability=(8, 6))
    engine = runtime.build_onnx(resnet18)
    weights = 11_689_512 * (2 if precision in ("fp16", "bf16") else 4)

    assert not runtime.can_time
    assert len(engine.serialized) == engine.size_bytes
    assert 0.95 * weights < engine.size_bytes < 1.2 * weights
    assert engine.memory().weight_bytes == pytest.approx(weights, rel=0.01)


@needs_rtx
def test_a_narrower_network_is_a_smaller_engine() -> None:
    runtime = TensorRT("tensorrt_rtx", compute_capability=(8, 6))
    wide, narrow = (runtime.build(trained(Small(16, hidden)), (images(),)) for hidden in (2000, 500))

    assert narrow.size_bytes < 0.5 * wide.size_bytes


@needs_rtx
def test_an_engine_for_an_absent_card_is_not_timed() -> None:
    engine = TensorRT("tensorrt_rtx", compute_capability=(8, 9)).build(trained(Small()), (images(),))

    for use in (lambda: engine.time(warmup=0, repeats=1), lambda: engine.run([images().numpy()])):
        with pytest.raises(EngineError, match="not in this machine"):
            use()


@needs_rtx
def test_the_builder_tells_an_absent_cards_engine_its_layers_and_memory(resnet18: bytes) -> None:
    engine = TensorRT("tensorrt_rtx", compute_capability=(8, 6)).build_onnx(resnet18)
    layers = engine.structure()
    convolutions = [[node for node in layer.nodes if node.endswith("/Conv")] for layer in layers]

    found = sorted(node for layer in layers for node in layer.nodes if node.endswith("/Conv"))

    assert found == sorted(node.name for node in onnx_nodes(resnet18) if node.op_type == "Conv")
    assert all(len(found) <= 1 for found in convolutions), "no two convolutions of ResNet-18 are one layer"
    stem = next(layer for layer in layers if "conv1/Conv" in layer.nodes)
    assert {"conv1/Conv", "bn1/BatchNormalization", "relu/Relu"} <= set(stem.nodes), "fused"
    assert layers[0].kind == "reformat", "the image comes in another layout than convolutions take"
    planned = engine.memory().activation_bytes
    assert planned is not None
    assert planned >= 64 * 32 * 32 * 4, "at least the largest tensor"


@needs_rtx
def test_every_convolution_is_in_one_layer_also_where_the_compiler_forgets_some() -> None:
    network = export(torchvision.models.shufflenet_v2_x1_0().eval(), (images(size=64),))
    engine = TensorRT("tensorrt_rtx", precision="fp16", compute_capability=(8, 6)).build_onnx(network)
    found = sorted(n for layer in engine.structure() if layer.kind == "layer" for n in layer.nodes if n[-5:] == "/Conv")

    assert found == sorted(node.name for node in onnx_nodes(network) if node.op_type == "Conv")


def onnx_nodes(model: bytes) -> list[onnx.NodeProto]:
    return list(onnx.load_from_string(model).graph.node)


@needs_rtx
@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (8, 9), (12, 0)], ids=["sm75", "sm86", "sm89", "sm120"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8", "fp8"])
def test_every_precision_builds_for_every_card_that_has_it(precision: str, capability: tuple[int, int]) -> None:
    if (precision, capability) in REFUSED:
        with pytest.raises(EngineError, match=f"does not compute in {precision}"):
            TensorRT("tensorrt_rtx", precision=precision, compute_capability=capability)
        return
    runtime = TensorRT("tensorrt_rtx", precision=precision, compute_capability=capability)
    network = trained(Small(32, 1000))
    engine = runtime.build(network, (images(),))
    each = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}[precision]

    assert engine.size_bytes > 0.9 * each * sum(tensor.numel() for tensor in network.parameters())
    assert engine.memory().weight_bytes == pytest.approx(each * 32 * 16 * 1000, rel=0.1), "most are the head's"
    layered = {node for layer in engine.structure() for node in layer.nodes}
    assert {"stem/Conv", "deep/Conv", "point/Conv"} <= layered


REFUSED = {("bf16", (7, 5)), ("fp8", (7, 5)), ("fp8", (8, 6))}


@needs_rtx
def test_the_fingerprint_tells_scales_options_and_detours(tmp_path: Path) -> None:
    save_calibration(tmp_path / "calibration.npz", [images(6).numpy()])

    def told(precision: str, capability: tuple[int, int], calibration: Calibration | None = None) -> Mapping[str, str]:
        options = BuilderOptions(aux_streams=0)
        return TensorRT(
            "tensorrt_rtx",
            precision=precision,
            compute_capability=capability,
            calibration=calibration,
            options=options,
        ).fingerprint()

    assert "calibration" not in told("fp16", (8, 6))
    assert told("int8", (8, 6))["calibration"] == "4 random batches, seed 0"
    assert told("int8", (8, 6), Calibration(tmp_path / "calibration.npz"))["calibration"].startswith("6 inputs, sha256")
    assert told("fp32", (7, 5))["products"] == "as 1x1 convolutions"
    assert "products" not in told("fp32", (8, 6))
    assert told("fp32", (8, 6))["target"] == "compute capability 8.6"
    assert told("fp32", (8, 6))["aux_streams"] == "0"


@needs_rtx
def test_what_the_parser_refuses_is_told_with_the_name_of_the_node() -> None:
    model = onnx.load_from_string(export(trained(Small()), (images(),)))
    next(node for node in model.graph.node if node.name == "deep/Conv").op_type = "Convoluted"

    with pytest.raises(EngineError, match="deep/Conv"):
        TensorRT("tensorrt_rtx", compute_capability=(8, 6)).build_onnx(model.SerializeToString())


@needs_rtx
def test_a_capability_that_the_flavour_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(EngineError, match="SM86"):
        TensorRT("tensorrt_rtx", compute_capability=(9, 0))


@needs_rtx
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_building_for_this_card_where_there_is_none_says_so() -> None:
    with pytest.raises(EngineError):
        TensorRT("tensorrt_rtx").build(trained(Small()), (images(),))


def test_the_full_flavour_does_not_pretend_to_build_for_other_cards() -> None:
    with pytest.raises(EngineError, match="tensorrt_rtx"):
        TensorRT("tensorrt", compute_capability=(8, 6))


@pytest.mark.skipif(_installed(RUNTIMES["tensorrt"]), reason="tensorrt is installed")
def test_a_missing_flavour_gives_its_install_line() -> None:
    with pytest.raises(MissingPackageError, match=r"hwprune\[tensorrt\]"):
        TensorRT("tensorrt")


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x) + self.conv(y), x - y


@needs_card
@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_on_its_card_computes_what_the_module_computes(flavour: str) -> None:
    if not _installed(RUNTIMES[flavour]):
        pytest.skip(f"{flavour} is not installed")
    network, inputs = trained(TwoInputs()), (images(), 2 * images())
    engine = TensorRT(flavour).build(network, inputs)  # type: ignore[arg-type]
    got = engine.run([tensor.numpy() for tensor in inputs])

    for mine, expected in zip(got, network(*inputs), strict=True):
        np.testing.assert_allclose(mine, expected.detach().numpy(), rtol=1e-3, atol=1e-3)
    assert len(engine.time(warmup=2, repeats=5)) == 5
    assert any("conv/Conv" in layer.nodes for layer in engine.layers(repeats=2))
    assert any("conv/Conv" in layer.nodes for layer in engine.structure())
    assert engine.memory().activation_bytes is not None
    engine.close()
