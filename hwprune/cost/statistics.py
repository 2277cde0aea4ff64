"""Correlation coefficients with their uncertainty, and linear fits without negative terms. Plain numbers only."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.stats import kendalltau, rankdata

RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST_CLUSTERS = 8  # fewer say too little of how clusters differ

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; NaN where it is not defined (all values equal)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """For tables.

        >>> str(Estimate(0.95, 0.81, 0.99)), str(Estimate(nan, nan, nan))
        ('0.950 (0.810 to 0.990)', 'undefined')
        """
        if not isfinite(self.value):
            return "undefined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Correlation:
    """How two figures of the same networks go together.

    Attributes:
        pearson: of the values.
        log_pearson: of their logarithms: large networks do not decide it alone.
        spearman: of their ranks.
        kendall: tau-b: 2 p - 1 where p is the share of pairs that both figures order alike.
        count: networks.
    """

    pearson: Estimate
    log_pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    count: int

    @classmethod
    def of(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        *,
        clusters: Sequence[Hashable] = (),
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Correlation:
        """All four coefficients with percentile bootstrap intervals.

        Args:
            x, y: (n,) each.
            clusters: of each network, such as its family. Networks of one family are alike, so whole families are
                drawn where there are at least `FEWEST_CLUSTERS`; drawing networks would make intervals too narrow.
            resamples: of the bootstrap; 0 leaves the intervals NaN.
        """
        a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if a.shape != b.shape or a.ndim != 1:
            raise ValueError(f"two figures of the same networks are needed, not {a.shape} and {b.shape}")
        draws = _draws(len(a), clusters, resamples, seed)
        found = {name: _estimate(measure, a, b, draws) for name, measure in COEFFICIENTS.items()}
        return cls(**found, count=len(a))


def pearson(x: Floats, y: Floats) -> float:
    """Pearson's r; NaN for fewer than three values, or where one side is constant.

    >>> round(pearson(np.array([1.0, 2, 3]), np.array([2.0, 4, 7])), 3)
    0.993
    """
    if len(x) < 3 or _constant(x) or _constant(y):
        return nan
    return float(np.corrcoef(x, y)[0, 1])


def log_pearson(x: Floats, y: Floats) -> float:
    """Pearson's r of the logarithms; NaN where a value is not positive."""
    if min(x.min(initial=1.0), y.min(initial=1.0)) <= 0:
        return nan
    return pearson(np.log(x), np.log(y))


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank."""
    return pearson(rankdata(x), rankdata(y))


def kendall(x: Floats, y: Floats) -> float:
    """Kendall's tau-b."""
    if len(x) < 3 or _constant(x) or _constant(y):
        return nan
    return float(kendalltau(x, y).statistic)


COEFFICIENTS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "pearson": pearson,
    "log_pearson": log_pearson,
    "spearman": spearman,
    "kendall": kendall,
}


@dataclass(frozen=True, slots=True)
class Fit:
    """Positive ``measured`` as a sum of terms with coefficients that are not negative.

    Attributes:
        coefficients: one per term.
        mape: mean of |fitted / measured - 1|.
        r: Pearson's r of fitted and measured.
    """

    coefficients: tuple[float, ...]
    mape: float
    r: float

    @classmethod
    def of(cls, terms: ArrayLike, measured: ArrayLike) -> Fit:
        """Least squares of the *relative* error, so that small networks count as much as large ones.

        Args:
            terms: (n, k), not negative. A constant is a column of ones.
            measured: (n,), positive.
        """
        columns, y = np.asarray(terms, dtype=float), np.asarray(measured, dtype=float)
        if columns.ndim != 2 or len(columns) != len(y) or not len(y):
            raise ValueError(f"{columns.shape} terms do not go with {y.shape} measurements")
        if y.min() <= 0:
            raise ValueError("a relative error needs positive measurements")
        scale = columns.max(axis=0, initial=0)
        scale[scale == 0] = 1.0  # counts of 1e9 beside a constant of 1: scaled alike, or the solver loses the latter
        found, _ = nnls(columns / scale / y[:, None], np.ones(len(y)))
        fitted = columns @ (found / scale)
        return cls(tuple(map(float, found / scale)), mape(fitted, y), pearson(fitted, y))

    def at(self, terms: ArrayLike) -> Floats:
        """Fitted values, (n,), for terms (n, k)."""
        values: Floats = np.asarray(terms, dtype=float) @ np.asarray(self.coefficients)
        return values


def held_out(terms: ArrayLike, measured: ArrayLike, clusters: Sequence[Hashable]) -> Floats:
    """Each network predicted by a fit on all clusters but its own: (n,).

    Raises:
        ValueError: there is one cluster only.
    """
    columns, y = np.asarray(terms, dtype=float), np.asarray(measured, dtype=float)
    if len(set(clusters)) < 2:
        raise ValueError("holding a cluster out needs another one to fit on")
    predicted = np.empty(len(y))
    for members in _members(clusters):
        rest = np.setdiff1d(np.arange(len(y)), members)
        predicted[members] = Fit.of(columns[rest], y[rest]).at(columns[members])
    return predicted


def mape(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Mean absolute relative error.

    >>> mape([1.1, 1.8], [1.0, 2.0])
    0.1
    """
    return float(np.round(np.mean(np.abs(np.asarray(predicted) / np.asarray(measured) - 1)), 12))


def _estimate(
    measure: Callable[[Floats, Floats], float], x: Floats, y: Floats, draws: list[NDArray[np.intp]]
) -> Estimate:
    value = measure(x, y)
    drawn = np.array([measure(x[draw], y[draw]) for draw in draws]) if isfinite(value) else np.empty(0)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Estimate(value, nan, nan)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def _draws(count: int, clusters: Sequence[Hashable], resamples: int, seed: int) -> list[NDArray[np.intp]]:
    """Indices of each resample: of networks, or of whole clusters."""
    rng = np.random.default_rng(seed)
    members = _members(clusters)
    if len(members) < FEWEST_CLUSTERS:
        return [rng.integers(count, size=count) for _ in range(resamples)] if count else []
    return [
        np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(resamples)
    ]


def _members(clusters: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    found: dict[Hashable, list[int]] = {}
    for position, name in enumerate(clusters):
        found.setdefault(name, []).append(position)
    return [np.array(positions, dtype=np.intp) for positions in found.values()]


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max(initial=0))
