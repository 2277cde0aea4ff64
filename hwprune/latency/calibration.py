"""What a sum of layers leaves out, as three non-negative numbers fitted on whole networks that were measured.

    latency = constant + main * (convolutions and linear layers) + other * (everything else)

``constant`` is what a run costs whatever its widths, ``main`` warm against cold caches, ``other`` what fusion saves:
an addition or an activation between two others costs less in a network than alone, or nothing. The fit is linear least
squares on relative errors, robust against outliers (Huber), and held to a prior, so that one measurement only scales
and more of them gradually tell the three apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwprune.layer import Kind

MAIN_KINDS: Final[frozenset[Kind]] = frozenset({"conv", "linear"})
FEWEST_FOR_AFFINE: Final = 3
NOISE: Final = 0.01  # relative, of one measurement
# Standard deviations of the prior: of the slopes relative to the common scale, of the constant relative to the latency.
MAIN_SPREAD: Final = 0.5
OTHER_SPREAD: Final = 0.5
CONSTANT_SPREAD: Final = 0.3
HUBER: Final = 1.345  # times sigma: 95 % efficient for normal errors
ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """The three coefficients; the default is "layers simply add up".

    Attributes:
        constant_ms: cost of a run whatever its widths.
        main: factor on convolutions and linear layers.
        other: factor on all other layers.
    """

    constant_ms: float = 0.0
    main: float = 1.0
    other: float = 1.0

    def factor(self, kind: Kind) -> float:
        """What a layer's latency is multiplied by."""
        return self.main if kind in MAIN_KINDS else self.other

    def __call__(self, main_ms: float, other_ms: float) -> float:
        """Latency in ms of a network from its two sums."""
        return self.constant_ms + self.main * main_ms + self.other * other_ms


def fit(main_ms: Sequence[float], other_ms: Sequence[float], measured_ms: Sequence[float]) -> Calibration:
    """The calibration of networks whose layers sum to ``main_ms`` and ``other_ms``, from their measured latencies.

    Without measurements the identity; up to two give one common scale, from three on all coefficients are fitted.
    """
    if not measured_ms:
        return Calibration()
    main, other, measured = (np.asarray(v, dtype=float) for v in (main_ms, other_ms, measured_ms))
    scale = float(np.median(measured / (main + other)))
    if measured.size < FEWEST_FOR_AFFINE:
        return Calibration(0.0, scale, scale)
    typical = float(np.median(measured))
    # Unknowns in units of what is expected: (main / scale, other / scale, constant / typical).
    features = np.stack([scale * main, scale * other, np.full_like(measured, typical)], axis=1) / measured[:, None]
    found = _robust(features)
    return Calibration(float(found[2] * typical), float(found[0] * scale), float(found[1] * scale))


def _robust(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative x for ``features @ x = 1`` in the Huber sense, near the prior (1, 1, 0)."""
    prior = np.array([1.0, 1.0, 0.0])
    tight = NOISE / np.array([MAIN_SPREAD, OTHER_SPREAD, CONSTANT_SPREAD])
    weights = np.ones(len(features))
    x = prior
    for _ in range(ROUNDS):
        rows = np.concatenate([features * weights[:, None], np.diag(tight)])
        x, _ = nnls(rows, np.concatenate([weights, tight * prior]))
        residuals = np.abs(features @ x - 1)
        sigma = max(NOISE, 1.4826 * float(np.median(residuals)))
        weights = np.sqrt(np.minimum(1.0, HUBER * sigma / np.maximum(residuals, 1e-12)))
    return x
