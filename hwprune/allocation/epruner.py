"""Exemplar filters (Lin et al., "Network Pruning using Adaptive Exemplar Filters", IEEE TNNLS 2022)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwprune.allocation.base import HALVINGS, Kept, Situation, best_of
from hwprune.errors import check_options
from hwprune.graph.makers import makers, squared_distances

Floats = NDArray[np.float64]
FEWEST = 1e-3  # of the scale: a thousand times the median distance as preference leaves one exemplar in any group


@dataclass(frozen=True)
class EPruner:
    """A group keeps the filters that affinity propagation finds as exemplars of the others.

    The similarity of two channels is minus the squared distance of the filters that make them, and the preference of
    each to be an exemplar is beta times the median similarity to it, as in the authors' code: so one number beta says
    how many channels stay in all groups together. It is bisected until the budgets hold. Where a group's choices do not
    have as many channels as exemplars were found, the next fewer ones stay, by importance. Norms are inherited, which
    the authors' code does not. Affinity propagation is scikit-learn's (Frey and Dueck 2007).

    Filters of many weights lie nearly equally far from each other, and of equally far ones all are exemplars below
    beta = 1 and one is above it. So the number falls steeply, at another beta in every group: where a deep target asks
    for it, some groups are down to their narrowest while others are whole. ResNet-20 ended at 49 ± 4 % of top-1
    and 49 % of the latency, where importance over latency ends at 79 % and 59 % for the same target of 60 %
    (`benchmarks/methods.py`, three seeds).

    Attributes:
        damping: of its messages.
        iterations: at most.
    """

    damping: float = 0.5
    iterations: int = 200
    name: str = "epruner"

    def __post_init__(self) -> None:
        check_options(
            "allocation",
            self,
            damping=(0.5 <= self.damping < 1, "from 0.5 to below 1"),
            iterations=(self.iterations > 0, "at least 1"),
        )

    def kept(self, situation: Situation) -> Kept:
        """See `Allocator.kept`."""
        search = _Exemplars(self, situation)
        if search.fits(1.0):
            return search.kept(1.0)
        low, high, best = FEWEST, 1.0, 0.0
        for _ in range(HALVINGS):
            middle = (low * high) ** 0.5  # preferences act by their order of magnitude
            if search.fits(middle):
                low = best = middle
            else:
                high = middle
        return search.kept(best) if best else situation.best(situation.narrowest)


@dataclass(eq=False)
class _Exemplars:
    """The exemplars of all groups at a scale: beta is 1 / scale - 1, so that at 1 every channel is one."""

    options: EPruner
    situation: Situation
    similarities: Mapping[str, Floats] = field(init=False)
    found: dict[tuple[str, float], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pieces = makers(self.situation.model, self.situation.network)
        self.similarities = {
            group.name: -squared_distances(pieces[group.name], group.width)
            for group in self.situation.network.free
            if group.name in self.situation.open
        }

    def fits(self, scale: float) -> bool:
        return self.situation.holds({name: len(kept) for name, kept in self.kept(scale).items()})

    def kept(self, scale: float) -> Kept:
        return {group.name: self._of(group.name, group.choices, scale) for group in self.situation.problem.groups}

    def _of(self, name: str, choices: tuple[int, ...], scale: float) -> list[int]:
        if name not in self.similarities:
            return list(range(choices[-1]))
        key = (name, scale)
        if key not in self.found:
            options = self.options
            self.found[key] = exemplars(
                self.similarities[name], 1 / scale - 1, damping=options.damping, iterations=options.iterations
            )
        own, scores = self.found[key], self.situation.scores
        width = max((choice for choice in choices if choice <= len(own)), default=choices[0])
        if len(own) < width:  # fewer than the group may have
            others = [index for index in best_of(scores, name, choices[-1]) if index not in own]
            ranked = sorted(others, key=lambda index: -scores[name][index])
            return sorted([*own, *ranked[: width - len(own)]])
        return sorted(sorted(own, key=lambda index: -scores[name][index])[:width])


def exemplars(similarities: Floats, beta: float, *, damping: float, iterations: int) -> list[int]:
    """Indices of the exemplars, ascending.

    Where the messages do not settle, they are damped more; where they do not then either, all are exemplars.
    """
    from sklearn.cluster import AffinityPropagation
    from sklearn.exceptions import ConvergenceWarning

    if beta == 0:
        return list(range(len(similarities)))
    preference = beta * np.median(similarities, axis=0)
    for damped in (damping, 0.9):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = AffinityPropagation(
                affinity="precomputed", preference=preference, damping=damped, max_iter=iterations, random_state=0
            ).fit(similarities)
        if len(found.cluster_centers_indices_):
            return sorted(found.cluster_centers_indices_.tolist())
    return list(range(len(similarities)))
