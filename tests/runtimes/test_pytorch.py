"""What is particular to PyTorch as a runtime."""

from __future__ import annotations

import pytest
import torch

from hwprune.errors import EngineError
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests.runtimes.networks import Small, images, trained


def test_running_leaves_the_number_of_threads_and_the_model_as_they_were() -> None:
    network, threads = trained(Small()).train(), torch.get_num_threads()
    engine = PyTorchRuntime(threads=1).build(network, (images(),))
    before = engine.run([images().numpy()])[0]
    engine.time(warmup=0, repeats=1)
    with torch.no_grad():
        network.last.bias.add_(100.0)

    assert torch.get_num_threads() == threads
    assert network.training
    assert (engine.run([images().numpy()])[0] == before).all()


def test_bfloat16_outputs_come_back_as_float32() -> None:
    engine = PyTorchRuntime(precision="bf16").build(trained(Small()), (images(),))

    assert engine.run([images().numpy()])[0].dtype == "float32"


def test_onnx_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(EngineError, match="onnxruntime"):
        PyTorchRuntime().build_onnx(b"")


def test_a_precision_that_the_cpu_is_bad_at_is_refused() -> None:
    with pytest.raises(EngineError, match="bf16"):
        PyTorchRuntime(precision="fp16")


def test_a_network_that_fails_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="ran the network"):
        PyTorchRuntime().build(trained(Small()), (images(),)).run([images(size=10).numpy()])
