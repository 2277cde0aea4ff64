"""The last word on whether the pruned network is faster: a paired test with rebuilt engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from hwprune.clocks import watch_for
from hwprune.comparison import Comparison, compare
from hwprune.errors import EngineError
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.select import RuntimeSpec
from hwprune.timing import Watch, interleave
from hwprune.validation.certificate import Certificate as Certificate

FEWEST_REBUILDS = 3  # builders choose among kernels by timing them, so two builds of one network differ
MOST_REBUILDS = 12
NARROW = 0.0125  # half of the interval's width over the ratio, at which there are rebuilds enough
SEQUENTIAL = 0.6  # of the doubt, where more is measured until the interval is narrow
TAIL_MS = 200.0  # of single runs per engine and rebuild, for the 95th percentile
FEWEST_RUNS, MOST_RUNS = 20, 200

Blocks = Sequence[float]  # medians in ms of one engine's blocks in one rebuild
Source = Path | tuple[nn.Module, tuple[Tensor, ...]]
"""An ONNX file with fixed input shapes, or a module with example inputs for runtimes that read no ONNX."""


def certify(
    dense: Source,
    pruned: Source,
    spec: RuntimeSpec,
    *,
    rebuilds: int = FEWEST_REBUILDS,
    most_rebuilds: int = MOST_REBUILDS,
    blocks: int = 20,
    confidence: float = 0.95,
    batch: int = 1,
    earlier: Sequence[Certificate] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Test whether the pruned network is faster, both engines rebuilt each time and timed by turns.

    Args:
        dense, pruned: see `Source`.
        rebuilds: of both engines, at least; 3 or more, or nothing is known about how builds of one network differ.
        most_rebuilds: there are more than ``rebuilds`` until the interval is narrower than +- 1.25 % of the ratio, at
            most so many.
        blocks: per engine and rebuild.
        batch: images at once that the networks take; it is only written down.
        earlier: certificates of networks of the same structures, whose rebuilds count too where their fingerprint is
            today's. Rebuilds of two times tell more than those of one: what else a machine does changes the ratio from
            minute to minute.
        on_progress: called with (rebuilds done, rebuilds at most).

    Raises `EngineError` where there are too few rebuilds, the device is not here, or an engine cannot be built.
    """
    if rebuilds < FEWEST_REBUILDS:
        raise EngineError(
            f"{rebuilds} rebuilds are too few for a certificate", fix=f"ask for {FEWEST_REBUILDS} or more"
        )
    fresh = replace(spec, timing_cache="")  # with tactics kept from before, rebuilds would hide how builds differ
    runtime = fresh.open()
    if not runtime.can_time:
        raise EngineError(
            f"{spec.device} is not in this machine, so nothing can be timed",
            effect="engines can be built for it here, but a certificate needs the device",
            fix="run `hwprune certify` on a machine that has it",
        )
    most, watch = max(rebuilds, most_rebuilds), watch_for(runtime.cuda_index)
    measured: tuple[list[_Rebuild], list[_Rebuild]] = ([], [])

    def rebuilt() -> Iterator[tuple[Blocks, Blocks]]:
        for turn in range(most):
            # Who is built first, and timed first, changes by turns too.
            order = (dense, pruned) if turn % 2 == 0 else (pruned, dense)
            results = _rebuild(runtime, order, blocks, watch)
            for side, result in zip(measured, results if turn % 2 == 0 else results[::-1], strict=True):
                side.append(result)
            if on_progress is not None:
                on_progress(turn + 1, most)
            yield measured[0][-1].blocks_ms, measured[1][-1].blocks_ms

    fingerprint = dict(runtime.fingerprint())
    kept = [one for one in earlier if one.fingerprint == fingerprint]
    before = [pair for one in kept for pair in zip(one.dense_blocks_ms, one.pruned_blocks_ms, strict=True)]
    comparison = compare_until_narrow(rebuilt(), before=before, fewest=rebuilds, most=most, confidence=confidence)
    dense_blocks, pruned_blocks = (tuple(r.blocks_ms for r in side) for side in measured)
    dense_samples, pruned_samples = (tuple(s for r in side for s in r.samples_ms) for side in measured)
    return Certificate(
        comparison=comparison,
        confidence=confidence,
        dense_blocks_ms=(*(dense for dense, _ in before), *dense_blocks),
        pruned_blocks_ms=(*(pruned for _, pruned in before), *pruned_blocks),
        dense_samples_ms=(*(sample for one in kept for sample in one.dense_samples_ms), *dense_samples),
        pruned_samples_ms=(*(sample for one in kept for sample in one.pruned_samples_ms), *pruned_samples),
        runtime=fresh.as_dict(),
        fingerprint=fingerprint,
        batch=batch,
        clocks=watch.clocks,
    )


def compare_until_narrow(
    rebuilds: Iterable[tuple[Blocks, Blocks]],
    *,
    before: Sequence[tuple[Blocks, Blocks]] = (),
    fewest: int,
    most: int,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Comparison:
    """`compare` of as many rebuilds, dense and pruned, as make the interval narrow: ``fewest`` to ``most``.

    Those that were made ``before`` are compared too, and not counted.

    An interval that may stop whenever it happens to be narrow holds the truth less often than it says. With 0.6 of the
    doubt, and 3 to 12 rebuilds, 95.4 % and more of simulated certificates hold it where 95 % is asked
    (`benchmarks/interval_coverage.py`).

    Raises ValueError where there are fewer rebuilds than ``fewest``.
    """
    judged_at = confidence if most == fewest and not before else 1 - SEQUENTIAL * (1 - confidence)
    made = list(before)
    found = None
    for count, rebuild in enumerate(islice(rebuilds, most), start=1):
        made.append(rebuild)
        if count < fewest:
            continue
        found = compare(*zip(*made, strict=True), confidence=judged_at, resamples=resamples)
        if found.uncertainty <= NARROW:
            break
    if found is None:
        raise ValueError(f"{len(made) - len(before)} rebuilds, {fewest} are the fewest")
    return found


def engine_of(runtime: Runtime, model: Source) -> Engine:
    """The engine of a source. Raises `EngineError`."""
    return runtime.build_onnx(model) if isinstance(model, Path) else runtime.build(*model)


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """One engine's latencies in one rebuild."""

    blocks_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]


def _rebuild(runtime: Runtime, models: tuple[Source, Source], blocks: int, watch: Watch) -> list[_Rebuild]:
    engines: list[Engine] = []
    try:
        for model in models:
            engines.append(engine_of(runtime, model))
        blocks_ms = interleave(engines, blocks=blocks, watch=watch)
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
