"""Exemplars of the dense network's filters (Lin et al., "EPruner", IEEE TNNLS 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprune.allocation.base import HALVINGS, Kept, Situation
from hwprune.allocation.epruner import FEWEST, Floats, exemplars
from hwprune.errors import check_options
from hwprune.graph.makers import makers, squared_distances
from hwprune.search.problem import Widths


@dataclass(frozen=True)
class Exemplar:
    """Every group begins with exemplars of all its filters, found by affinity propagation.

    As in EPruner (see `hwprune.allocation.epruner`), but for widths that are known: beta is bisected for each group
    until there are as many exemplars. Where no beta gives just so many, the next more are taken and those that stand
    for the fewest channels go.

    Attributes:
        damping, iterations: of affinity propagation.
    """

    damping: float = 0.5
    iterations: int = 200
    name: str = "exemplar"

    def __post_init__(self) -> None:
        check_options(
            "inheritance",
            self,
            damping=(0.5 <= self.damping < 1, "from 0.5 to below 1"),
            iterations=(self.iterations > 0, "at least 1"),
        )

    def kept(self, situation: Situation, widths: Widths) -> Kept:
        """See `Inheritance.kept`; reads no data."""
        pieces = makers(situation.model, situation.network)
        found: dict[str, list[int]] = {}
        for name, width in widths.items():
            full = situation.network.group(name).width
            found[name] = (
                list(range(full)) if width == full else self._of(-squared_distances(pieces[name], full), width)
            )
        return found

    def _of(self, similarities: Floats, width: int) -> list[int]:
        """So many exemplars."""
        low, high, best = FEWEST, 1.0, list(range(len(similarities)))
        for _ in range(HALVINGS):
            middle = (low * high) ** 0.5
            own = exemplars(similarities, 1 / middle - 1, damping=self.damping, iterations=self.iterations)
            if len(own) < width:
                low = middle
                continue
            high = middle
            best = own if len(own) < len(best) else best
            if len(own) == width:
                break
        return _most_telling(similarities, best, width)


def _most_telling(similarities: Floats, chosen: list[int], width: int) -> list[int]:
    """Of these exemplars those that stand for the most channels."""
    left = list(chosen)
    while len(left) > width:
        nearest = np.argmax(similarities[:, left], axis=1)
        standing = np.bincount(nearest, minlength=len(left))
        left.pop(int(standing.argmin()))
    return sorted(left)
