"""Whole networks at sampled widths, timed and profiled: what in-context tables are made of.

One sample is a cut of the dense network, engines of it, its latency, and the times of its layers by the runtime's own
profiler. Its latency is measured by turns with the dense network's, which drifts most like it does; only that one's is
measured beside the reference workload, and makes all others ratios to it. Beside the workload itself, a convolution
that fits into the innermost caches, samples of RegNetX-400MF scattered by 4.2 % over minutes, and by 2.4 % so. Like
the profiler of single layers, this may be killed and started again.

A network is exported once; a sample puts narrower weights into that graph. Of ResNet-50 with ONNX Runtime on one core a
sample takes 0.2 s to cut and build, 1.5 s to time and 0.5 s to profile (medians; `sample_s` in what
`benchmarks/prediction_error.py` records), so 64 of them less than three minutes. Its layers one by one take thousands
of engines.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from hwprune.clocks import watch_for
from hwprune.device import resolve
from hwprune.latency.attribution import Attributor
from hwprune.latency.design import around
from hwprune.latency.design import settings as space_filling
from hwprune.latency.in_context import FEWEST_SAMPLES, InContext, fitted
from hwprune.latency.profiler import FLUSH_S, MOST_FLUSHING, open_table, reference_engine
from hwprune.latency.sample import NetworkSample, structure_of
from hwprune.latency.table import LatencyTable
from hwprune.loop.beside import BLOCKS, BLOCKS_OF_ONE, Beside
from hwprune.loop.subject import Subject
from hwprune.runtimes.base import Engine
from hwprune.timing import Paired, measure_paired

SAMPLES: Final = 64  # for up to 16 choices a group
MOST_SAMPLES: Final = 96  # of a network that is told badly
TOLD: Final = 0.02  # median error of samples that are left out, up to which a network is told well
FILLING: Final = 2 / 3  # of them fill the space
BATCH: Final = 8  # samples between two looks at what is least sure
POOL: Final = 200  # settings looked at
DISTURBED: Final = 4.0  # doubt from which a sample is taken again
GATE: Final = 0.01  # relative standard error of a sample's latency that is good enough
BLOCK_MS: Final = 10.0
PROFILE_MS: Final = 400.0  # about how long the profiler runs
FEWEST_PROFILED, MOST_PROFILED = 12, 60  # runs; reading what the profiler wrote costs more than the runs

Setting = Mapping[str, int]


def structure(subject: Subject) -> str:
    """The fingerprint that the network's samples go by."""
    return structure_of(subject.network.layers, subject.network.groups_hash)


def sampled_table(subject: Subject, path: Path, *, count: int | None = None) -> LatencyTable:
    """The table at ``path`` with ``count`` samples of the network at least; those it has are not measured again.

    Two thirds of them fill the space of widths. The others, a few at a time, are where those before them leave most to
    learn: samples that were disturbed are taken again, then come the settings that `least_sure` names.

    Args:
        count: None takes `SAMPLES`, and goes on to `MOST_SAMPLES` as long as samples that are left out are told badly.
    """
    table = open_table(subject.runtime, path, resolve(subject.spec.device))
    least = SAMPLES if count is None else count
    filling = space_filling(subject.choices, max(FEWEST_SAMPLES, round(least * FILLING)), seed=subject.settings.seed)
    have = len(table.samples_of(structure(subject)))
    if wanted := filling[have:least]:
        table = measure_samples(subject, wanted, path, title="measuring whole networks", of=(have, least))
    most = MOST_SAMPLES if count is None else count
    while (have := len(table.samples_of(structure(subject)))) < most:
        context = fitted(table.samples_of(structure(subject)), subject.network.layers)
        if have >= least and context.error.median <= TOLD:
            break
        upto = least if have < least else most
        wanted = most_to_learn(subject, context, min(BATCH, upto - have))
        table = measure_samples(subject, wanted, path, title="measuring where it is least sure", of=(have, upto))
    return table


def sampled_around(subject: Subject, path: Path, widths: Setting, *, count: int = BATCH) -> LatencyTable:
    """The table with ``count`` more samples at and beside a setting that a search is about to choose.

    The first is the setting itself, the others have every group at most one choice away.
    """
    beside = around(subject.choices, widths, count - 1, seed=subject.settings.seed)
    return measure_samples(subject, [dict(widths), *beside], path, title="measuring around a candidate")


def most_to_learn(subject: Subject, context: InContext, count: int) -> list[dict[str, int]]:
    """Settings whose measurement would teach most about this network."""
    times = Counter(tuple(sorted(sample.widths.items())) for sample in context.samples)
    disturbed = [
        dict(sample.widths)
        for sample, doubt in sorted(zip(context.samples, context.doubt, strict=True), key=lambda pair: -pair[1])
        if doubt > DISTURBED and times[tuple(sorted(sample.widths.items()))] == 1
    ]
    again = disturbed[: count // 2]
    return [*again, *least_sure(context, subject.choices, count - len(again), seed=subject.settings.seed)]


def least_sure(
    context: InContext, choices: Mapping[str, Sequence[int]], count: int, *, seed: int
) -> list[dict[str, int]]:
    """Of a pool of settings those whose latency the surfaces leave most uncertain, in proportion.

    That is where a layer's neighbours disagree (cliffs) or are far away, weighed by what the layer takes. The pool is
    another one for every number of samples, so that the next settings are not the same again.
    """
    pool = space_filling(choices, POOL, seed=seed + len(context.samples), first=2)
    unsure = [context.deviation(widths) / context.latency(widths) for widths in pool]
    return [pool[place] for place in np.argsort(unsure)[::-1][:count]]


def measure_samples(
    subject: Subject,
    wanted: Sequence[Setting],
    path: Path,
    *,
    title: str,
    of: tuple[int, int] = (0, 0),
    flush_s: float = FLUSH_S,
) -> LatencyTable:
    """The table at ``path`` with a sample of each of these settings more.

    However this ends (Ctrl-C too), what was measured is in the file; a kill loses the last ``flush_s`` seconds.

    Args:
        of: samples done before, and in all, for the reporter.
    """
    done, total = of if of[1] else (0, len(wanted))
    subject.reporter.stage(f"{title} on {subject.spec.device} with {subject.spec.name}")
    keeper = _Keeper(subject, open_table(subject.runtime, path, resolve(subject.spec.device)), path, flush_s)
    started = time.monotonic()
    with closing(Beside(subject)) as bench:
        sampler = _Sampler(subject, bench, Attributor(subject.network.layers), _dense_ratio(subject, keeper.table))
        try:
            for number, widths in enumerate(wanted, start=1):
                keeper.keep(sampler.sample(widths))
                left = (time.monotonic() - started) / number * (total - done - number)
                subject.reporter.advance(done + number, total, left)
        finally:
            keeper.flush()
    return keeper.table


@dataclass
class _Keeper:
    """The table as it grows: flushed every few seconds, or more rarely where it is so large that writing takes long."""

    subject: Subject
    table: LatencyTable
    path: Path
    flush_s: float
    fresh: list[NetworkSample] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def keep(self, sample: NetworkSample) -> None:
        self.fresh.append(sample)
        if time.monotonic() - self.flushed > max(self.flush_s, self.took_s / MOST_FLUSHING):
            self.flush()

    def flush(self) -> None:
        if self.fresh:
            started = time.monotonic()
            network = self.subject.network
            self.table = self.table.with_samples(self.fresh, network.layers, network.groups_hash).save(self.path)
            self.fresh, self.flushed = [], time.monotonic()
            self.took_s = self.flushed - started


@dataclass
class _Sampler:
    """Takes samples; the dense network's own ratio to the reference workload makes all others ratios to it too."""

    subject: Subject
    bench: Beside
    attributor: Attributor
    dense_ratio: float | None

    def sample(self, widths: Setting) -> NetworkSample:
        if dict(widths) == dict(self.subject.network.widths):
            dense = self._dense()
            self.dense_ratio = self.dense_ratio or dense.ratio
            return dense
        if self.dense_ratio is None:
            self.dense_ratio = self._dense().ratio
        small = self.subject.small(self.subject.first_channels(widths))
        pairs = self.bench.pairs
        with self.bench.timed(small, pairs=pairs, blocks=BLOCKS if pairs > 1 else BLOCKS_OF_ONE) as (engine, turns):
            paired = Paired(
                turns.ratio.candidate_blocks_ms,
                tuple(block / self.dense_ratio for block in turns.ratio.dense_blocks_ms),
            )
            return self._of(widths, engine, paired, turns.build_s, turns.time_s)

    def _dense(self) -> NetworkSample:
        """The dense network beside the reference workload."""
        clock = _Clock()
        with (
            closing(self.subject.engine(self.subject.model)) as engine,
            closing(reference_engine(self.subject.runtime)) as reference,
        ):
            build_s = clock.lap()
            watch = watch_for(self.subject.runtime.cuda_index)
            paired = measure_paired(
                engine, reference, blocks=15, most_blocks=45, block_ms=BLOCK_MS, gate=GATE, watch=watch
            )
            return self._of(self.subject.network.widths, engine, paired, build_s, clock.lap())

    def _of(self, widths: Setting, engine: Engine, paired: Paired, build_s: float, time_s: float) -> NetworkSample:
        clock = _Clock()
        found = self.attributor(engine.layers(repeats=_repeats(paired)), widths)
        memory = engine.memory()
        return NetworkSample(
            network=self.subject.reference,
            structure=structure(self.subject),
            widths=dict(widths),
            samples_ms=paired.samples_ms,
            reference_ms=paired.reference_ms,
            layer_ms=found.ms,
            engine_layers=found.engine_layers,
            measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            activation_bytes=memory.activation_bytes,
            build_s=round(build_s, 3),
            time_s=round(time_s, 3),
            profile_s=clock.lap(),
        )


def _dense_ratio(subject: Subject, table: LatencyTable) -> float | None:
    """The dense network's latency over the reference's, as the table has it."""
    full = dict(subject.network.widths)
    found = [sample.ratio for sample in table.samples_of(structure(subject)) if dict(sample.widths) == full]
    return median(found) if found else None


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
