"""Dense against pruned over rebuilt engines: the ratio of their latencies, with an interval that keeps its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True, slots=True)
class Comparison:
    """Latency of the pruned network over that of the dense one, with its confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def uncertainty(self) -> float:
        """Half of the interval's width, as a share of the ratio."""
        return float(np.sqrt(self.high / self.low)) - 1

    @property
    def faster(self) -> bool:
        """Whether the whole interval lies below 1: anything else is "not faster"."""
        return self.high < 1.0


def compare(
    dense_ms: Sequence[Sequence[float]],
    pruned_ms: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Pruned over dense latency, with an interval that holds for builds that were not made.

    Outer index: rebuild of both engines. Inner: interleaved blocks, ``dense_ms[k][i]`` next in time to
    ``pruned_ms[k][i]``, as `interleave` gives them.

    On a log scale: the median ratio of each rebuild, their mean, and Student's interval over rebuilds with K - 1
    degrees of freedom. The variance of a rebuild's median is what the rebuilds show, or what bootstrapping its blocks
    shows where that is larger, so that three rebuilds that agree by chance claim no more than their blocks can.
    A bootstrap over rebuilds and blocks alone is too narrow: with 3 rebuilds it covered 81 to 84 % where 95 % was
    asked and rebuilds differ by 3 %, and 92 % where neighbouring blocks err alike; this one covers 94.8 % and more
    (`benchmarks/interval_coverage.py`). One rebuild says nothing about how rebuilds differ.

    Raises:
        ValueError: there is no rebuild, or a block has no neighbour.
    """
    logs = [np.log(_ratios(p, d)) for p, d in zip(pruned_ms, dense_ms, strict=True)]
    if not logs:
        raise ValueError("a comparison needs at least one rebuild")
    medians, count = np.array([np.median(values) for values in logs]), len(logs)
    rng = np.random.default_rng(seed)
    within = float(np.mean([_median_variance(values, rng, resamples) for values in logs]))
    between = float(np.var(medians, ddof=1)) if count > 1 else 0.0
    freedom = count - 1 if count > 1 else max(logs[0].size - 1, 1)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * np.sqrt(max(between, within) / count)
    middle = float(np.mean(medians))
    return Comparison(*(float(np.exp(value)) for value in (middle, middle - half, middle + half)))


def _median_variance(values: np.ndarray, rng: np.random.Generator, resamples: int) -> float:
    """Variance of the median of these values, by bootstrap."""
    return float(np.var(np.median(values[rng.integers(values.size, size=(resamples, values.size))], axis=1)))


def _ratios(pruned: Sequence[float], dense: Sequence[float]) -> np.ndarray:
    if len(pruned) != len(dense) or not pruned:
        raise ValueError("every pruned block needs a dense block next to it")
    ratios: np.ndarray = np.asarray(pruned, dtype=float) / np.asarray(dense, dtype=float)
    return ratios
