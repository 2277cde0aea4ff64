"""What a layer takes more inside a large network than inside a small one.

In a small network a layer's weights and inputs are still in a cache when it comes to run again; in a large one the
other layers have pushed them out. So a network's latency grows faster than the sum of what its layers take:

    latency = full * (sum / full) ** exponent

with an exponent near 1 where arithmetic rules and above where memory does: RegNetX-400MF and MobileNetV2 on two shared
cores showed 1.18 and 1.16 (`crowding` in what `benchmarks/prediction_error.py` records). Without it both were predicted
8 % too slow where they are narrow and 8 % too fast where they are wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST: Final = 0.8  # exponents that can be believed
MOST: Final = 1.3
SMALLEST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Crowding:
    """A network's latency from the sum of what its layers take; the default is that sum.

    Attributes:
        full: the latency at which the sum is meant as it is, that of the widest network.
        exponent: 1 for a plain sum.
    """

    full: float = 1.0
    exponent: float = 1.0

    def latency(self, total: float) -> float:
        """Latency of a network whose layers sum to ``total``.

        >>> Crowding(10.0, 2.0).latency(5.0), Crowding(10.0, 2.0).total(2.5)
        (2.5, 5.0)
        """
        return float(self.full * (max(total, SMALLEST) / self.full) ** self.exponent)

    def total(self, latency: float) -> float:
        """What the layers of a network of this latency sum to: the inverse of `latency`."""
        return float(self.full * (max(latency, SMALLEST) / self.full) ** (1 / self.exponent))

    def slope(self, total: float) -> float:
        """By how much the latency grows with the sum, at ``total``."""
        return self.exponent * self.latency(total) / max(total, SMALLEST)

    def refitted(self, found: Floats, expected: Floats, weights: Floats) -> Crowding:
        """With the exponent that makes the sums ``expected`` grow like those that were ``found`` with the present one.

        A weighted line through their logarithms. Its slope counts as far as it is more than chance: it is drawn
        towards 1 by the share of its square that its standard error explains.

        >>> sums = np.array([1.0, 2.0, 4.0, 8.0])
        >>> Crowding(8.0).refitted(sums**1.1, sums, np.ones(4)).exponent
        1.1
        """
        x, y = np.log(expected), np.log(found)
        x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
        spread = float(np.sum(weights * x * x))
        if spread < SMALLEST:
            return self
        slope = float(np.sum(weights * x * y)) / spread
        error = float(np.sum(weights * (y - slope * x) ** 2)) / (spread * max(len(x) - 2, 1))
        off = slope - 1
        kept = max(0.0, 1 - error / off**2) if off else 0.0
        exponent = float(np.clip(self.exponent * (1 + kept * off), LEAST, MOST))
        return Crowding(self.full, round(exponent, 6))
