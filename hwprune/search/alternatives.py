"""Other solutions of a problem: they cost no more, lose hardly more, and keep a group clearly narrower or wider.

Importance is an estimate, and the widths that lose least of it can be a few percent ahead of widths that are nothing
like them. Which of the two networks is better after training, the estimate does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log2
from typing import Final

from hwprune.search.greedy import greedy
from hwprune.search.problem import Problem, Solution, Widths

Bounds = Mapping[str, tuple[int, int]]  # by group: the narrowest and the widest that it may be

FURTHER: Final = 0.1  # share by which an alternative may lose more than the solution
APART: Final = 4 / 3  # factor by which the width of a group must differ at least
MOST_HELD: Final = 16  # groups, the costliest, that are held narrower or wider: a search each


def bounded(problem: Problem, bounds: Bounds) -> Problem:
    """The problem without the choices that are out of bounds. Raises ValueError where a group has none left."""
    groups = []
    for group in problem.groups:
        least, most = bounds.get(group.name, (group.choices[0], group.choices[-1]))
        left = [place for place, choice in enumerate(group.choices) if least <= choice <= most]
        if not left:
            raise ValueError(f"group {group.name}: no choice from {least} to {most}")
        choices, loss = tuple(group.choices[place] for place in left), tuple(group.loss[place] for place in left)
        groups.append(replace(group, choices=choices, loss=loss))
    return replace(problem, groups=tuple(groups))


def alternatives(problem: Problem, widths: Widths, count: int) -> tuple[Bounds, ...]:
    """At most so many bounds under which a search finds something else than ``widths``, which meet every budget.

    Each holds one group narrower, or wider, than it is there by a factor of `APART` at least. Of the bounds within
    which greedy search spends no more of any budget and loses hardly more (`FURTHER`), those come first whose solution
    is the furthest from ``widths`` and from the ones before.
    """
    limits = tuple(replace(one, limit=min(one.limit, one.spent(widths))) for one in problem.budgets)
    same, most = replace(problem, budgets=limits), (1 + FURTHER) * problem.lost(widths)
    found: list[tuple[Bounds, Solution]] = []
    for bounds in _held(problem, widths):
        solution = greedy(bounded(same, bounds))
        if solution.feasible and solution.lost <= most:
            found.append((bounds, solution))
    known: list[Widths] = [widths]
    taken: list[Bounds] = []
    while found and len(taken) < count:
        apart = [min(_distance(one, solution.widths) for one in known) for _, solution in found]
        if max(apart) == 0:
            break  # what is left is known
        bounds, solution = found.pop(apart.index(max(apart)))
        taken.append(bounds)
        known.append(solution.widths)
    return tuple(taken)


def _held(problem: Problem, widths: Widths) -> list[Bounds]:
    """One group narrower or wider, the groups first whose being at their narrowest saves most."""
    saved = {}
    for group in problem.groups:
        least = {**widths, group.name: group.choices[0]}
        shares = [
            (one.spent(widths) - one.spent(least)) / one.limit if one.limit > 0 else 0.0 for one in problem.budgets
        ]
        saved[group.name] = max(shares, default=0.0)
    found: list[Bounds] = []
    for group in sorted(problem.groups, key=lambda one: -saved[one.name])[:MOST_HELD]:
        narrower = [choice for choice in group.choices if choice * APART <= widths[group.name]]
        wider = [choice for choice in group.choices if choice >= widths[group.name] * APART]
        found += [{group.name: (side[0], side[-1])} for side in (narrower, wider) if side]
    return found


def _distance(one: Widths, other: Widths) -> float:
    """Sum of what the widths differ by, in powers of two."""
    return sum(abs(log2(one[name] / other[name])) for name in one)
