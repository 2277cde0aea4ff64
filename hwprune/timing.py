"""Latency measured beside a reference, because the machine itself drifts by tens of percent.

    Timing           raw samples of one repeated run; median, p95 and warnings are derived
    measure_paired   one engine, every block between two blocks of a reference workload -> Paired
    interleave       several engines by turns, for a fair comparison -> block medians

A block is a few runs in a row of one engine; its median stands for it. Nothing that was measured is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Protocol

import numpy as np

FEWEST_SAMPLES = 10
NOISY_CV = 0.05
SLOW_START_RATIO = 1.5
MAD_TO_SIGMA = 1.4826  # of a normal distribution
MEDIAN_TO_MEAN_ERROR = 1.2533  # sqrt(pi / 2): standard error of a median over that of a mean, normal samples
FEWEST_RUNS, MOST_RUNS = 3, 500  # of a block


class Timed(Protocol):
    """What can be timed: every engine."""

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of ``repeats`` single runs after ``warmup`` unmeasured ones, oldest first."""


class Watch(Protocol):
    """Looks at the device around blocks: a card that holds its clocks back spoils them, as does a shared core."""

    def begin(self) -> bool:
        """Whether the device is as it should be, where a turn, or another try of it, begins."""

    def look(self) -> bool:
        """Whether it is so behind a block."""

    def again(self, tries: int) -> bool:
        """Whether a spoilt turn shall be measured again, after ``tries`` of it; waits a little if so."""


class TimingWarning(Enum):
    """Why a timing may be wrong; the value is the sentence shown to the user."""

    FEW_SAMPLES = f"fewer than {FEWEST_SAMPLES} samples; raise the number of repeats"
    SLOW_START = "the first sample is far above the rest; raise the number of warm-up runs"
    NOISY = f"spread above {NOISY_CV:.0%} of the median; stop other work on the device or lock its clocks"


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples of one repeated run, oldest first. Statistics are derived, never stored."""

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise ValueError("a timing needs at least one sample")

    @property
    def median_ms(self) -> float:
        """The middle sample."""
        return float(np.median(self.samples_ms))

    @property
    def p95_ms(self) -> float:
        """19 of 20 runs are at most this long."""
        return float(np.percentile(self.samples_ms, 95))

    @property
    def cv(self) -> float:
        """Robust coefficient of variation: 1.4826 * MAD / median."""
        return robust_cv(self.samples_ms)

    @property
    def warnings(self) -> tuple[TimingWarning, ...]:
        """What speaks against trusting these samples."""
        found = []
        if len(self.samples_ms) < FEWEST_SAMPLES:
            found.append(TimingWarning.FEW_SAMPLES)
        if self.samples_ms[0] > SLOW_START_RATIO * self.median_ms:
            found.append(TimingWarning.SLOW_START)
        if self.cv > NOISY_CV:
            found.append(TimingWarning.NOISY)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Paired:
    """Blocks of one engine, each beside the reference workload as it ran just before and just after.

    Attributes:
        samples_ms: the median run of each block, oldest first.
        reference_ms: for each block, the mean of the reference's block medians before and after it.
    """

    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms or len(self.samples_ms) != len(self.reference_ms):
            raise ValueError("paired samples need one reference each, and at least one pair")

    @property
    def ratios(self) -> tuple[float, ...]:
        """Each block over its reference: free of the machine's drift."""
        return tuple(s / r for s, r in zip(self.samples_ms, self.reference_ms, strict=True))

    @property
    def ratio(self) -> float:
        """Median of `ratios`."""
        return float(np.median(self.ratios))

    @property
    def cv(self) -> float:
        """Robust coefficient of variation of `ratios`."""
        return robust_cv(self.ratios)

    @property
    def standard_error(self) -> float:
        """Of `ratio`, relative to it, from the robust spread of the blocks."""
        return MEDIAN_TO_MEAN_ERROR * self.cv / float(np.sqrt(len(self.samples_ms)))

    @property
    def median_ms(self) -> float:
        """Plain median of the blocks: what a clock on the wall said, drift included."""
        return float(np.median(self.samples_ms))

    @property
    def reference_median_ms(self) -> float:
        """Plain median of the reference's blocks."""
        return float(np.median(self.reference_ms))

    def at_reference(self, reference_ms: float) -> float:
        """The latency in ms on a machine (or at a moment) where the reference takes ``reference_ms``."""
        return self.ratio * reference_ms


def measure_paired(
    engine: Timed,
    reference: Timed,
    *,
    blocks: int = 5,
    most_blocks: int = 15,
    block_ms: float = 1.5,
    gate: float = 0.05,
    warmup: int = 2,
    watch: Watch | None = None,
) -> Paired:
    """Time ``engine`` in blocks that alternate with blocks of ``reference``: R E R E R ... R.

    Goes on past ``blocks`` until the standard error of the ratio is under ``gate``, at most to
    ``most_blocks``; what stays noisy is returned as it is and shows in `Paired.cv`. An engine of 50 µs takes
    about 20 ms in all.

    Args:
        block_ms: about how long a block lasts; a block has 3 runs at least.
        warmup: unmeasured runs of each at the start; later blocks have one, which brings the caches back.
        watch: a block of both that it finds spoilt is measured again.
    """
    runs = _runs_for(engine, block_ms, warmup)
    reference_runs = _runs_for(reference, block_ms, warmup)
    samples: list[float] = []
    around = [median for _, median in _turn([(0, reference, reference_runs)], watch)]
    while True:
        (_, own), (_, beside) = _turn([(0, engine, runs), (1, reference, reference_runs)], watch)
        samples.append(own)
        around.append(beside)
        if len(samples) < blocks:
            continue
        paired = Paired(tuple(samples), tuple((before + after) / 2 for before, after in pairwise(around)))
        if len(samples) >= most_blocks or paired.standard_error <= gate:
            return paired


def interleave(
    engines: Sequence[Timed],
    *,
    blocks: int,
    block_ms: float = 20.0,
    warmup_ms: float = 20.0,
    watch: Watch | None = None,
) -> list[list[float]]:
    """Block medians in ms per engine, all engines by turns in rotated order, so that drift hits all alike.

    The i-th blocks of all engines are neighbours in time. Needs two engines or more to mean anything. ``watch`` looks
    before a turn and after each of its blocks: a turn begins when the device is as it should be, and one that is
    spoilt later is measured again as a whole.
    """
    estimates = [_estimate(engine, warmup=2) for engine in engines]
    runs = [_runs(block_ms, estimate) for estimate in estimates]
    for engine, estimate in zip(engines, estimates, strict=True):
        engine.time(warmup=_runs(warmup_ms, estimate), repeats=1)
    medians: list[list[float]] = [[] for _ in engines]
    for turn in range(blocks):
        order = [(turn + place) % len(engines) for place in range(len(engines))]
        for which, median in _turn([(which, engines[which], runs[which]) for which in order], watch):
            medians[which].append(median)
    return medians


def _turn(order: Sequence[tuple[int, Timed, int]], watch: Watch | None) -> list[tuple[int, float]]:
    """One block of each engine; once more where the watch says so."""
    if watch is None:
        return [(which, _block(engine, runs)) for which, engine, runs in order]
    tries = 0
    while True:
        tries += 1
        begins_well = watch.begin()
        if not begins_well and watch.again(tries):
            continue
        ends_well, medians = True, []
        for which, engine, runs in order:
            medians.append((which, _block(engine, runs)))
            ends_well = watch.look() and ends_well
        if ends_well or not begins_well or not watch.again(tries):
            return medians


def robust_cv(samples: Sequence[float]) -> float:
    """1.4826 * MAD / median: the coefficient of variation, were the samples normal without outliers.

    >>> robust_cv([1.0, 1.0, 1.0, 9.0])
    0.0
    """
    values = np.asarray(samples, dtype=float)
    middle = np.median(values)
    return float(MAD_TO_SIGMA * np.median(np.abs(values - middle)) / middle) if middle else 0.0


def _block(engine: Timed, runs: int) -> float:
    return float(np.median(engine.time(warmup=1, repeats=runs)))


def _estimate(engine: Timed, warmup: int) -> float:
    return float(np.median(engine.time(warmup=warmup, repeats=FEWEST_RUNS)))


def _runs(block_ms: float, run_ms: float) -> int:
    return int(np.clip(round(block_ms / max(run_ms, 1e-6)), FEWEST_RUNS, MOST_RUNS))


def _runs_for(engine: Timed, block_ms: float, warmup: int) -> int:
    return _runs(block_ms, _estimate(engine, warmup))
