"""Channel labels: one number per index of every dimension, united where two must live and die together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = NDArray[np.int64]
Dims = tuple[Labels | None, ...]
"""Labels of one tensor: per dimension an array as long as the dimension, or None for batch and space."""


@dataclass
class Book:
    """All labels of one analysis, what has been united, and what is pinned and why.

    Unions are kept as index arrays and solved once, so a network's ten thousand channels cost one sparse pass.
    """

    size: int = 0
    left: list[Labels] = field(default_factory=list)
    right: list[Labels] = field(default_factory=list)
    pins: list[tuple[Labels, str]] = field(default_factory=list)
    hidden: list[Labels] = field(default_factory=list)
    soft: dict[int, Labels] = field(default_factory=dict)

    def fresh(self, count: int) -> Labels:
        """``count`` labels that nobody else has."""
        self.size += count
        return np.arange(self.size - count, self.size, dtype=np.int64)

    def copies(self, count: int) -> Labels:
        """Labels for ``count`` equal values (a broadcast, a tensor of zeros): channels only if they meet channels."""
        made = self.fresh(count)
        self.soft[id(made)] = made
        return made

    def is_soft(self, labels: Labels) -> bool:
        """Whether these are `copies` that have met nothing yet."""
        return id(labels) in self.soft

    def unite(self, a: Labels, b: Labels) -> None:
        """Index by index, ``a`` and ``b`` share one fate. Shapes broadcast."""
        a, b = np.broadcast_arrays(a, b)
        self.left.append(a.ravel())
        self.right.append(b.ravel())

    def pin(self, labels: Labels, reason: str) -> None:
        """These channels stay, and the user is told why."""
        self.pins.append((labels.ravel(), reason))

    def hide(self, labels: Labels) -> None:
        """These are no channels at all (kernel positions): they stay and nobody asks why."""
        self.hidden.append(labels.ravel())

    def roots(self) -> Labels:
        """Per label the number of its coupled channel; the same number for all labels united with it. (size,)"""
        if not self.left:
            return np.arange(self.size, dtype=np.int64)
        rows, columns = np.concatenate(self.left), np.concatenate(self.right)
        links = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(self.size, self.size))
        _, roots = connected_components(links, directed=False)
        return roots.astype(np.int64)
