"""The latency of one layer over its widths, from measurements at some of them.

A Gaussian process per layer. Its kernel says what is known of hardware before anything was measured:

- latency is near to bilinear in (c_in, c_out), or in both rounded up to the block in which the runtime works (8, 16 or
  32 channels: vector registers, tensor cores). Rounding makes the plateaus and cliffs;
- widths of another alignment (the power of two, capped at 32, that divides them) take other kernels, so they tell less
  of each other, or nothing but the trend;
- widths far apart tell less of each other;
- a single width may have a cost of its own, which only repeated measurements of it can show.

Others were tried on the same samples (`benchmarks/layer_models.py`: 64 samples of ResNet-20, a tenth left out at
a time, median error of whole networks): this, with one block for both widths, 0.9 %, one kernel without blocks and
alignment 3.4 %, bilinear within one alignment class 2.7 %, the nearest sample 2.0 %, the layer measured alone times a
factor of its own 8.3 %.

How much of each holds is chosen per layer by leave-one-out error, which a Gaussian process has in closed form. So a
measured width is predicted by what was measured there and the noise of that, and any other by its neighbours as far as
they are alike, with a standard deviation that grows where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ALIGNMENTS: Final = (8, 16, 32)
SHORTEST: Final = 0.25  # of the mean latency: below it, noise no longer shrinks with latency
SMALLEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Kernel:
    """How measurements at two widths hang together.

    Attributes:
        block: channels that input widths are rounded up to; 1 for none.
        block_out: the same of output widths.
        apart: share of the covariance that widths of other alignment do not have in common.
        reach: how far, in the logarithm of the width, half of `local` carries; 0 for no end.
        own: variance of each single pair of widths, of that of the trend.
        noise: standard deviation of one measurement, relative.
    """

    block: int = 16
    block_out: int = 16
    apart: float = 0.0
    reach: float = 1.0
    own: float = 0.0
    noise: float = 0.05

    def along(self, one: Floats, other: Floats, full: float, block: int) -> Floats:
        """Covariance of widths ``one`` with ``other`` of a dimension with ``full`` channels, noise and `own` aside."""
        a, b = one[:, None], other[None, :]
        trend = 1 + 0.2 * a * b / full**2 + _rounded(a, block) * _rounded(b, block) / full**2
        if self.apart:
            alike = np.mean([(a % q == 0) == (b % q == 0) for q in ALIGNMENTS], axis=0)
            trend = trend * (1 - self.apart * (1 - alike))
        if self.reach:
            trend = trend * (1 - LOCAL + LOCAL * np.exp(-np.abs(np.log(a / b)) / self.reach))
        found: Floats = trend
        return found


LOCAL: Final = 0.05  # share of the covariance that `reach` limits
# Chosen from, one after the other: each step keeps the best of those before.
STEPS: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    tuple(
        {"block": block, "block_out": block, "noise": noise} for block in (1, 8, 16, 32) for noise in (0.02, 0.06, 0.2)
    ),
    tuple({"block_out": block} for block in (1, 8, 16, 32)),
    tuple({"block": block} for block in (1, 8, 16, 32)),
    tuple({"apart": apart, "reach": reach} for apart in (0.0, 0.4, 0.8) for reach in (0.0, 1.0)),
    ({"own": 0.0}, {"own": 0.01}, {"own": 0.1}),
)


def _rounded(width: Floats, block: int) -> Floats:
    found: Floats = np.ceil(width / block) * block
    return found


@dataclass(frozen=True)
class Points:
    """Measurements of one layer: widths and latencies, one entry each.

    ``square`` says that both widths are always the same, or follow from each other. ``doubt`` multiplies the noise of
    single measurements, for those of which something else says that they are disturbed.
    """

    c_in: Floats
    c_out: Floats
    values: Floats
    doubt: Floats
    square: bool

    @classmethod
    def of(cls, c_in: Sequence[int], c_out: Sequence[int], values: Floats, doubt: Floats | None = None) -> Points:
        """Points at these widths."""
        a, b = np.asarray(c_in, dtype=float), np.asarray(c_out, dtype=float)
        square = len(set(zip(c_in, c_out, strict=True))) <= max(len(set(c_in)), 1)
        return cls(a, b, values, np.ones(len(values)) if doubt is None else doubt, square)

    @property
    def full(self) -> tuple[float, float]:
        """The largest widths."""
        return float(self.c_in.max()), float(self.c_out.max())


@dataclass(frozen=True)
class Surface:
    """A layer's latency in the unit of its points, over all widths between the smallest and the largest measured.

    Attributes:
        points: what it was fitted to.
        kernel: as chosen.
        left_out: for each point its prediction from all others.
        spread: by how much errors left out exceed the kernel's own standard deviations.
    """

    points: Points
    kernel: Kernel
    left_out: Floats
    spread: float
    _weights: Floats
    _inverse: Floats

    @property
    def error(self) -> float:
        """Root mean square of the left-out errors over the mean latency; doubtful points count less."""
        mean, weights = float(np.mean(self.points.values)), self.points.doubt**-2
        missed = np.average((self.left_out - self.points.values) ** 2, weights=weights)
        return float(np.sqrt(missed)) / mean if mean else 0.0

    def covers(self, c_in: Sequence[int], c_out: Sequence[int]) -> NDArray[np.bool_]:
        """Whether each pair of widths lies between measured ones: nothing is said beyond them."""
        a, b = np.asarray(c_in, dtype=float), np.asarray(c_out, dtype=float)
        (low_in, high_in), (low_out, high_out) = ((x.min(), x.max()) for x in (self.points.c_in, self.points.c_out))
        found: NDArray[np.bool_] = (low_in <= a) & (a <= high_in) & (low_out <= b) & (b <= high_out)
        return found

    def at(self, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
        """Latency at each pair of widths."""
        return self._scaled(self._covariance(c_in, c_out) @ self._weights)

    def grid(self, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
        """Latency over a grid: (len(c_in), len(c_out))."""
        pairs = np.array([(a, b) for a in c_in for b in c_out]).reshape(-1, 2)
        return self.at(pairs[:, 0], pairs[:, 1]).reshape(len(c_in), len(c_out))  # type: ignore[arg-type]

    def deviation(self, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
        """Standard deviation of `at`, as far as the left-out errors bear the kernel out."""
        across = self._covariance(c_in, c_out)
        here = _prior(self.points, self.kernel, c_in, c_out)
        variance = np.maximum(here - np.einsum("ij,jk,ik->i", across, self._inverse, across), 0.0)
        found: Floats = self.spread * np.sqrt(variance) * float(np.mean(self.points.values))
        return found

    def _covariance(self, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
        return _between(self.points, self.kernel, np.asarray(c_in, dtype=float), np.asarray(c_out, dtype=float))

    def _scaled(self, found: Floats) -> Floats:
        scaled: Floats = np.maximum(found * float(np.mean(self.points.values)), SMALLEST)
        return scaled


def fit(points: Points, kernel: Kernel | None = None) -> Surface:
    """The surface through ``points`` with the kernel whose left-out error is least, or with the one given."""
    if kernel is not None:
        return _fitted(points, kernel)
    best = _fitted(points, Kernel())
    for step in STEPS:
        tried = [_fitted(points, replace(best.kernel, **changes)) for changes in step]
        best = min([best, *tried], key=lambda surface: surface.error)
    return best


def _fitted(points: Points, kernel: Kernel) -> Surface:
    mean = float(np.mean(points.values)) or 1.0
    values = points.values / mean
    noise = kernel.noise * np.maximum(values, SHORTEST) * points.doubt
    covariance = _between(points, kernel, points.c_in, points.c_out)
    inverse = np.asarray(np.linalg.inv(covariance + np.diag(noise**2)), dtype=np.float64)
    weights = inverse @ values
    missed, variance = weights / inverse.diagonal(), 1 / inverse.diagonal()
    left_out = np.maximum(values - missed, 0.0) * mean
    spread = float(np.sqrt(np.median(missed**2 / variance) / 0.455))  # 0.455: median of chi squared, one degree
    return Surface(points, kernel, left_out, max(spread, 0.1), weights, inverse)


def _between(points: Points, kernel: Kernel, c_in: Floats, c_out: Floats) -> Floats:
    """Covariance (len(c_in), len(points)) of the latency at these pairs of widths with that at the points."""
    wide, high = points.full
    found = _unique(kernel, c_in, points.c_in, wide, kernel.block)
    if not points.square:
        found = found * _unique(kernel, c_out, points.c_out, high, kernel.block_out)
    if kernel.own:
        same = (c_in[:, None] == points.c_in) & (c_out[:, None] == points.c_out)
        found = found * (1 + kernel.own * same)
    return found


def _unique(kernel: Kernel, one: Floats, other: Floats, full: float, block: int) -> Floats:
    """`Kernel.along`, worked out once for each width."""
    a, from_a = np.unique(one, return_inverse=True)
    b, from_b = np.unique(other, return_inverse=True)
    found: Floats = kernel.along(a, b, full, block)[np.ix_(from_a, from_b)]
    return found


def _prior(points: Points, kernel: Kernel, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
    """Variance of the latency at each pair of widths before anything was measured."""
    wide, high = points.full
    a, b = np.asarray(c_in, dtype=float), np.asarray(c_out, dtype=float)
    found = _unique(kernel, a, a, wide, kernel.block).diagonal()
    if not points.square:
        found = found * _unique(kernel, b, b, high, kernel.block_out).diagonal()
    variance: Floats = found * (1 + kernel.own)
    return variance
