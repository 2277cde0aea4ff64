"""Greedy search: always the move that loses the least importance per cost saved, seeing past steps in the cost.

A move takes one group to *any* narrower choice, so a saving that only appears sixteen channels on is seen at once.
The saving counts every operator that the group touches: its producers' outputs and its consumers' inputs. Any number
of budgets may be open, sums (latency, parameters) and peaks (memory); a move counts if it relieves one of them. When
all hold, whatever can be widened again within them is given back, the most important first. At last single groups are
narrowed a little further where another one can then be widened by more importance, and groups that make up much of
what is lost are kept wider where the others then pay less for it: the last of the moves down may have taken a whole
block of a wide group where a few small ones would have done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Final

from hwprune.search.problem import Group, Problem, Solution
from hwprune.search.tally import Tally, Touch

SWAPPED: Final = (1, 2, 4)  # choices that a group is narrowed by so that another can be widened
WEIGHTY: Final = 0.05  # share of what is lost from which on a group is tried wider, which takes a search each
PAYS: Final = 1e-3  # and by which share less must then be lost
MOST_PASSES: Final = 8
MOST_DETOURS: Final = 3  # passes of it


@dataclass(frozen=True, slots=True)
class _Move:
    group: Group
    position: int  # of the narrower choice
    score: float  # importance lost per cost saved; the least goes first
    lost: float
    channels: int

    @property
    def rank(self) -> tuple[float, float, int, str]:
        return self.score, self.lost, self.channels, self.group.name


_Moves = dict[str, _Move | None]  # by group; None where no move helps


class _Search:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.position = {group.name: len(group.choices) - 1 for group in problem.groups}
        burdens = [budget.burdens for budget in problem.budgets]
        every = chain(problem.price, *burdens, *(budget.ops for budget in problem.budgets))
        self.tally = Tally(every, {group.name: group.choices for group in problem.groups})
        self.widths = self.tally.widths
        self.price = self.tally.touching(problem.price)
        self.burdens = [self.tally.touching(ops) for ops in burdens]
        self.places = [self.tally.places(budget.ops) for budget in problem.budgets]
        self.spent = self._spent()
        # A move of one group changes the savings of every group that shares an operator with it.
        self.near = {group.name: {group.name} for group in problem.groups}
        for names in {op.groups for op in chain(problem.price, *burdens)}:
            known = [name for name in names if name in self.near]
            for name in known:
                self.near[name].update(known)

    def _spent(self) -> list[float]:
        # Summed anew after every move: differences would add up their roundings.
        costs = ([self.tally.costs[place] for place in places] for places in self.places)
        return [budget.total(own) for budget, own in zip(self.problem.budgets, costs, strict=True)]

    def change(self, touches: Mapping[str, Sequence[Touch]], group: Group, position: int) -> float:
        """What the cost of ``touches`` falls by when ``group`` goes to another choice (negative: it rises)."""
        return self.tally.change(touches[group.name], group.name, group.choices[position])

    def short(self) -> list[int]:
        """Budgets that do not hold yet."""
        return [i for i, budget in enumerate(self.problem.budgets) if self.spent[i] > budget.limit]

    def best(self, group: Group, short: Sequence[int]) -> _Move | None:
        """The group's best move; one that relieves none of the ``short`` budgets is none.

        A move that relieves one but saves nothing of the price comes after all that do.
        """
        found: _Move | None = None
        now = self.position[group.name]
        for position in range(now):
            if all(self.change(self.burdens[i], group, position) <= 0 for i in short):
                continue
            channels = group.choices[now] - group.choices[position]
            saved = self.change(self.price, group, position) if self.problem.price else float(channels)
            lost = group.loss[position] - group.loss[now]
            move = _Move(group, position, lost / saved if saved > 0 else inf, lost, channels)
            if found is None or move.rank < found.rank:
                found = move
        return found

    def apply(self, group: Group, position: int) -> None:
        self._place(group, position)
        self.spent = self._spent()

    def _place(self, group: Group, position: int) -> None:
        self.position[group.name] = position
        self.tally.set(group.name, group.choices[position])

    def narrow(self, held: str = "", known: _Moves | None = None) -> None:
        """Moves until every budget holds or no move helps.

        The group ``held`` stays as it is; ``known`` are best moves of before it got there.
        """
        groups = [group for group in self.problem.groups if group.name != held]
        moves = dict(known or {})
        stale = self.near[held] if known else {group.name for group in groups}
        open_budgets = self.short()
        while open_budgets:
            for group in groups:
                if group.name in stale:
                    moves[group.name] = self.best(group, open_budgets)
            found = [move for name, move in moves.items() if move is not None and name != held]
            move = min(found, key=lambda move: move.rank, default=None)
            if move is None:
                if not held:
                    self._narrow_all()
                return
            self.apply(move.group, move.position)
            stale = self.near[move.group.name]
            if self.short() != open_budgets:  # a budget that has closed changes what counts as a help
                open_budgets, stale = self.short(), {group.name for group in groups}

    def _narrow_all(self) -> None:
        """Every group at its narrowest, where no single group helps any more but all of them together do."""
        narrowest = {group.name: group.choices[0] for group in self.problem.groups}
        if all(budget.holds(narrowest) for budget in self.problem.budgets):
            for group in self.problem.groups:
                self.apply(group, 0)

    def give_back(self) -> None:
        """Widen again what fits, the largest importance first."""
        barred: set[tuple[str, int]] = set()
        while True:
            options = []
            for group in self.problem.groups:
                now = self.position[group.name]
                for position in range(now + 1, len(group.choices)):
                    regained = group.loss[now] - group.loss[position]
                    known = (group.name, position) in barred
                    if regained > 0 and not known and self.fits(group, position):
                        options.append((regained, group.name, group, position))
            if not options:
                return
            _, name, group, position = max(options, key=lambda option: option[:2])
            before = self.position[name]
            self.apply(group, position)
            if self.short():  # by a rounding: `fits` counts differences
                self.apply(group, before)
                barred.add((name, position))

    def swap(self) -> None:
        """Narrow one group and widen another, while what comes back is worth more than what goes."""
        for _ in range(MOST_PASSES):
            swapped = [self._swapped(group, steps) for group in self.problem.groups for steps in SWAPPED]
            if not any(swapped):
                return
            self.give_back()

    def _swapped(self, group: Group, steps: int) -> bool:
        """Whether narrowing the group by so many choices has paid; it stays as it was where it does not."""
        now = self.position[group.name]
        if now < steps:
            return False
        self.apply(group, now - steps)
        if not self.short():  # a narrower group can cost more
            found = self._widening(group, group.loss[now - steps] - group.loss[now])
            if found is not None:
                other, position = found
                before = self.position[other.name]
                self.apply(other, position)
                if not self.short():
                    return True
                self.apply(other, before)
        self.apply(group, now)
        return False

    def _widening(self, narrowed: Group, least: float) -> tuple[Group, int] | None:
        """The other group and its wider choice that fit and bring back most, and more than ``least``."""
        found = None
        for group in self.problem.groups:
            now = self.position[group.name]
            for position in range(len(group.choices) - 1, now, -1):
                regained = group.loss[now] - group.loss[position]
                if group is narrowed or regained <= least:
                    break
                if self.fits(group, position):
                    found, least = (group, position), regained
                    break
        return found

    def detour(self) -> None:
        """Keep a group wider and let the others pay for it, while that loses less."""
        for _ in range(MOST_DETOURS):
            known: dict[tuple[int, ...], _Moves] = {}
            paid = False
            for group in self._weighty():
                if self._detoured(group, known):
                    paid, known = True, {}
            if not paid:
                return
            self.swap()

    def _weighty(self) -> list[Group]:
        """Groups whose share of what is lost makes one choice of theirs matter, the largest first."""
        lost = {group.name: group.loss[self.position[group.name]] for group in self.problem.groups}
        least = WEIGHTY * sum(lost.values())
        found = [group for group in self.problem.groups if lost[group.name] > 0 and lost[group.name] >= least]
        return sorted(found, key=lambda group: -lost[group.name])

    def _detoured(self, group: Group, known: dict[tuple[int, ...], _Moves]) -> bool:
        """Whether keeping the group wider has paid; everything stays as it was where it does not.

        ``known`` remembers the best moves from here for each set of budgets that do not hold.
        """
        before, lost = dict(self.position), self.problem.lost(self.widths)
        now, last = before[group.name], len(group.choices) - 1
        for position in sorted({min(now + steps, last) for steps in (*SWAPPED, last)} - {now}):
            self.apply(group, position)
            short = tuple(self.short())
            if short not in known:
                self._restore(before)
                known[short] = {one.name: self.best(one, short) for one in self.problem.groups}
                self.apply(group, position)
            self.narrow(group.name, known[short])
            if not self.short():
                self.give_back()
                if self.problem.lost(self.widths) < (1 - PAYS) * lost:
                    return True
            self._restore(before)
        return False

    def _restore(self, position: Mapping[str, int]) -> None:
        for group in self.problem.groups:
            if self.position[group.name] != position[group.name]:
                self._place(group, position[group.name])
        self.spent = self._spent()

    def fits(self, group: Group, position: int) -> bool:
        """Whether every budget, all of which hold now, still holds after the move."""
        return all(
            (0.0 if budget.peak else self.spent[i]) - self.change(self.burdens[i], group, position)
            <= (0.0 if budget.peak else budget.limit)
            for i, budget in enumerate(self.problem.budgets)
        )


def greedy(problem: Problem) -> Solution:
    """Widths that meet every budget of ``problem`` at a small loss of importance.

    Where costs grow with the widths, it meets them whenever any choice of widths does. A solution that is not
    feasible says so and has the narrowest widths that the moves could reach.
    """
    search = _Search(problem)
    search.narrow()
    feasible = not search.short()
    if feasible:
        search.give_back()
        search.swap()
        search.detour()
    spent = {budget.name: budget.spent(search.widths) for budget in problem.budgets}
    return Solution(dict(search.widths), feasible, problem.lost(search.widths), spent)
