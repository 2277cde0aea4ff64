"""The last word on whether the pruned network is faster: a paired test with rebuilt engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from hwprune.errors import EngineError, RunError
from hwprune.files import write_atomically
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.select import RuntimeSpec
from hwprune.timing import Comparison, Timing, compare, interleave
from hwprune.units import format_ms, format_percent

SCHEMA = 1
FEWEST_REBUILDS = 3  # builders choose among kernels by timing them, so two builds of one network differ
TAIL_MS = 200.0  # of single runs per engine and rebuild, for the 95th percentile
FEWEST_RUNS, MOST_RUNS = 20, 200


@dataclass(frozen=True)
class Certificate:
    """The result of `certify`, with all that was measured.

    Attributes:
        comparison: latency of pruned over dense with its interval.
        confidence: of the interval.
        dense_blocks_ms, pruned_blocks_ms: block medians per rebuild; equal places are neighbours in time.
        dense_samples_ms, pruned_samples_ms: latencies of single runs over all rebuilds.
        runtime: name, device, precision and so on, as in `RuntimeSpec`.
        fingerprint: what the numbers belong to.
    """

    comparison: Comparison
    confidence: float
    dense_blocks_ms: tuple[tuple[float, ...], ...]
    pruned_blocks_ms: tuple[tuple[float, ...], ...]
    dense_samples_ms: tuple[float, ...]
    pruned_samples_ms: tuple[float, ...]
    runtime: Mapping[str, Any]
    fingerprint: Mapping[str, str]

    @property
    def verdict(self) -> Literal["faster", "not faster"]:
        """ "faster" only where the whole interval of the ratio lies below 1."""
        return "faster" if self.comparison.faster else "not faster"

    @property
    def dense(self) -> Timing:
        """The dense network's single runs; their median, p95 and coefficient of variation."""
        return Timing(self.dense_samples_ms)

    @property
    def pruned(self) -> Timing:
        """The pruned network's."""
        return Timing(self.pruned_samples_ms)

    @property
    def summary(self) -> str:
        """One sentence for people."""
        found = self.comparison
        where = f"{self.runtime['name']} {self.runtime['precision']} on {self.runtime['device']}"
        return (
            f"{self._judgement}: the pruned network takes {format_percent(found.ratio)} of the dense network's time "
            f"({100 * self.confidence:g} % interval {format_percent(found.low)} to {format_percent(found.high)}), "
            f"{format_ms(self.pruned.median_ms)} against {format_ms(self.dense.median_ms)}, "
            f"with {where} over {len(self.dense_blocks_ms)} rebuilds."
        )

    @property
    def _judgement(self) -> str:
        if self.comparison.faster:
            return "Faster"
        return "Not faster but slower" if self.comparison.low > 1 else "Not faster, as far as can be told"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, verdict, summary and statistics included for other readers."""
        statistics = {
            f"{name}_{value}": getattr(timing, value)
            for name, timing in (("dense", self.dense), ("pruned", self.pruned))
            for value in ("median_ms", "p95_ms", "cv")
        }
        told = {"schema": SCHEMA, "verdict": self.verdict, "summary": self.summary}
        return {**told, **statistics, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """The inverse of `as_dict`. Raises ValueError, KeyError or TypeError for anything else."""
        if (schema := values["schema"]) != SCHEMA:
            raise ValueError(f"its schema is {schema}, this version reads {SCHEMA}")
        known = {field.name: values[field.name] for field in fields(cls)}
        for name in ("dense_blocks_ms", "pruned_blocks_ms"):
            known[name] = tuple(tuple(blocks) for blocks in known[name])
        for name in ("dense_samples_ms", "pruned_samples_ms"):
            known[name] = tuple(known[name])
        return cls(**known | {"comparison": Comparison(**known["comparison"])})

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically. Raises `StorageError`."""
        write_atomically(Path(path), json.dumps(self.as_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read what `save` wrote. Raises `RunError` where the file is missing or damaged."""
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"the certificate cannot be read: {error}", where=path, fix="run `hwprune certify` again"
            ) from error


Source = Path | tuple[nn.Module, tuple[Tensor, ...]]
"""An ONNX file with fixed input shapes, or a module with example inputs for runtimes that read no ONNX."""


def certify(
    dense: Source,
    pruned: Source,
    spec: RuntimeSpec,
    *,
    rebuilds: int = FEWEST_REBUILDS,
    blocks: int = 20,
    confidence: float = 0.95,
    on_progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Test whether the pruned network is faster, both engines rebuilt each time and timed by turns.

    Args:
        dense, pruned: see `Source`.
        rebuilds: of both engines; at least 3, or nothing is known about how builds of one network differ.
        blocks: per engine and rebuild.
        on_progress: called with (rebuilds done, rebuilds in all).

    Raises `EngineError` where there are too few rebuilds, the device is not here, or an engine cannot be built.
    """
    if rebuilds < FEWEST_REBUILDS:
        raise EngineError(
            f"{rebuilds} rebuilds are too few for a certificate", fix=f"ask for {FEWEST_REBUILDS} or more"
        )
    runtime = spec.open()
    if not runtime.can_time:
        raise EngineError(
            f"{spec.device} is not in this machine, so nothing can be timed",
            effect="engines can be built for it here, but a certificate needs the device",
            fix="run `hwprune certify` on a machine that has it",
        )
    measured: tuple[list[_Rebuild], list[_Rebuild]] = ([], [])
    for turn in range(rebuilds):
        # Who is built first, and timed first, changes by turns too.
        order = (dense, pruned) if turn % 2 == 0 else (pruned, dense)
        results = _rebuild(runtime, order, blocks)
        for side, result in zip(measured, results if turn % 2 == 0 else results[::-1], strict=True):
            side.append(result)
        if on_progress is not None:
            on_progress(turn + 1, rebuilds)
    dense_blocks, pruned_blocks = (tuple(r.blocks_ms for r in side) for side in measured)
    dense_samples, pruned_samples = (tuple(s for r in side for s in r.samples_ms) for side in measured)
    return Certificate(
        comparison=compare(dense_blocks, pruned_blocks, confidence=confidence),
        confidence=confidence,
        dense_blocks_ms=dense_blocks,
        pruned_blocks_ms=pruned_blocks,
        dense_samples_ms=dense_samples,
        pruned_samples_ms=pruned_samples,
        runtime=spec.as_dict(),
        fingerprint=dict(runtime.fingerprint()),
    )


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """One engine's latencies in one rebuild."""

    blocks_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]


def _rebuild(runtime: Runtime, models: tuple[Source, Source], blocks: int) -> list[_Rebuild]:
    engines: list[Engine] = []
    try:
        for model in models:
            engines.append(runtime.build_onnx(model) if isinstance(model, Path) else runtime.build(*model))
        blocks_ms = interleave(engines, blocks=blocks)
        return [
            _Rebuild(tuple(medians), _single_runs(engine, float(np.median(medians))))
            for engine, medians in zip(engines, blocks_ms, strict=True)
        ]
    finally:
        for engine in engines:
            engine.close()


def _single_runs(engine: Engine, run_ms: float) -> tuple[float, ...]:
    runs = int(np.clip(TAIL_MS / run_ms, FEWEST_RUNS, MOST_RUNS))
    return tuple(map(float, engine.time(warmup=2, repeats=runs)))
