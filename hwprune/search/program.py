"""A search problem as a mixed-integer linear program: its columns, and the rows that keep costs within budgets.

One binary for every width of every group. An operator that two groups set costs T[u, v] at their choices u and v; a
non-negative z[u, v] whose rows sum to the binaries of the one group and whose columns to those of the other is 1 at the
pair chosen and 0 elsewhere, so its cost is the sum of T[u, v] z[u, v]: the program stays linear, and for one pair no
linear program is tighter. Operators of the same two groups share one z.

A concatenation is as wide as several groups together. For each width of the operator's other side the lower convex hull
of its cost over that sum is taken, a column for every corner, with the columns' mean bound to the sum: never above the
cost, and equal to it where the cost is straight. Any other operator of three groups or more is straightened out around
one solution, which proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hwprune.search.problem import Budget, Op, Problem, Side, Widths

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]
Terms = list[tuple[int, float]]  # column, coefficient
Choices = Mapping[str, tuple[int, ...]]
STRAIGHT: Final = 1e-12  # relative difference up to which the cost of a pair is that of its two groups


@dataclass(frozen=True)
class Row:
    """One thing that must hold: ``fixed`` and the costs of all operators together at most ``limit``."""

    ops: tuple[Op, ...]
    fixed: float
    limit: float

    @property
    def scale(self) -> float:
        """What the row is divided by, so that rows of different units are of one size."""
        return max(abs(self.limit - self.fixed), 1e-300)

    def spent(self, widths: Widths) -> float:
        """What is spent at ``widths``."""
        return self.fixed + sum(op.at(widths) for op in self.ops)


@dataclass(frozen=True)
class Hull:
    """Lower convex hull of an operator's cost over a sum of widths, for each choice of one further group, or of none.

    Attributes:
        side: the sum.
        other: name of the further group; "" for none.
        corners: for each choice, sums in rising order and the costs there.
    """

    side: Side
    other: str
    corners: tuple[tuple[Floats, Floats], ...]

    def at(self, widths: Widths, choices: Choices) -> float:
        """The hull's cost, which is never above the operator's."""
        sums, costs = self.corners[choices[self.other].index(widths[self.other]) if self.other else 0]
        return float(np.interp(self.side(widths), sums, costs))


class Program:
    """The program of a problem; ``around`` is where operators that no hull holds are straightened out."""

    def __init__(self, problem: Problem, around: Widths) -> None:
        self.choices: Choices = {group.name: group.choices for group in problem.groups}
        self.groups = [group for group in problem.groups if len(group.choices) > 1]
        self.around = dict(around)
        self.rows = [row for budget in problem.budgets for row in _rows(budget)]
        keys = [(group.name, width) for group in self.groups for width in group.choices]
        self.column = {key: number for number, key in enumerate(keys)}
        self.objective = np.array([loss for group in self.groups for loss in group.loss])
        wide = {id(op): op for row in self.rows for op in row.ops if len(self.free(op)) > 2}
        found = {key: _hull(op, self.choices) for key, op in wide.items()}
        self.hulls = {key: hull for key, hull in found.items() if hull is not None}
        self.straightened = found.keys() - self.hulls.keys()

    def free(self, op: Op) -> list[str]:
        """Names of the operator's groups that have a choice."""
        return [name for name in op.groups if len(self.choices[name]) > 1]

    def missed(self, widths: Widths) -> Floats:
        """By how much the program takes each row's costs for less than they are."""
        return np.array([sum(self._missed(op, widths) for op in row.ops) for row in self.rows])

    def _missed(self, op: Op, widths: Widths) -> float:
        if id(op) in self.hulls:
            return op.at(widths) - self.hulls[id(op)].at(widths, self.choices)
        if id(op) in self.straightened:
            constant, changes = self.straight(op)
            return op.at(widths) - constant - sum(changes[name, widths[name]] for name in self.free(op))
        return 0.0

    def straight(self, op: Op) -> tuple[float, dict[tuple[str, int], float]]:
        """The operator's cost around present widths: a constant, and what each group's choice changes by itself."""
        here = op.at(self.around)
        keys = [(name, width) for name in self.free(op) for width in self.choices[name]]
        return here, {(name, width): op.at({**self.around, name: width}) - here for name, width in keys}

    def matrix(self, reserve: Floats) -> Matrix:
        """All columns and rows, ``reserve`` being held back of each row's limit."""
        found = Matrix(self)
        for row, kept in zip(self.rows, reserve, strict=True):
            found.bound(row, float(kept))
        return found


class Matrix:
    """Columns and rows as they are put together: the binaries first, in the order of `Program.column`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.columns = len(program.column)
        self.bounds: list[tuple[float, float]] = []
        self._entries: list[tuple[int, int, float]] = []
        self._pairs: dict[tuple[str, str], Columns] = {}
        self._corners: dict[int, list[Columns]] = {}
        for group in program.groups:
            self._row([(program.column[group.name, width], 1.0) for width in group.choices], 1.0, 1.0)

    @cached_property
    def coefficients(self) -> sparse.csc_matrix:
        """(rows, columns)."""
        rows, columns, values = zip(*self._entries, strict=True)
        return sparse.csc_matrix((values, (rows, columns)), shape=(len(self.bounds), self.columns))

    def bound(self, row: Row, reserve: float) -> None:
        """Keep the row's costs within its limit."""
        program, limit = self.program, row.limit - row.fixed - reserve
        terms: Terms = []
        alone: dict[str, Floats] = {}
        both: dict[tuple[str, str], Floats] = {}
        for op in row.ops:
            free = program.free(op)
            if not free:
                limit -= op.at({name: program.choices[name][0] for name in op.groups})
            elif id(op) in program.hulls:
                terms += self._hull(op)
            elif len(free) > 2:
                constant, changes = program.straight(op)
                limit -= constant
                terms += [(program.column[key], change) for key, change in changes.items()]
            elif len(free) == 1:
                alone[free[0]] = alone.get(free[0], 0.0) + _costs(op, free, program.choices)
            else:
                first, second = sorted(free)
                both[first, second] = both.get((first, second), 0.0) + _costs(op, [first, second], program.choices)
        for names, costs in both.items():
            parts = _apart(costs)
            if parts is None:
                terms += _zipped(self._pair(names).ravel(), costs.ravel())
            else:
                for name, part in zip(names, parts, strict=True):
                    alone[name] = alone.get(name, 0.0) + part
        for name, costs in alone.items():
            terms += [(program.column[name, w], float(c)) for w, c in zip(program.choices[name], costs, strict=True)]
        self._row([(column, value / row.scale) for column, value in terms], -np.inf, limit / row.scale)

    def _row(self, terms: Iterable[tuple[int, float]], low: float, high: float) -> None:
        number = len(self.bounds)
        self._entries += [(number, column, value) for column, value in terms if value]
        self.bounds.append((low, high))

    def _more(self, count: int) -> Columns:
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def _pair(self, names: tuple[str, str]) -> Columns:
        """Columns z[u, v] of two groups, made once."""
        if names not in self._pairs:
            sides = [self.program.choices[name] for name in names]
            z = self._pairs[names] = self._more(len(sides[0]) * len(sides[1])).reshape(len(sides[0]), len(sides[1]))
            for name, widths, lines in zip(names, sides, (z, z.T), strict=True):
                for width, line in zip(widths, lines, strict=True):
                    self._row([*_ones(line), (self.program.column[name, width], -1.0)], 0.0, 0.0)
        return self._pairs[names]

    def _hull(self, op: Op) -> Iterator[tuple[int, float]]:
        """Columns of the corners of an operator's hull, made once, with the cost at each."""
        hull = self.program.hulls[id(op)]
        if id(op) not in self._corners:
            self._corners[id(op)] = [self._more(len(sums)) for sums, _ in hull.corners]
            self._bind(hull, self._corners[id(op)])
        for columns, (_, costs) in zip(self._corners[id(op)], hull.corners, strict=True):
            yield from _zipped(columns, costs)

    def _bind(self, hull: Hull, corners: Sequence[Columns]) -> None:
        """Corners of the choice taken sum to 1 and those of all others to 0; their mean is the sum of widths."""
        program, totals, fixed = self.program, list[tuple[int, float]](), float(hull.side.fixed)
        for number, (columns, (sums, _)) in enumerate(zip(corners, hull.corners, strict=True)):
            if hull.other:
                key = hull.other, program.choices[hull.other][number]
                self._row([*_ones(columns), (program.column[key], -1.0)], 0.0, 0.0)
            else:
                self._row(_ones(columns), 1.0, 1.0)
            totals += _zipped(columns, sums)
        for name, count in hull.side.terms:
            choices = program.choices[name]
            if len(choices) == 1:
                fixed += count * choices[0]
            else:
                totals += [(program.column[name, width], -float(count * width)) for width in choices]
        scale = max(1.0, *(float(sums[-1]) for sums, _ in hull.corners))
        self._row([(column, value / scale) for column, value in totals], fixed / scale, fixed / scale)


def _rows(budget: Budget) -> list[Row]:
    """A sum is one row; of a peak every operator is."""
    parts = [(op,) for op in budget.ops] if budget.peak else [budget.ops]
    return [Row(ops, budget.fixed, budget.limit) for ops in parts]


def _hull(op: Op, choices: Choices) -> Hull | None:
    """None where the cost is no function of one sum of widths and of one further group at most."""
    if op.by_size is None:
        return None
    free = {side: [name for name, _ in side.terms if len(choices[name]) > 1] for side in op.sides}
    wide = [side for side, names in free.items() if len(names) > 1]
    others = {name for side, names in free.items() if side not in wide for name in names}
    if len(wide) != 1 or len(others) > 1:
        return None
    side, other = wide[0], next(iter(others), "")
    sums = _sums(side, choices)
    corners = []
    for width in choices[other] if other else (0,):
        here = {name: choices[name][0] for name in op.groups} | ({other: width} if other else {})
        sizes = [tuple(total if one == side else one(here) for one in op.sides) for total in sums]
        corners.append(lower_hull(np.array(sums, dtype=float), np.asarray(op.by_size(sizes), dtype=float)))
    return Hull(side, other, tuple(corners))


def _sums(side: Side, choices: Choices) -> range:
    """Every sum that the side can have, and some between them that it cannot."""
    least, most = (side({name: choices[name][end] for name, _ in side.terms}) for end in (0, -1))
    step = gcd(*(count * (width - choices[name][0]) for name, count in side.terms for width in choices[name]))
    return range(least, most + 1, step)


def _costs(op: Op, names: Sequence[str], choices: Choices) -> Floats:
    """The operator's cost over all choices of these groups, an axis for each."""
    fixed = {name: choices[name][0] for name in op.groups}
    every = product(*(choices[name] for name in names))
    costs = [op.at({**fixed, **dict(zip(names, widths, strict=True))}) for widths in every]
    return np.array(costs).reshape([len(choices[name]) for name in names])


def _apart(costs: Floats) -> tuple[Floats, Floats] | None:
    """The cost of a pair as a sum of one cost for each of its groups; None where it is none."""
    first, second = costs[:, 0], costs[0] - costs[0, 0]
    close = np.abs(costs - first[:, None] - second) <= STRAIGHT * float(np.abs(costs).max())
    return (first, second) if bool(close.all()) else None


def _ones(columns: Columns) -> Terms:
    return [(int(column), 1.0) for column in columns]


def _zipped(columns: Columns, values: Floats) -> Terms:
    return [(int(column), float(value)) for column, value in zip(columns, values, strict=True)]


def lower_hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Corners of the lower convex hull of points in rising order of x (Andrew 1979).

    >>> [part.tolist() for part in lower_hull(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 3.0, 1.0, 4.0]))]
    [[0.0, 2.0, 3.0], [0.0, 1.0, 4.0]]
    """
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]
