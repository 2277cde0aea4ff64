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

    Unions are kept as index arrays and solved once, so a network's ten thousand channels cost one sparse pass. Most
    unite a whole dimension with another (a convolution's output with the norm's scale): those are kept as such.
    """

    size: int = 0
    left: list[Labels] = field(default_factory=list)
    right: list[Labels] = field(default_factory=list)
    whole: list[tuple[Labels, Labels]] = field(default_factory=list)
    made: dict[int, Labels] = field(default_factory=dict)
    pins: list[tuple[Labels, str]] = field(default_factory=list)
    hidden: list[Labels] = field(default_factory=list)
    soft: dict[int, Labels] = field(default_factory=dict)

    def fresh(self, count: int) -> Labels:
        """``count`` labels that nobody else has."""
        self.size += count
        labels = np.arange(self.size - count, self.size, dtype=np.int64)
        self.made[id(labels)] = labels  # an id needs its array alive
        return labels

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
        first, second = self._all_of(a), self._all_of(b)
        if first is not None and second is not None and a.shape == b.shape:
            if first is not second:
                self.whole.append((first, second))
            return
        a, b = np.broadcast_arrays(a, b)
        self.left.append(a.ravel())
        self.right.append(b.ravel())

    def _all_of(self, labels: Labels) -> Labels | None:
        """The fresh labels that these are all of, in order; None for others."""
        if id(labels) in self.made:
            return labels
        whole = self.made.get(id(labels.base))
        if whole is not None and labels.size == whole.size and labels.flags.c_contiguous:
            return whole
        return None

    def pin(self, labels: Labels, reason: str) -> None:
        """These channels stay, and the user is told why."""
        self.pins.append((labels.ravel(), reason))

    def hide(self, labels: Labels) -> None:
        """These are no channels at all (kernel positions): they stay and nobody asks why."""
        self.hidden.append(labels.ravel())

    def roots(self, firsts: Labels | None = None) -> Labels:
        """Per label the number of its coupled channel; the same number for all labels united with it. (size,)"""
        firsts = self.firsts() if firsts is None else firsts
        is_first = firsts == np.arange(self.size)
        node: Labels = (np.cumsum(is_first) - 1)[firsts]
        if not self.left:
            return node
        rows, columns = node[np.concatenate(self.left)], node[np.concatenate(self.right)]
        count = int(np.count_nonzero(is_first))
        links = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
        _, roots = connected_components(links, directed=False)
        found: Labels = roots.astype(np.int64)[node]
        return found

    def firsts(self) -> Labels:
        """Per label the first of those that it was united with as a part of its whole dimension. (size,)"""
        above: dict[int, int] = {}

        def top(start: int) -> int:
            while start in above:
                start = above[start]
            return start

        sizes = dict[int, int]()
        for a, b in self.whole:
            low, high = sorted((int(a[0]), int(b[0])))
            sizes[low] = sizes[high] = len(a)
            low, high = sorted((top(low), top(high)))
            if low != high:
                above[high] = low
        firsts = np.arange(self.size, dtype=np.int64)
        for start, size in sizes.items():
            if (first := top(start)) != start:
                firsts[start : start + size] = np.arange(first, first + size)
        return firsts
