"""Costs of many operators at widths of which one changes at a time.

A concatenation may read a hundred groups. What it costs is a function of their sum, and the sum of one group's change
is known without the others: that is what makes a search over hundreds of operators fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hwprune.search.problem import Op, Side

Sizes = tuple[int, ...]  # of the sides of an operator


@dataclass(frozen=True, slots=True)
class Touch:
    """An operator that a group touches.

    Attributes:
        place: of the operator in the tally.
        counts: channels on each of its sides for one that the group keeps; empty where the sides are not known.
    """

    place: int
    counts: tuple[int, ...]


class Tally:
    """Operators, and what each costs at the present widths.

    Attributes:
        widths: of every group, the widest at first; changed by `set` alone.
        costs: of the operators at ``widths``.
    """

    def __init__(self, ops: Iterable[Op], choices: Mapping[str, Sequence[int]]) -> None:
        self._ops = list({id(op): op for op in ops}.values())
        self._place = {id(op): place for place, op in enumerate(self._ops)}
        self._choices = choices
        self.widths = {group: widths[-1] for group, widths in choices.items()}
        self._sizes: list[Sizes] = [tuple([side(self.widths) for side in _sides(op)]) for op in self._ops]
        self._known: list[dict[Sizes, float]] = [{} for _ in self._ops]
        self.costs = [op.at(self.widths) for op in self._ops]
        self._touched = self.touching(self._ops)

    def places(self, ops: Iterable[Op]) -> list[int]:
        """Where in `costs` these operators are."""
        return [self._place[id(op)] for op in ops]

    def touching(self, ops: Iterable[Op]) -> dict[str, list[Touch]]:
        """Of these operators, those that each group touches."""
        found: dict[str, list[Touch]] = {name: [] for name in self.widths}
        for op in ops:
            for name in op.groups:
                if name in found:
                    counts = [sum(count for group, count in side.terms if group == name) for side in _sides(op)]
                    found[name].append(Touch(self._place[id(op)], tuple(counts)))
        return found

    def change(self, touches: Sequence[Touch], group: str, width: int) -> float:
        """What the cost of ``touches`` falls by where ``group`` goes to another width (negative: it rises)."""
        before = sum([self.costs[touch.place] for touch in touches])
        return before - sum([self._cost(touch, group, width) for touch in touches])

    def set(self, group: str, width: int) -> None:
        """Give a group another width."""
        step = width - self.widths[group]
        for touch in self._touched[group]:
            self.costs[touch.place] = self._cost(touch, group, width)
            self._sizes[touch.place] = _moved(self._sizes[touch.place], touch.counts, step)
        self.widths[group] = width

    def _cost(self, touch: Touch, group: str, width: int) -> float:
        """The cost of an operator where the group goes to another width."""
        op, now = self._ops[touch.place], self.widths[group]
        if op.by_size is None:
            self.widths[group] = width
            cost = op.at(self.widths)
            self.widths[group] = now
            return cost
        before, known = self._sizes[touch.place], self._known[touch.place]
        sizes = _moved(before, touch.counts, width - now)
        if sizes not in known:  # asking for all choices of the group at once is fast
            every = [_moved(before, touch.counts, choice - now) for choice in self._choices[group]]
            known.update(zip(every, map(float, op.by_size(every)), strict=True))
        return known[sizes]


def _sides(op: Op) -> tuple[Side, ...]:
    """Sums of widths that an operator's cost is known by."""
    return () if op.by_size is None else op.sides


def _moved(sizes: Sizes, counts: tuple[int, ...], step: int) -> Sizes:
    if len(counts) == 2:  # nearly all, and this is the innermost loop
        return sizes[0] + counts[0] * step, sizes[1] + counts[1] * step
    return tuple([size + count * step for size, count in zip(sizes, counts, strict=True)])
