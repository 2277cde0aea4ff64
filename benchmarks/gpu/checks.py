"""Everything worth doing on a machine with a GPU, in one call of less than ten minutes.

    PYTHONPATH=. python benchmarks/gpu/checks.py OUT [--only STEP ...] [--limit 540] [--archive FILE.tar.gz]

Each step runs in its own process with its own time limit and leaves STEP.json, STEP.log and its tables in OUT; one
that fails, hangs or lacks a package costs itself only. ``--list`` says what there is. The steps are in `steps`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNING = ("torch", "torchvision", "numpy", "psutil")  # what a network needs to run and be timed
EXPORT = ("onnx", "onnxscript", "ml_dtypes")
# What `import hwprune` needs. Steps that need less run without the package's own first page, see `_child`.
LIBRARY = (*RUNNING, "onnx", "ml_dtypes", "scipy", "pandas", "pyarrow", "filelock", "safetensors", "PIL")
NO_CARD = 3  # exit code of a step, as in `steps`
SPARE_S = 5.0  # to stop the last step and write the archive


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        limit_s: after which it is stopped.
        needs: modules that it imports.
        about: what it answers.
    """

    name: str
    limit_s: float
    needs: tuple[str, ...]
    about: str


# Longest gain first: what comes late may find no time left.
STEPS = (
    Step("machine", 40, RUNNING, "packages, card, driver, clocks"),
    Step(
        "rtx",
        100,
        (*RUNNING, *EXPORT, "tensorrt_rtx"),
        "does TensorRT-RTX build and run here, for this card or another",
    ),
    Step("numbers", 60, (*RUNNING, *EXPORT), "TensorRT's outputs and latency in every precision that it has here"),
    Step("overhead", 60, (*RUNNING, *EXPORT), "what the profiler adds to each layer, on four networks"),
    Step("incontext", 200, LIBRARY, "whole networks at sampled widths, attributed, and the error on unseen ones"),
    Step("certify", 90, LIBRARY, "two equal networks and a shallower one, with clocks and throttling by NVML"),
    Step("quantized", 90, (*LIBRARY, "sklearn", "onnxruntime"), "int8 and fp8: latency, top-1 by calibration inputs"),
    Step("memory", 60, LIBRARY, "device memory at four widths beside what the builder plans"),
    Step("cache", 60, (*RUNNING, *EXPORT), "TensorRT's timing cache in a file: equal tactics, faster builds"),
    Step("graphs", 90, RUNNING, "PyTorch with CUDA graphs: latency, its noise, memory, numbers against the CPU"),
    Step(
        "profile", 300, LIBRARY, "a latency table of the card, and its error on unseen networks where it gets complete"
    ),
    Step("prune", 200, (*LIBRARY, "sklearn"), "hwprune.prune on the card from end to end, with its certificate"),
    Step("trt", 90, (*RUNNING, *EXPORT), "TensorRT: CUDA memory, IProfiler's layers, engine inspector, captured graph"),
    Step("amp", 80, (*LIBRARY, "sklearn"), "fine-tuning in bfloat16 against float32"),
    Step("ort", 60, (*RUNNING, *EXPORT, "onnxruntime"), "ONNX Runtime's CUDA provider"),
    Step("pycuda", 30, (*RUNNING, "pycuda"), "memory, stream and events of PyCUDA, and a graph captured on its stream"),
    Step(
        "engines",
        60,
        (*RUNNING, *EXPORT, "tensorrt_rtx"),
        "engines that were built without a GPU (--engines FOLDER), loaded and timed",
    ),
    Step(
        "tests",
        240,
        (*LIBRARY, "onnxscript", "pytest", "hypothesis"),
        "the tests that are skipped where there is no card",
    ),
)


def main() -> int:
    """Run the steps one after the other; exit 1 where one that could run failed."""
    options = _options()
    if options.child:
        return _child(options)
    if options.list:
        print("\n".join(f"{step.name:8} {step.limit_s:4.0f} s  {step.about}" for step in STEPS))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    deadline, results = time.monotonic() + options.limit, []
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        found = _run(step, options, deadline - time.monotonic() - SPARE_S)
        results.append(found)
        print(f"{step.name:8} {found['status']:8} {found['seconds']:6.1f} s  {found['note']}", flush=True)
        (options.out / "summary.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        _pack(options.out, options.archive)
    return int(any(found["status"] in ("failed", "stopped") for found in results))


def _run(step: Step, options: argparse.Namespace, left_s: float) -> dict[str, Any]:
    """One step in its own process group; what it wrote stays whatever becomes of it."""
    if missing := _missing(step.needs):
        return _result(step, "missing", 0.0, f"packages: {', '.join(missing)}")
    limit_s = min(step.limit_s, left_s)
    if limit_s < 10:
        return _result(step, "no time", 0.0, f"{max(left_s, 0):.0f} s are left")
    asked = {name: value for name, value in vars(options).items() if isinstance(value, str | int | float)}
    told = json.dumps(asked | {"limit_s": limit_s})
    command = [sys.executable, "-u", __file__, str(options.out), "--child", step.name, "--told", told]
    started, log = time.monotonic(), options.out / f"{step.name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p)},
            start_new_session=True,  # so that its own children end with it
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return _result(step, "stopped", time.monotonic() - started, f"after its limit of {limit_s:.0f} s")
        finally:
            _kill(process)
    seconds = time.monotonic() - started
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [""]
    status = {0: "ok", NO_CARD: "no card"}.get(code, "failed")
    return _result(step, status, seconds, lines[-1][:160])


def _child(options: argparse.Namespace) -> int:
    """One step in this process."""
    if _missing(LIBRARY):
        # A package without its first page: what a step imports is loaded, and no more.
        bare = types.ModuleType("hwprune")
        bare.__path__ = [str(Path(__file__).parents[2] / "hwprune")]
        sys.modules["hwprune"] = bare
    import steps

    return steps.run(options.child, options.out, json.loads(options.told))


def _missing(needs: tuple[str, ...]) -> list[str]:
    return [name for name in dict.fromkeys(needs) if importlib.util.find_spec(name) is None]


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(step: Step, status: str, seconds: float, note: str) -> dict[str, Any]:
    return {"step": step.name, "status": status, "seconds": round(seconds, 1), "note": note}


def _pack(folder: Path, archive: Path | None) -> None:
    """All results as one file, for machines that give back few; replaced after each step."""
    if archive is None:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    beside = archive.with_name(f".{archive.name}.part")
    kinds = (".json", ".log", ".parquet", ".md", ".txt")
    with tarfile.open(beside, "w:gz") as packed:
        for file in sorted(f for f in folder.rglob("*") if f.suffix in kinds and f.is_file()):
            packed.add(file, arcname=file.relative_to(folder))
    beside.replace(archive)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("gpu-checks"), help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], help="these steps and no other")
    parser.add_argument("--list", action="store_true", help="say what the steps are")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds for everything")
    parser.add_argument("--archive", type=Path, help="put all results into one tar.gz as well")
    parser.add_argument("--device", default="cuda", help="cuda; cpu tries the steps that can do without a card")
    parser.add_argument("--runtime", default="", help="of profile and prune; default: TensorRT-RTX where it runs")
    parser.add_argument("--precision", default="fp16", help="of profile")
    parser.add_argument("--model", default="resnet50", help="of profile")
    parser.add_argument("--most-widths", type=int, default=8, help="of one group in profile")
    parser.add_argument("--multiple", type=int, default=0, help="of the widths in profile; 0 chooses by the device")
    parser.add_argument("--samples", type=int, default=48, help="of whole networks in incontext")
    parser.add_argument("--engines", default="", help="folder of *.engine files for the step of that name")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--told", default="{}", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
