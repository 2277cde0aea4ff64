"""Measures what a latency table lacks; may be killed at any time and started again.

Layers are measured in a shuffled order, so that a drift of the machine does not line up with width. What was measured
is flushed every few seconds, merged with what other profilers have put into the file meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from torch import Tensor, nn

from hwprune.clocks import watch_for
from hwprune.device import Device
from hwprune.errors import DeviceError
from hwprune.latency import isolated
from hwprune.latency.entry import Context, Entry
from hwprune.latency.table import LatencyTable
from hwprune.latency.wanted import default_choices as default_choices
from hwprune.latency.wanted import wanted_layers as wanted_layers
from hwprune.layer import Layer
from hwprune.runtimes.base import Engine, Runtime
from hwprune.timing import NOISY_CV, Paired, Watch, measure_paired

FLUSH_S: Final = 3.0
MOST_FLUSHING: Final = 0.05  # share of the time; a table of 8000 rows takes 0.7 s to merge and write
GATE: Final = 0.02  # relative standard error of a measurement at which it is good enough
FRAME_BLOCKS: Final = 9  # a frame's time goes into many entries
MOST_BLOCKS: Final = 15
SECOND_BLOCKS: Final = 25  # of a measurement that came out noisy at first

Progress = Callable[[int, int, float], None]


def profile(
    layers: Iterable[Layer],
    runtime: Runtime,
    path: Path | str,
    *,
    device: Device | None = None,
    budget_s: float | None = None,
    flush_s: float = FLUSH_S,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """The table at ``path`` with all ``layers`` measured; those it has already are not measured again.

    Those whose samples scatter by more than 5 % are measured a second time at the end, with more blocks. However this
    ends (Ctrl-C too), what was measured is in the file; a kill loses the last ``flush_s`` seconds at most, or a few
    more where the table is so large that writing it takes long.

    Args:
        device: what the runtime runs on, for the table's fingerprint; a table of other hardware is then refused.
        budget_s: stop after so long, with what there is by then.
        on_progress: called with layers done, layers in all, and estimated seconds to go.

    Raises:
        DeviceError: the runtime only builds for a device that is not here.
        ProfileError: the file is damaged or of another device; a layer's variant is unknown.
        EngineError: the runtime refused a layer.
        StorageError: the file cannot be written.
    """
    if not runtime.can_time:
        raise DeviceError(
            "nothing can be timed: the device that engines are built for is not in this machine",
            where=f"{runtime.name} {runtime.version}",
            fix="profile on the machine that has it; the table then serves here too",
        )
    table = open_table(runtime, Path(path), device)
    wanted = sorted(set(layers))
    todo = [layer for layer in wanted if layer not in table]
    Random(seed).shuffle(todo)
    deadline = time.monotonic() + (float("inf") if budget_s is None else budget_s)
    with closing(_Bench(runtime)) as bench:
        run = _Run(table, Path(path), bench, deadline, flush_s, on_progress)
        run.measure(todo, blocks=5, most_blocks=MOST_BLOCKS)
        again = [layer for layer in wanted if layer in run.table and is_noisy(run.table.lookup(layer))]
        run.measure(again, blocks=SECOND_BLOCKS, most_blocks=SECOND_BLOCKS)
    return run.table


def open_table(runtime: Runtime, path: Path, device: Device | None = None) -> LatencyTable:
    """The table at ``path``, or an empty one for ``runtime``.

    Raises:
        ProfileError: the file is damaged, or of other hardware, runtime, version, precision or threads.
    """
    empty = LatencyTable(fingerprint_of(runtime, device), source=str(path))
    if not path.exists():
        return empty
    table = LatencyTable.load(path)
    table.check_fingerprint(empty.fingerprint, "this run")
    return table


def fingerprint_of(runtime: Runtime, device: Device | None = None) -> dict[str, str]:
    """What a table measured with ``runtime`` on ``device`` now belongs to."""
    return {
        **(device.fingerprint() if device is not None else {}),
        **{key: str(value) for key, value in runtime.fingerprint().items()},
        "runtime": runtime.name,
        "version": runtime.version,
        "precision": runtime.precision,
        "reference": str(isolated.REFERENCE),
    }


def reference_engine(runtime: Runtime) -> Engine:
    """The workload that every measurement with ``runtime`` is paired with; to be closed by the caller."""
    return _engine(runtime, isolated.reference_onnx, isolated.reference_module)


def is_noisy(entry: Entry) -> bool:
    """Whether a second measurement should settle an entry that scatters."""
    return entry.cv > NOISY_CV and len(entry.samples_ms) < SECOND_BLOCKS


def _engine(
    runtime: Runtime, onnx: Callable[[], bytes], module: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]
) -> Engine:
    return runtime.build_onnx(onnx()) if runtime.reads_onnx else runtime.build(*module())


@dataclass
class _Bench:
    """The runtime with its reference workload, and the frames timed so far."""

    runtime: Runtime
    reference: Engine = field(init=False)
    watch: Watch = field(init=False)
    frames: dict[tuple[object, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reference = reference_engine(self.runtime)
        self.watch = watch_for(self.runtime.cuda_index)

    def entry(self, layer: Layer, *, blocks: int, most_blocks: int) -> Entry:
        """The layer, measured."""
        context: Context = "framed" if self.runtime.reads_onnx and isolated.framed(layer) else "alone"
        frame_ratio = self._frame(layer) if context == "framed" else 0.0
        engine = _engine(self.runtime, lambda: isolated.layer_onnx(layer), lambda: isolated.layer_module(layer))
        with closing(engine):
            paired = self._paired(engine, blocks=blocks, most_blocks=most_blocks)
            memory = engine.memory()
        return Entry(
            layer=layer,
            samples_ms=paired.samples_ms,
            reference_ms=paired.reference_ms,
            measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            context=context,
            frame_ratio=frame_ratio,
            activation_bytes=memory.activation_bytes,
        )

    def close(self) -> None:
        self.reference.close()

    def _frame(self, layer: Layer) -> float:
        key = isolated.frame_key(layer)
        if key not in self.frames:
            model = isolated.frame_onnx(layer)
            if model is None:
                return 0.0
            with closing(self.runtime.build_onnx(model)) as engine:
                self.frames[key] = self._paired(engine, blocks=FRAME_BLOCKS, most_blocks=SECOND_BLOCKS).ratio
        return self.frames[key]

    def _paired(self, engine: Engine, *, blocks: int, most_blocks: int) -> Paired:
        return measure_paired(
            engine, self.reference, blocks=blocks, most_blocks=most_blocks, gate=GATE, watch=self.watch
        )


@dataclass
class _Run:
    """The table as it grows, and when it was last flushed."""

    table: LatencyTable
    path: Path
    bench: _Bench
    deadline: float
    flush_s: float
    on_progress: Progress | None
    flush_took_s: float = 0.0

    def measure(self, layers: list[Layer], *, blocks: int, most_blocks: int) -> None:
        """Measures the layers until the deadline; what was measured is in the file whatever happens."""
        fresh: list[Entry] = []
        started = flushed = time.monotonic()
        try:
            for done, layer in enumerate(layers, start=1):
                if time.monotonic() > self.deadline:
                    return
                fresh.append(self.bench.entry(layer, blocks=blocks, most_blocks=most_blocks))
                now = time.monotonic()
                if self.on_progress is not None:
                    self.on_progress(done, len(layers), (now - started) / done * (len(layers) - done))
                if now - flushed > max(self.flush_s, self.flush_took_s / MOST_FLUSHING):
                    self._flush(fresh)
                    fresh, flushed = [], time.monotonic()
        finally:
            self._flush(fresh)

    def _flush(self, fresh: list[Entry]) -> None:
        if fresh:
            started = time.monotonic()
            self.table = self.table.add(fresh).save(self.path)
            self.flush_took_s = time.monotonic() - started
