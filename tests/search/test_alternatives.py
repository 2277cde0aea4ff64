"""Other solutions than the one that loses least."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwprune.search.alternatives import APART, FURTHER, alternatives, bounded
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Op, Problem
from tests.search.strategies import every_setting, problems

_WIDTHS = (2, 4, 8)


def _two(other: float) -> Problem:
    """Two groups of which one has to be halved; the second loses ``other`` times what the first one does."""
    groups = (Group("a", _WIDTHS, (9.0, 1.0, 0.0)), Group("b", _WIDTHS, (9.0, other, 0.0)))
    ops = tuple(Op((name,), lambda widths, name=name: float(widths[name])) for name in "ab")  # type: ignore[misc]
    return Problem(groups, (Budget("channels", ops, 12.0),))


def test_the_other_way_to_the_same_cost_is_found_where_it_loses_hardly_more() -> None:
    problem = _two(1.05)
    widths = greedy(problem).widths

    (bounds,) = alternatives(problem, widths, 5)

    assert widths == {"a": 4, "b": 8}
    assert greedy(bounded(problem, bounds)).widths == {"a": 8, "b": 4}


def test_nothing_is_found_where_all_else_loses_much_more() -> None:
    assert alternatives(_two(1.2), {"a": 4, "b": 8}, 5) == ()


@given(problems(), st.integers(0, 3))
@settings(max_examples=300)
def test_alternatives_keep_every_budget_lose_hardly_more_and_are_apart(problem: Problem, count: int) -> None:
    first = greedy(problem)
    assume(first.feasible)
    found = alternatives(problem, first.widths, count)
    budgets = tuple(replace(one, limit=min(one.limit, one.spent(first.widths))) for one in problem.budgets)
    others = [greedy(bounded(replace(problem, budgets=budgets), bounds)) for bounds in found]

    assert len(found) <= count
    assert len({tuple(one.widths.items()) for one in (first, *others)}) == 1 + len(others)
    for bounds, other in zip(found, others, strict=True):
        ((group, (least, most)),) = bounds.items()
        assert least <= other.widths[group] <= most
        assert max(most / first.widths[group], first.widths[group] / least) >= APART
        assert other.feasible
        assert other.lost <= (1 + FURTHER) * first.lost


@given(problems(), st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 4))
def test_bounds_take_choices_out_and_change_nothing_else(problem: Problem, name: str, one: int, other: int) -> None:
    least, most = sorted((one, other))
    narrower = bounded(problem, {name: (least, most)})
    left = {group.name: group.choices for group in narrower.groups}

    for widths in every_setting(problem):
        if all(widths[group] in choices for group, choices in left.items()):
            assert narrower.lost(widths) == problem.lost(widths)
            assert name not in widths or least <= widths[name] <= most
    assert narrower.budgets == problem.budgets


def test_a_group_without_a_choice_left_is_refused() -> None:
    with pytest.raises(ValueError, match="group a: no choice from 5 to 7"):
        bounded(_two(1.0), {"a": (5, 7)})
