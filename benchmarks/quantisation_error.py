"""What 8 bits do to the digits' ResNet-20: output error and top-1 of the Q/DQ graphs that TensorRT is given.

    python benchmarks/quantisation_error.py

Each graph is computed by ONNX Runtime on the CPU without its optimiser, in float32 between the pairs, with scales from
64 training images or from random inputs; beside them FP8 with the scales that ONNX Runtime's quantiser finds by itself.
The error is the norm of the logits' difference from float32's over the norm of those, on the validation images.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime import quantization
from recording import RESULTS, fingerprint, markdown, record

import hwprune
from hwprune.models.resolve import load_model
from hwprune.models.weights import RESNET20_DIGITS
from hwprune.runtimes.calibration import Calibration, save_calibration
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_quantized import WEIGHTED, _folded, quantized

BATCH, NAME = 8, "quantisation_error"


def main() -> None:
    """Compute every graph on the validation images and write the table."""
    model = load_model("hwprune.models.cifar_resnet:resnet20", weights=RESNET20_DIGITS, num_classes=10)
    data = hwprune.load_data("digits", batch_size=BATCH)
    images = torch.cat([next(iter(data.calibration.epoch(n)))[0] for n in range(64 // BATCH)]).numpy()
    plain = onnx.load_from_string(export(model, (torch.from_numpy(images[:BATCH]),)))
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        own = Calibration(Path(folder) / "calibration.npz")
        save_calibration(Path(folder) / "calibration.npz", [images])
        graphs: dict[str, Callable[[], onnx.ModelProto]] = {
            "float32": lambda: plain,
            "int8": lambda: quantized(plain, "int8", own),
            "int8, random inputs": lambda: quantized(plain, "int8", Calibration()),
            "fp8": lambda: quantized(plain, "fp8", own),
            "fp8, random inputs": lambda: quantized(plain, "fp8", Calibration()),
            "fp8, the quantiser's own scales": lambda: _by_itself(plain, images, Path(folder) / "own.onnx"),
        }
        batches = [batch for batch in data.validation if len(batch[0]) == BATCH]
        labels = np.concatenate([labels.numpy() for _, labels in batches])
        outputs = {name: _logits(build(), [x.numpy() for x, _ in batches]) for name, build in graphs.items()}
    expected = outputs["float32"]
    rows = [
        {
            "graph": name,
            "error": float(np.linalg.norm(found - expected) / np.linalg.norm(expected)),
            "top1": float((found.argmax(axis=1) == labels).mean()),
        }
        for name, found in outputs.items()
    ]
    told = {"command": f"python benchmarks/{NAME}.py", "fingerprint": fingerprint(), "images": len(labels)}
    record(RESULTS / f"{NAME}.json", told | {"rows": rows})
    lines = [[str(r["graph"]), f"{100 * float(r['error']):.2f} %", f"{100 * float(r['top1']):.2f} %"] for r in rows]
    page = markdown(("graph", "error of the logits", f"top-1 of {len(labels)} images"), lines)
    (RESULTS / f"{NAME}.md").write_text(f"By `benchmarks/{NAME}.py`.\n\n{page}\n", encoding="utf-8")
    print(page)


def _logits(model: onnx.ModelProto, batches: list[np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would fuse the pairs
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x})[0] for x in batches])


def _by_itself(model: onnx.ModelProto, images: np.ndarray, path: Path) -> onnx.ModelProto:
    """FP8 as ONNX Runtime's quantiser does it without being told scales."""
    folded = _folded(model)
    name = folded.graph.input[0].name
    waiting = iter([{name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(waiting, None)

    quantization.quantize_static(
        copy.deepcopy(folded),
        path,
        Reader(),
        op_types_to_quantize=["Conv", "Gemm"],
        activation_type=quantization.QuantType.QFLOAT8E4M3FN,
        weight_type=quantization.QuantType.QFLOAT8E4M3FN,
        calibrate_method=quantization.CalibrationMethod.Distribution,
        extra_options={"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": list(WEIGHTED)},
    )
    return onnx.load(path)


if __name__ == "__main__":
    main()
