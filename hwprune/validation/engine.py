"""A real engine for every candidate, built where a crash or a hang can hurt nothing else.

    build_engine    an ONNX file -> EngineReport, through a child process with a time limit
    measure_ratio   two engines by turns in one process -> their ratio, which the machine's drift does not touch

The child is a fresh interpreter in its own process group; request and answer are JSON files, and what it writes to
its streams goes to a log whose end is shown when it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hwprune.errors import EngineError
from hwprune.runtimes.base import Engine
from hwprune.runtimes.select import RuntimeSpec
from hwprune.timing import Paired, Watch, interleave

CHILD = "hwprune.validation.build_child"
RATIO_GATE = 0.01  # relative standard error of a ratio that is good enough
LOG_LINES, LOG_CHARACTERS = 12, 2000  # of a failed child's log in the report


@dataclass(frozen=True, slots=True)
class Ratio:
    """Latency of a candidate and of the dense network, timed by turns.

    Attributes:
        dense_blocks_ms, candidate_blocks_ms: block medians, oldest first; equal places are neighbours in time.
    """

    dense_blocks_ms: tuple[float, ...]
    candidate_blocks_ms: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the blocks of candidate / dense: free of drift, unlike the quotient of two medians."""
        return median(c / d for c, d in zip(self.candidate_blocks_ms, self.dense_blocks_ms, strict=True))

    @property
    def dense_ms(self) -> float:
        """Median latency of the dense network."""
        return median(self.dense_blocks_ms)

    @property
    def candidate_ms(self) -> float:
        """Median latency of the candidate."""
        return median(self.candidate_blocks_ms)


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What came of building one engine.

    Attributes:
        ok: whether an engine was built, and timed where that was asked and the device is here.
        error: "" or why not: the reason, exit code or signal, and the last lines of the log.
        runtime, version, device, precision: what built it, and for what.
        build_s: seconds for the build alone.
        size_bytes: of the engine.
        activation_bytes, weight_bytes: device memory; None where the runtime does not tell.
        samples_ms: latencies of single runs, oldest first; empty where the engine was not timed.
        path: where the serialised engine was saved; None where the runtime has none or none was asked.
        beside: the candidate against the dense network, timed by turns; None where that was not asked.
    """

    ok: bool
    error: str
    runtime: str
    device: str
    precision: str
    version: str = ""
    build_s: float | None = None
    size_bytes: int | None = None
    activation_bytes: int | None = None
    weight_bytes: int | None = None
    samples_ms: tuple[float, ...] = ()
    path: str | None = None
    beside: Ratio | None = None

    @property
    def timed(self) -> bool:
        """Whether there are latencies."""
        return bool(self.samples_ms)

    @property
    def median_ms(self) -> float | None:
        """The middle latency."""
        return median(self.samples_ms) if self.samples_ms else None

    @property
    def p95_ms(self) -> float | None:
        """19 of 20 runs are at most this long."""
        return float(np.percentile(self.samples_ms, 95)) if self.samples_ms else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineReport:
        """The inverse of `as_dict`. Raises KeyError or TypeError where fields are missing or strange."""
        known = {field.name: values[field.name] for field in fields(cls)}
        known["samples_ms"] = tuple(known["samples_ms"])
        if known["beside"] is not None:
            known["beside"] = Ratio(**{name: tuple(blocks) for name, blocks in known["beside"].items()})
        return cls(**known)


def build_engine(
    onnx: Path,
    spec: RuntimeSpec,
    *,
    out: Path | None = None,
    time: bool = True,
    beside: Path | None = None,
    timeout_s: float = 600.0,
    child: str = CHILD,
) -> EngineReport:
    """Build an engine for the ONNX file in a child process, and time it where the device is here.

    Args:
        onnx: model with fixed input shapes.
        out: where to save the serialised engine, for runtimes that have one.
        time: whether to time it; without the device it is built only, and that is no error.
        beside: the dense network's ONNX file, to time both by turns in the same process.
        timeout_s: after that the child and all it started are killed.
        child: module that builds; it is run as ``python -m``.

    A builder's error, crash or hang comes back as a report that is not ok. Raises `EngineError` where the runtime
    cannot be opened on this machine at all, since then every candidate would fail alike.
    """
    with tempfile.TemporaryDirectory(prefix="hwprune-engine-") as folder:
        request, answer, log = (Path(folder) / name for name in ("request.json", "answer.json", "log.txt"))
        wanted = {
            "onnx": str(onnx.resolve()),
            "runtime": spec.as_dict(),
            "out": None if out is None else str(out.resolve()),
            "time": time,
            "beside": None if beside is None else str(beside.resolve()),
        }
        request.write_text(json.dumps(wanted))
        ended = _run_child([child, str(request), str(answer)], log, timeout_s)
        lines = log.read_text(errors="replace").strip()[-LOG_CHARACTERS:].splitlines()[-LOG_LINES:]
        if ended is not None:
            return _failed(spec, "\n".join([ended, *lines]))
        try:
            told = json.loads(answer.read_bytes())
            if "cannot_open" not in told:
                return EngineReport.from_dict(told)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return _failed(spec, "\n".join([f"the builder ended without a whole answer ({error!r})", *lines]))
    raise EngineError(told["cannot_open"])


def measure_ratio(
    dense: Engine, candidate: Engine, *, blocks: int = 10, most_blocks: int = 40, watch: Watch | None = None
) -> Ratio:
    """Time two engines by turns in this process; both must be on a device that is here.

    Goes on past ``blocks`` until the standard error of the ratio is below 1 %, at most to ``most_blocks``: a quiet
    machine passes at once.
    """
    dense_ms: list[float] = []
    candidate_ms: list[float] = []
    while True:
        turns = interleave([dense, candidate], blocks=blocks, watch=watch)
        for known, more in zip((dense_ms, candidate_ms), turns, strict=True):
            known.extend(more)
        paired = Paired(tuple(candidate_ms), tuple(dense_ms))
        if len(dense_ms) >= most_blocks or paired.standard_error <= RATIO_GATE:
            return Ratio(tuple(dense_ms), tuple(candidate_ms))


def _run_child(arguments: list[str], log: Path, timeout_s: float) -> str | None:
    """Run ``python -m arguments``; None when it ended well, else what happened."""
    # The child sees the modules that this process sees. -P: no file in the working folder can shadow a package.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", *arguments],
            stdin=subprocess.PIPE,  # never written to: it closes when this process dies, and the child then ends
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # its own process group, so that all it started can be killed
        )
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"no engine after {timeout_s:g} s; the builder was stopped"
    finally:  # also on Ctrl-C, which goes on upwards
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
    if code < 0:
        return f"the builder crashed with {signal.Signals(-code).name}"
    return f"the builder failed with exit code {code}" if code else None


def _failed(spec: RuntimeSpec, error: str) -> EngineReport:
    return EngineReport(ok=False, error=error, runtime=spec.name, device=str(spec.device), precision=spec.precision)
