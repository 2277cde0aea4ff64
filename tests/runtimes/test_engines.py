"""What every runtime owes: the same numbers, samples as asked for, names of layers, and refusals as EngineError."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.errors import EngineError
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnxruntime import OnnxRuntime
from hwprune.runtimes.openvino import OpenVino
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests.runtimes.networks import Small, images, trained


def openvino() -> Runtime:
    pytest.importorskip("openvino", reason="openvino is not installed")
    return OpenVino()


RUNTIMES: list[Callable[[], Runtime]] = [
    OnnxRuntime,
    openvino,
    PyTorchRuntime,
    lambda: PyTorchRuntime(channels_last=True),
    pytest.param(
        lambda: PyTorchRuntime("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
IDS = ["onnxruntime", "openvino", "pytorch", "pytorch channels last", "pytorch cuda"]
per_runtime = pytest.mark.parametrize("runtime", RUNTIMES, ids=IDS)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(Small())


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> bytes:
    return export(network, (images(),))


def build(runtime: Runtime, network: nn.Module, graph: bytes) -> Engine:
    return runtime.build_onnx(graph) if runtime.reads_onnx else runtime.build(network, (images(),))


@per_runtime
def test_an_engine_computes_what_the_module_computes(
    runtime: Callable[[], Runtime], network: nn.Module, graph: bytes
) -> None:
    engine = build(runtime(), network, graph)
    got = engine.run([images().numpy()])

    assert len(got) == 1
    np.testing.assert_allclose(got[0], network(images()).detach().numpy(), rtol=1e-3, atol=1e-5)
    assert engine.size_bytes > 4 * sum(p.numel() for p in network.parameters())


@per_runtime
def test_timing_gives_as_many_samples_as_asked_for(
    runtime: Callable[[], Runtime], network: nn.Module, graph: bytes
) -> None:
    engine = build(runtime(), network, graph)

    assert len(engine.time(warmup=0, repeats=1)) == 1
    assert len(engine.time(warmup=2, repeats=7)) == 7
    assert all(sample > 0 for sample in engine.time(warmup=0, repeats=3))


@per_runtime
def test_layers_carry_the_names_of_modules(runtime: Callable[[], Runtime], network: nn.Module, graph: bytes) -> None:
    layers = build(runtime(), network, graph).layers(repeats=2)
    names = " ".join(layer.name for layer in layers)

    assert "deep" in names and "last" in names
    assert names.index("deep") < names.index("last")
    assert all(layer.median_ms >= 0 for layer in layers)


@per_runtime
def test_a_closed_engine_says_so(runtime: Callable[[], Runtime], network: nn.Module, graph: bytes) -> None:
    engine = build(runtime(), network, graph)
    engine.close()

    with pytest.raises(EngineError, match="closed"):
        engine.time(warmup=0, repeats=1)
    with pytest.raises(EngineError, match="closed"):
        engine.run([images().numpy()])


@per_runtime
def test_the_fingerprint_is_plain_text_and_names_the_version(runtime: Callable[[], Runtime]) -> None:
    opened = runtime()
    found = opened.fingerprint()

    assert all(isinstance(value, str) for value in found.values())
    assert opened.version in found["runtime"]
    assert found["precision"] == opened.precision == "fp32"


@pytest.mark.parametrize("runtime", [OnnxRuntime, openvino])
def test_what_is_no_onnx_model_is_refused(runtime: Callable[[], Runtime]) -> None:
    with pytest.raises(EngineError):
        runtime().build_onnx(b"not a model")


@pytest.mark.parametrize("runtime", RUNTIMES[:3], ids=IDS[:3])
def test_inputs_of_another_shape_are_refused(runtime: Callable[[], Runtime], network: nn.Module, graph: bytes) -> None:
    engine = build(runtime(), network, graph)

    with pytest.raises(EngineError):
        engine.run([images(size=10).numpy()])
