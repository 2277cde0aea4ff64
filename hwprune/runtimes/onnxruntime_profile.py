"""What ONNX Runtime's profiler says of each node: its kernel time and the memory that its arena held."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from hwprune.errors import EngineError
from hwprune.runtimes.base import EngineMemory, LayerTime
from hwprune.runtimes.onnxruntime_nodes import kind_of, nodes_of

Open = Callable[..., Any]  # (model, profile_prefix=...) -> session
SUFFIX = "_kernel_time"
IN_USE, DELTA, WEIGHTS = "mem_bytes_requested_in_use", "mem_requested_in_use_delta", "parameter_size"
TRIMMED = 0.25  # of the runs at either end: the mean of the rest resolves less than the clock's whole microseconds
EVENTS_KEPT = 900_000  # ONNX Runtime writes no more than a million into one profile


@contextmanager
def running() -> Iterator[None]:
    """Say of whatever a session raises meanwhile that the network's run failed."""
    try:
        yield
    except Exception as error:  # each failure of ONNX Runtime is a class of its own
        raise EngineError("ONNX Runtime failed while it ran the network", where=error) from error


def profile(
    open_session: Open,
    model: bytes | Path,
    inputs: Mapping[str, np.ndarray],
    *,
    repeats: int,
    graph: ModelProto | None = None,
) -> tuple[list[LayerTime], EngineMemory]:
    """Kernel times over ``repeats`` runs after a first one, and the memory of that first one.

    Durations come in whole microseconds, so a kernel's time is the mean of its middle runs. The session is a fresh
    one, so the first run finds an empty arena. ``graph`` is the model without need of its weights, to say which nodes
    a kernel stands for; without it none are said.
    """
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        session = open_session(model, profile_prefix=str(Path(folder) / "profile"))
        feed = dict(inputs)
        with running():
            for _ in range(1 + repeats):
                session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(SUFFIX)]
    count, rest = divmod(len(kernels), 1 + repeats)
    if rest:
        raise EngineError(
            "ONNX Runtime's profile has runs of unequal length",
            where=f"{len(kernels)} events in {1 + repeats} runs",
            fix="ask for fewer repeats" if len(events) > EVENTS_KEPT else "",
        )
    runs = [kernels[run * count : (run + 1) * count] for run in range(1 + repeats)]
    return _times(runs[1:], graph), _memory([event["args"] for event in runs[0]])


def _times(runs: list[list[dict[str, Any]]], graph: ModelProto | None) -> list[LayerTime]:
    if not runs:
        return []
    names = [event["name"].removesuffix(SUFFIX) for event in runs[0]]
    nodes = nodes_of(names, graph) if graph is not None else [()] * len(names)
    durations = np.array([[event["dur"] for event in run] for run in runs], dtype=float)
    cut = int(TRIMMED * len(durations))  # as scipy.stats.trim_mean, whose import alone takes a second
    means = np.sort(durations, axis=0)[cut : len(durations) - cut].mean(axis=0) / 1000
    return [
        LayerTime(name, float(ms), kind_of(name), stands_for)
        for name, ms, stands_for in zip(names, means, nodes, strict=True)
    ]


def _memory(nodes: list[dict[str, Any]]) -> EngineMemory:
    """The arena's growth over its level before the first node; versions that do not report it give None."""
    weights = sum(int(node[WEIGHTS]) for node in nodes)
    if not nodes or IN_USE not in nodes[0] or DELTA not in nodes[0]:
        return EngineMemory(activation_bytes=None, weight_bytes=weights)
    before = int(nodes[0][IN_USE]) - int(nodes[0][DELTA])
    return EngineMemory(max(int(node[IN_USE]) for node in nodes) - before, weights)
