"""Whole networks at sampled widths, timed and profiled: what in-context tables are made of.

One sample is a cut of the dense network, an engine of it, its latency beside the reference workload, and the times of
its layers by the runtime's own profiler. Like the profiler of single layers, this may be killed and started again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from hwprune.device import resolve
from hwprune.latency.attribution import Attributor
from hwprune.latency.design import settings as space_filling
from hwprune.latency.profiler import FLUSH_S, open_table, reference_engine
from hwprune.latency.sample import NetworkSample, structure_of
from hwprune.latency.table import LatencyTable
from hwprune.loop.subject import Subject
from hwprune.runtimes.base import Engine
from hwprune.timing import Paired, measure_paired

SAMPLES: Final = 64  # for up to 16 choices a group
GATE: Final = 0.01  # relative standard error of a sample's latency that is good enough
BLOCK_MS: Final = 10.0
PROFILE_MS: Final = 400.0  # about how long the profiler runs
FEWEST_PROFILED, MOST_PROFILED = 12, 60  # runs; reading what the profiler wrote costs more than the runs

Setting = Mapping[str, int]


def structure(subject: Subject) -> str:
    """The fingerprint that the network's samples go by."""
    return structure_of(subject.network.layers, subject.network.groups_hash)


def sampled_table(subject: Subject, path: Path, *, count: int = SAMPLES) -> LatencyTable:
    """The table at ``path`` with ``count`` samples of the network at least; those it has are not measured again.

    The last third of them are where the table is least sure (see `least_sure`), the others fill the space.
    """
    table = open_table(subject.runtime, path, resolve(subject.spec.device))
    have = len(table.samples_of(structure(subject)))
    wanted = space_filling(subject.choices, count, seed=subject.settings.seed)[have:]
    if not wanted:
        return table
    return measure_samples(subject, wanted, path, title="measuring whole networks", done=have)


def measure_samples(
    subject: Subject, wanted: Sequence[Setting], path: Path, *, title: str, done: int = 0, flush_s: float = FLUSH_S
) -> LatencyTable:
    """The table at ``path`` with a sample of each of these settings more.

    However this ends (Ctrl-C too), what was measured is in the file; a kill loses the last ``flush_s`` seconds.
    """
    table = open_table(subject.runtime, path, resolve(subject.spec.device))
    subject.reporter.stage(f"{title} on {subject.spec.device} with {subject.spec.name}")
    layers, groups_hash = subject.network.layers, subject.network.groups_hash
    attributor = Attributor(layers)
    fresh: list[NetworkSample] = []
    started = flushed = time.monotonic()

    def flush() -> LatencyTable:
        return table.with_samples(fresh, layers, groups_hash).save(path) if fresh else table

    with closing(reference_engine(subject.runtime)) as reference:
        try:
            for number, widths in enumerate(wanted, start=1):
                fresh.append(_sample(subject, widths, reference, attributor))
                now = time.monotonic()
                left = (now - started) / number * (len(wanted) - number)
                subject.reporter.advance(done + number, done + len(wanted), left)
                if now - flushed > flush_s:
                    table = flush()
                    fresh.clear()
                    flushed = time.monotonic()
        finally:
            table = flush()
    return table


def _sample(subject: Subject, widths: Setting, reference: Engine, attributor: Attributor) -> NetworkSample:
    clock = _Clock()
    with closing(subject.engine(subject.small(subject.first_channels(widths)))) as engine:
        build_s = clock.lap()
        paired = measure_paired(engine, reference, most_blocks=15, block_ms=BLOCK_MS, gate=GATE)
        time_s = clock.lap()
        found = attributor(engine.layers(repeats=_repeats(paired)))
        memory = engine.memory()
    return NetworkSample(
        network=subject.reference,
        structure=structure(subject),
        widths=dict(widths),
        samples_ms=paired.samples_ms,
        reference_ms=paired.reference_ms,
        layer_ms=found.ms,
        engine_layers=found.engine_layers,
        measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        activation_bytes=memory.activation_bytes,
        build_s=build_s,
        time_s=time_s,
        profile_s=clock.lap(),
    )


def _repeats(paired: Paired) -> int:
    """Profiled runs: more of a short network, whose layers the profiler's clock resolves badly."""
    return int(np.clip(PROFILE_MS / paired.median_ms, FEWEST_PROFILED, MOST_PROFILED))


class _Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> float:
        before, self._since = self._since, time.monotonic()
        return round(self._since - before, 3)
