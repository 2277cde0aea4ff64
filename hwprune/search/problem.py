"""The search as plain numbers: groups with what removing channels hurts, operators with what keeping them costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Widths = Mapping[str, int]


@dataclass(frozen=True)
class Group:
    """Channels that may go.

    Attributes:
        name: of the channel group.
        choices: widths that it may keep, ascending; the last is the present width.
        loss: importance lost at each choice; 0 at the last.
    """

    name: str
    choices: tuple[int, ...]
    loss: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.choices) != len(self.loss) or list(self.choices) != sorted(set(self.choices)):
            raise ValueError(f"group {self.name}: {len(self.choices)} ascending choices need as many losses")


@dataclass(frozen=True)
class Op:
    """Something whose cost depends on the widths of a few groups (both sides of a channel: inputs and outputs).

    Attributes:
        groups: names of the groups that its cost depends on.
        cost: from the widths of at least those groups to a number.
    """

    groups: tuple[str, ...]
    cost: Callable[[Widths], float]
    known: dict[tuple[int, ...], float] = field(default_factory=dict, repr=False, compare=False)

    def at(self, widths: Widths) -> float:
        """Cost at ``widths``, remembered."""
        key = tuple([widths[name] for name in self.groups])
        value = self.known.get(key)
        if value is None:
            value = self.known[key] = self.cost(widths)
        return value


@dataclass(frozen=True)
class Budget:
    """What the network may cost at most.

    Attributes:
        name: for messages ("latency").
        ops: all that costs; their sum and ``fixed`` must not be above ``limit``.
        fixed: what is spent whatever the widths.
    """

    name: str
    ops: tuple[Op, ...]
    limit: float
    fixed: float = 0.0

    def spent(self, widths: Widths) -> float:
        """The cost at ``widths``."""
        return self.fixed + sum(op.at(widths) for op in self.ops)


@dataclass(frozen=True)
class Problem:
    """Lose as little importance as possible while every budget holds.

    Attributes:
        groups: what may be narrowed.
        budgets: what must hold.
        price: what importance is divided by when moves are compared; empty means the number of channels.
    """

    groups: tuple[Group, ...]
    budgets: tuple[Budget, ...]
    price: tuple[Op, ...] = ()

    def lost(self, widths: Widths) -> float:
        """Importance lost at ``widths``."""
        return sum(group.loss[group.choices.index(widths[group.name])] for group in self.groups)


@dataclass(frozen=True)
class Solution:
    """What a search found.

    Attributes:
        widths: of every group of the problem.
        feasible: whether all budgets hold; if not, ``widths`` are the narrowest that the moves could reach.
        lost: importance lost.
        spent: of every budget, by name.
    """

    widths: dict[str, int]
    feasible: bool
    lost: float
    spent: dict[str, float]
