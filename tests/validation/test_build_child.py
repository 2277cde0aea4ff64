from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.build_child import answer
from tests.validation.networks import two_convolutions


def request(onnx: Path, spec: RuntimeSpec, **changes: object) -> dict[str, object]:
    return {"onnx": str(onnx), "runtime": spec.as_dict(), "out": None, "time": False, "beside": None, **changes}


def test_without_timing_an_engine_is_built_and_its_memory_read(tmp_path: Path) -> None:
    onnx = two_convolutions(tmp_path / "net.onnx", (4, 5))

    told = answer(request(onnx, RuntimeSpec("onnxruntime", "cpu")))

    assert told["ok"] and told["samples_ms"] == () and told["beside"] is None
    assert told["size_bytes"] == onnx.stat().st_size
    assert told["weight_bytes"] is None or told["weight_bytes"] >= 4 * (4 * 27 + 5 * 36)


def test_a_corrupt_model_is_refused_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"this is no network")

    told = answer(request(tmp_path / "net.onnx", RuntimeSpec("onnxruntime", "cpu")))

    assert not told["ok"] and told["version"]
    assert "refused the model" in told["error"]


def test_a_dense_network_that_cannot_be_built_costs_the_report(tmp_path: Path) -> None:
    onnx = two_convolutions(tmp_path / "net.onnx", (4, 5))

    spec = RuntimeSpec("onnxruntime", "cpu")
    told = answer(request(onnx, spec, time=True, beside=str(tmp_path / "missing.onnx")))

    assert not told["ok"] and "missing.onnx" in told["error"]


def test_a_runtime_that_does_not_open_is_told_apart_from_a_bad_candidate(tmp_path: Path) -> None:
    told = answer(request(tmp_path / "net.onnx", RuntimeSpec("onnxruntime", "no such device")))

    assert "no such device" in told["cannot_open"]


def test_an_engine_is_built_and_timed_without_pytorch_whose_import_takes_seconds(tmp_path: Path) -> None:
    onnx = two_convolutions(tmp_path / "net.onnx", (4, 5))
    asked = request(onnx, RuntimeSpec("onnxruntime", "cpu"), time=True, beside=str(onnx))
    code = "import json, sys; from hwprune.validation.build_child import answer; "
    code += "told = answer(json.loads(sys.argv[1])); print(told['ok'], 'torch' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["True", "False"]
