"""TensorRT: real builds for cards that are not here; running needs the card."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from hwprune.errors import EngineError, MissingPackageError
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RUNTIMES, _installed
from hwprune.runtimes.tensorrt import TensorRT
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
    assert engine.memory().activation_bytes is None


@needs_rtx
def test_what_the_parser_refuses_is_told_with_the_name_of_the_node() -> None:
    import onnx

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
    assert any("conv" in layer.name for layer in engine.layers(repeats=2))
    assert engine.memory().activation_bytes is not None
    engine.close()
