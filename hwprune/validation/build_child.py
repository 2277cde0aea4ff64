"""The child process of `build_engine`: builds one engine, times it, and answers.

Run as ``python -m hwprune.validation.build_child REQUEST ANSWER``, both JSON files.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from hwprune.clocks import watch_for
from hwprune.errors import HwpruneError
from hwprune.files import write_atomically
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.engine import EngineReport, Ratio, measure_ratio

TIMED_MS = 400.0  # of runs for the report's own samples
FEWEST_REPEATS, MOST_REPEATS = 10, 200


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the parent asked for, as plain values: an `EngineReport`, or why the runtime does not open."""
    spec = RuntimeSpec.from_dict(request["runtime"])
    try:
        runtime = spec.open()
    except Exception as error:  # a broken installation fails in any way on import
        traceback.print_exc()
        return {"cannot_open": _text(error)}
    try:
        return _build(runtime, spec, request).as_dict()
    except Exception as error:  # whatever a builder throws costs this candidate; the log gets the traceback
        traceback.print_exc()
        return EngineReport(
            ok=False,
            error=_text(error),
            runtime=runtime.name,
            device=str(spec.device),
            precision=runtime.precision,
            version=runtime.version,
        ).as_dict()


def _build(runtime: Runtime, spec: RuntimeSpec, request: Mapping[str, Any]) -> EngineReport:
    start = perf_counter()
    engine = runtime.build_onnx(Path(request["onnx"]))
    build_s = perf_counter() - start
    try:
        memory = engine.memory()
        timing = request["time"] and runtime.can_time
        return EngineReport(
            ok=True,
            error="",
            runtime=runtime.name,
            device=str(spec.device),
            precision=runtime.precision,
            version=runtime.version,
            build_s=build_s,
            size_bytes=engine.size_bytes,
            activation_bytes=memory.activation_bytes,
            weight_bytes=memory.weight_bytes,
            samples_ms=_samples_ms(engine) if timing else (),
            path=_save(engine, request["out"]),
            beside=_ratio(runtime, engine, Path(request["beside"])) if timing and request["beside"] else None,
        )
    finally:
        engine.close()


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, HwpruneError) else f"{type(error).__name__}: {error}"


def _samples_ms(engine: Engine) -> tuple[float, ...]:
    estimate = float(np.median(engine.time(warmup=3, repeats=3)))
    repeats = int(np.clip(TIMED_MS / max(estimate, 1e-6), FEWEST_REPEATS, MOST_REPEATS))
    return tuple(map(float, engine.time(warmup=max(1, repeats // 10), repeats=repeats)))


def _ratio(runtime: Runtime, candidate: Engine, dense_onnx: Path) -> Ratio:
    dense = runtime.build_onnx(dense_onnx)
    try:
        return measure_ratio(dense, candidate, watch=watch_for(runtime.cuda_index))
    finally:
        dense.close()


def _save(engine: Engine, out: str | None) -> str | None:
    serialized = getattr(engine, "serialized", None)  # runtimes without an engine file have no such thing
    if out is None or serialized is None:
        return None
    write_atomically(Path(out), bytes(serialized))
    return out


def end_with_the_parent() -> None:
    """End this process when the parent is gone, however it went: only then does stdin close."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Read the request, do it, write the answer."""
    request, where = map(Path, sys.argv[1:3])
    end_with_the_parent()
    write_atomically(where, json.dumps(answer(json.loads(request.read_bytes()))).encode())


if __name__ == "__main__":
    main()
