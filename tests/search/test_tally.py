"""Costs kept up to date one group at a time, against costs looked up anew."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.search.problem import Problem
from hwprune.search.tally import Tally
from tests.search.strategies import WIDTHS, problems

moves = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(WIDTHS)), max_size=6)


@settings(max_examples=150)
@given(problems(rising=False, concatenated=True), moves, st.integers(0, 2), st.sampled_from(WIDTHS))
def test_costs_and_changes_are_those_of_the_widths(
    problem: Problem, moves: list[tuple[int, int]], number: int, width: int
) -> None:
    ops = [op for budget in problem.budgets for op in budget.ops]
    tally = Tally(ops, {group.name: group.choices for group in problem.groups})
    names = [group.name for group in problem.groups]
    widths = dict.fromkeys(names, WIDTHS[-1])
    for place, there in moves:
        tally.set(names[place], there)
        widths[names[place]] = there

    assert tally.widths == widths
    assert [tally.costs[place] for place in tally.places(ops)] == pytest.approx([op.at(widths) for op in ops])
    then = widths | {names[number]: width}
    fallen = sum(op.at(widths) - op.at(then) for op in ops)
    assert tally.change(tally.touching(ops)[names[number]], names[number], width) == pytest.approx(fallen, abs=1e-6)
    assert tally.widths == widths
