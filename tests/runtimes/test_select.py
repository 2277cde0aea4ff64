"""Which runtime serves which device."""

from __future__ import annotations

import json

import pytest
import torch

from hwprune.device import resolve
from hwprune.errors import DeviceError, EngineError, MissingPackageError
from hwprune.runtimes.select import RUNTIMES, RuntimeSpec, _installed, available, runtime_for, spec_for


def test_onnx_runtime_serves_the_cpu_unless_another_is_named() -> None:
    assert runtime_for(resolve("cpu")).name == "onnxruntime"
    assert runtime_for(resolve("cpu"), "pytorch", precision="bf16").precision == "bf16"


@pytest.mark.skipif(not _installed(RUNTIMES["tensorrt_rtx"]), reason="tensorrt_rtx is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_absent_card_gets_a_runtime_that_builds_and_does_not_time() -> None:
    runtime = runtime_for(resolve("rtx3090"), "tensorrt_rtx")

    assert not runtime.can_time
    assert runtime.fingerprint()["target"] == "compute capability 8.6"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["onnxruntime", "pytorch"])
def test_runtimes_that_need_the_card_refuse_an_absent_one(name: str) -> None:
    with pytest.raises(DeviceError, match="rtx3090"):
        runtime_for(resolve("rtx3090"), name)


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (RuntimeSpec("openvino", "cuda"), EngineError, "does not run on cuda"),
        (RuntimeSpec("tensorrt", "cpu"), EngineError, "onnxruntime"),
        (RuntimeSpec("tflite", "cpu"), EngineError, "no runtime"),
        (RuntimeSpec("onnxruntime", "abacus"), DeviceError, "abacus"),
    ],
)
def test_what_cannot_be_is_refused(spec: RuntimeSpec, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        spec.open()


def test_a_runtime_that_is_not_installed_gives_its_install_line() -> None:
    missing = [name for name, known in RUNTIMES.items() if not _installed(known)]
    for name in missing:
        with pytest.raises(MissingPackageError, match="pip install"):
            RuntimeSpec(name, "cuda" if "cuda" in RUNTIMES[name].kinds else "cpu").open()


def test_a_spec_survives_json() -> None:
    spec = spec_for(resolve("cpu"), threads=2)

    assert RuntimeSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert spec == RuntimeSpec("onnxruntime", "cpu", "fp32", 2)


def test_every_known_runtime_has_a_status_with_a_reason_or_a_way() -> None:
    found = {status.name: status for status in available()}

    assert list(found) == list(RUNTIMES)
    assert found["pytorch"].usable and found["onnxruntime"].usable
    assert all(status.note for status in found.values())
    assert all("pip install" in status.note for status in found.values() if status.version is None)
