"""The search as plain numbers: groups with what removing channels hurts, operators with what keeping them costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

Widths = Mapping[str, int]


class Side(Protocol):
    """A width that is a sum over groups: the channels of a concatenation; compares and hashes by value."""

    @property
    def fixed(self) -> int:
        """Channels that never go."""

    @property
    def terms(self) -> tuple[tuple[str, int], ...]:
        """(group name, channels for each one that the group keeps)."""

    def __call__(self, widths: Widths) -> int:
        """The sum at ``widths``."""


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
        sides: what the cost is a function of, where it is one of a few sums of widths; empty where nothing is known.
        by_size: that function: from sizes of the sides, a tuple each, to a cost for each.
    """

    groups: tuple[str, ...]
    cost: Callable[[Widths], float]
    sides: tuple[Side, ...] = ()
    by_size: Callable[[Sequence[tuple[int, ...]]], Sequence[float]] | None = None
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
        ops: all that costs; ``fixed`` and their sum, or the largest of them, must not be above ``limit``.
        fixed: what is spent whatever the widths.
        peak: whether the largest operator counts and not the sum: memory that each gives back to the next.
    """

    name: str
    ops: tuple[Op, ...]
    limit: float
    fixed: float = 0.0
    peak: bool = False

    def spent(self, widths: Widths) -> float:
        """The cost at ``widths``.

        >>> ops = tuple(Op((name,), lambda widths, name=name: 1.0 * widths[name]) for name in "ab")
        >>> Budget("sum", ops, 9.0).spent({"a": 3, "b": 4}), Budget("peak", ops, 9.0, peak=True).spent({"a": 3, "b": 4})
        (7.0, 4.0)
        """
        return self.total([op.at(widths) for op in self.ops])

    def total(self, costs: Sequence[float]) -> float:
        """The cost where the operators cost this, each."""
        return self.fixed + (max(costs, default=0.0) if self.peak else sum(costs))

    def holds(self, widths: Widths) -> bool:
        """Whether the cost at ``widths`` is within the limit."""
        return self.spent(widths) <= self.limit

    @property
    def burdens(self) -> tuple[Op, ...]:
        """Operators whose sum any useful move lessens.

        Of a peak: how far each operator is above the limit. Narrowing one of two equal peaks leaves the peak where it
        was, yet it is a step towards the limit; and an operator below the limit is no burden at all.
        """
        if not self.peak:
            return self.ops

        def above(op: Op, widths: Widths) -> float:
            return max(0.0, self.fixed + op.at(widths) - self.limit)

        return tuple(Op(op.groups, partial(above, op)) for op in self.ops)


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
        bound: no widths within the budgets lose less; None where that was not proven.
    """

    widths: dict[str, int]
    feasible: bool
    lost: float
    spent: dict[str, float]
    bound: float | None = None


def solved(problem: Problem, widths: Widths) -> Solution:
    """What these widths are worth."""
    spent = {budget.name: budget.spent(widths) for budget in problem.budgets}
    feasible = all(budget.holds(widths) for budget in problem.budgets)
    return Solution(dict(widths), feasible, problem.lost(widths), spent)
