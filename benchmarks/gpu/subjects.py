"""What several steps of `checks` need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from hwprune.files import write_atomically
from hwprune.runtimes.base import Engine
from hwprune.timing import Timing

Options = Mapping[str, Any]


def subject_of(out: Path, options: Options) -> Any:
    from hwprune.loop.reporter import Silent
    from hwprune.loop.settings import Settings
    from hwprune.loop.subject import Subject
    from hwprune.models.resolve import describe_inputs, load_model

    device, name = options["device"], options["model"]
    precision = "fp32" if device == "cpu" else options["precision"]
    widths = {"most_widths": options["most_widths"], "multiple": options["multiple"]}
    settings = Settings("100%", device=device, runtime=chosen_runtime(out, options), precision=precision, **widths)
    return Subject(load_model(name), describe_inputs(name), settings, out / "profile", Silent(), name)


def chosen_runtime(out: Path, options: Options) -> str | None:
    """TensorRT-RTX where its step has seen an engine run on this card, else PyTorch; on the CPU the default."""
    if options["runtime"] or options["device"] == "cpu":
        return options["runtime"] or None
    try:
        seen = json.loads((out / "rtx.json").read_text())["engines"]
    except (OSError, ValueError, KeyError):
        return "pytorch"
    return "tensorrt_rtx" if any(e["target"] == "current" and "median_ms" in e for e in seen) else "pytorch"


def classifier(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval(), (torch.randn(1, 3, 224, 224),)


def tried_here(
    runtime: Any, serialized: bytes, model: Any = None, inputs: tuple[torch.Tensor, ...] = ()
) -> dict[str, Any]:
    """A serialised engine loaded on the card that is here, timed, and compared with the module."""
    from hwprune.runtimes.cuda import open_cuda
    from hwprune.runtimes.tensorrt_engine import Built, TensorRTEngine

    engine = TensorRTEngine(runtime._trt, runtime._logger, Built(serialized, weight_bytes=0), open_cuda(0))
    found = timed(engine)
    if model is not None:
        with torch.inference_mode():
            found["error"] = difference(engine.run([t.numpy() for t in inputs])[0], model(*inputs).numpy())
    engine.close()
    return found


def timed(engine: Engine) -> dict[str, Any]:
    timing = Timing(engine.time(warmup=20, repeats=200))
    return {"median_ms": timing.median_ms, "p95_ms": timing.p95_ms, "cv": timing.cv}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def check_document(held: Any) -> dict[str, Any]:
    return {"error": asdict(held.error), "noise": asdict(held.noise) if held.noise else None, **held.as_json()}


def tell_progress(done: int, total: int, remaining_s: float) -> None:
    if done % 100 == 0:
        print(f"{done} of {total}, {remaining_s:.0f} s left", flush=True)


def write(out: Path, name: str, told: Any) -> None:
    write_atomically(out / f"{name}.json", json.dumps(told, indent=1, default=str).encode())
