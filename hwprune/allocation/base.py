"""What every allocator offers, and how ratios are scaled until they fit the budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.network import Network
from hwprune.search.problem import Problem, Widths

Kept = Mapping[str, Sequence[int]]
"""Which channels stay, by name of the group, as indices into the present ones, ascending."""

HALVINGS = 24  # of the range of a scale


@dataclass(frozen=True, eq=False)
class Situation:
    """Where an allocator decides.

    Attributes:
        model: the network with the channels that are left.
        network: its analysis.
        problem: the widths that each group may have, and the budgets that must hold: measured latency among them.
        scores: importance of the channels, by group.
        batches: (inputs, labels) of training data.
        judge: accuracy of the network with these channels on held-back training data, batch norm re-estimated.
        seed: of everything random.
    """

    model: nn.Module
    network: Network
    problem: Problem
    scores: Mapping[str, NDArray[np.float64]]
    batches: Sequence[tuple[Tensor, Tensor]]
    judge: Callable[[Kept], float]
    seed: int

    def best(self, widths: Widths) -> Kept:
        """The most important channels at these widths."""
        return {name: best_of(self.scores, name, width) for name, width in widths.items()}

    def holds(self, widths: Widths) -> bool:
        """Whether all budgets hold."""
        return all(budget.holds(widths) for budget in self.problem.budgets)

    @property
    def narrowest(self) -> dict[str, int]:
        """Every group at its least width."""
        return {group.name: group.choices[0] for group in self.problem.groups}

    @property
    def open(self) -> tuple[str, ...]:
        """Groups that have a choice."""
        return tuple(group.name for group in self.problem.groups if len(group.choices) > 1)

    def nearest(self, shares: Mapping[str, float]) -> dict[str, int]:
        """For each group the choice that is nearest to that share of its present width; groups without one stay."""
        found = {}
        for group in self.problem.groups:
            wanted = min(1.0, shares.get(group.name, 1.0)) * group.choices[-1]
            found[group.name] = min(group.choices, key=lambda width: (abs(width - wanted), width))
        return found

    def fitted(self, ratios: Mapping[str, float]) -> dict[str, int]:
        """The widths nearest to a multiple of these ratios, by the largest multiple that the budgets allow.

        Found by bisection. Latency has steps that fall where widths grow, so the largest multiple that was seen to hold
        counts. Where none does, the narrowest widths.
        """
        largest = max((1 / ratio for ratio in ratios.values() if ratio > 0), default=1.0)

        def at(scale: float) -> dict[str, int]:
            return self.nearest({name: scale * ratio for name, ratio in ratios.items()})

        return bisected(at, self.holds, largest) or self.narrowest


def bisected(at: Callable[[float], dict[str, int]], holds: Callable[[Widths], bool], high: float) -> dict[str, int]:
    """Widths at the largest scale between 0 and ``high`` that bisection sees hold; empty where none did."""
    if holds(widest := at(high)):
        return widest
    low, found = 0.0, at(0.0) if holds(at(0.0)) else {}
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        widths = at(middle)
        if holds(widths):
            low, found = middle, widths
        else:
            high = middle
    return found


def best_of(scores: Mapping[str, NDArray[np.float64]], name: str, width: int) -> list[int]:
    """Indices of a group's most important channels, ascending; a group without scores keeps its first ones."""
    if name not in scores:
        return list(range(width))
    return sorted(np.argsort(-scores[name], kind="stable")[:width].tolist())


class Allocator(Protocol):
    """A way to say how many channels each group keeps, and which."""

    @property
    def name(self) -> str: ...

    def kept(self, situation: Situation) -> Kept:
        """Channels that stay in every group of the problem, of one of its choices each.

        Where the budgets cannot hold, the narrowest.
        """
