"""Random search problems that are small enough for brute force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from hypothesis import strategies as st

from hwprune.search.problem import Budget, Group, Op, Problem

WIDTHS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Sum:
    """A width that is a sum over groups."""

    fixed: int
    terms: tuple[tuple[str, int], ...]

    def __call__(self, widths: Mapping[str, int]) -> int:
        return self.fixed + sum(count * widths[name] for name, count in self.terms)


@st.composite
def operators(draw: st.DrawFn, names: list[str], *, rising: bool = True) -> Op:
    """Costs over one or two groups; any table, or one that grows with the widths."""
    touched = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)))
    base, factor, step = draw(st.floats(0, 5)), draw(st.floats(0.1, 5)), draw(st.integers(1, 3))
    kinds = ["sum", "product", "largest"] + ([] if rising else ["falling"])
    kind = draw(st.sampled_from(kinds))

    def cost(widths: Mapping[str, int]) -> float:
        sizes = [-(-widths[name] // step) for name in touched]
        found = {"sum": sum(sizes), "product": sizes[0] * sizes[-1], "largest": max(sizes), "falling": 9 - sum(sizes)}
        return base + factor * found[kind]

    return Op(touched, cost)


@st.composite
def concatenations(draw: st.DrawFn, names: list[str]) -> Op:
    """Costs over a sum of all groups and, or not, the width of one of them; straight or not."""
    counts = [draw(st.integers(1, 3)) for _ in names]
    wide = Sum(draw(st.integers(0, 2)), tuple(zip(names, counts, strict=True)))
    sides = (wide, Sum(0, ((draw(st.sampled_from(names)), 1),)))[: draw(st.integers(1, 2))]
    step, base, factor = draw(st.sampled_from([1, 1, 4])), draw(st.floats(0, 3)), draw(st.floats(0.1, 2))
    power = draw(st.sampled_from([1.0, 0.5, 2.0]))

    def at(sizes: tuple[int, ...]) -> float:
        high = sizes[1] if len(sizes) > 1 else 1
        return base + factor * float(-(-sizes[0] // step)) ** power * high

    return Op(
        tuple(names),
        lambda widths: at(tuple(side(widths) for side in sides)),
        sides=sides,
        by_size=lambda many: [at(sizes) for sizes in many],
    )


@st.composite
def problems(draw: st.DrawFn, *, rising: bool = True, concatenated: bool = False) -> Problem:
    """Up to three groups of four widths, up to three budgets, sums and peaks."""
    names = ["a", "b", "c"][: 3 if concatenated else draw(st.integers(1, 3))]
    groups = []
    for name in names:
        drops = draw(st.lists(st.floats(0.01, 5.0), min_size=3, max_size=3))
        groups.append(Group(name, WIDTHS, tuple(sum(drops[i:]) for i in range(4))))
    budgets = []
    for number in range(draw(st.integers(1, 3))):
        ops = draw(st.lists(operators(names, rising=rising), min_size=1, max_size=4))
        ops += draw(st.lists(concatenations(names), min_size=1, max_size=2)) if concatenated else []
        fixed, peak = draw(st.floats(0, 3)), draw(st.booleans())
        full = Budget("full", tuple(ops), 0.0, fixed, peak).spent(dict.fromkeys(names, WIDTHS[-1]))
        budgets.append(Budget(f"budget {number}", tuple(ops), full * draw(st.floats(0.1, 1.1)), fixed, peak))
    price = tuple(draw(st.lists(operators(names), max_size=3)))
    return Problem(tuple(groups), tuple(budgets), price)


def every_setting(problem: Problem) -> list[dict[str, int]]:
    names = [group.name for group in problem.groups]
    return [dict(zip(names, widths, strict=True)) for widths in product(WIDTHS, repeat=len(names))]
