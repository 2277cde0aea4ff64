"""The exact search against brute force."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.search.exact import exact
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Op, Problem
from tests.search.strategies import every_setting, problems


def least(problem: Problem) -> float | None:
    """Of all widths that every budget holds, the loss of the best."""
    losses = [problem.lost(w) for w in every_setting(problem) if all(b.holds(w) for b in problem.budgets)]
    return min(losses, default=None)


@settings(max_examples=150)
@given(problems(rising=False))
def test_is_what_brute_force_finds_and_proves_it(problem: Problem) -> None:
    found, best = exact(problem, gap=0.0), least(problem)

    assert found.feasible == (best is not None)
    if best is not None:
        assert found.lost == pytest.approx(best, abs=1e-6)
        assert found.bound == pytest.approx(best, abs=1e-6)


@settings(max_examples=150)
@given(problems(concatenated=True))
def test_concatenations_keep_the_bound_honest_and_the_budgets_hold(problem: Problem) -> None:
    found, best = exact(problem, gap=0.0), least(problem)

    if best is None:
        assert not found.feasible
        return
    assert found.bound is not None
    assert found.bound <= best + 1e-6
    first = greedy(problem)
    if first.feasible:
        assert found.feasible
        assert best - 1e-6 <= found.lost <= first.lost + 1e-9


@settings(max_examples=50)
@given(problems(), st.floats(0.0, 0.5))
def test_the_gap_that_is_left_is_the_one_that_was_allowed(problem: Problem, gap: float) -> None:
    found = exact(problem, gap=gap)

    if found.feasible and found.bound is not None:
        assert found.lost - found.bound <= gap * found.lost + 1e-6


def test_no_time_gives_the_greedy_solution_without_a_proof() -> None:
    ops = (Op(("a",), lambda w: float(w["a"])),)
    problem = Problem((Group("a", (1, 2, 4), (3.0, 2.0, 0.0)),), (Budget("latency", ops, 2.5),))
    found = exact(problem, seconds=0.0)

    assert found.widths == greedy(problem).widths
    assert found.bound is None


def test_an_operator_of_three_groups_with_no_known_sizes_is_solved_without_a_proof() -> None:
    names = ("a", "b", "c")
    ops = (Op(names, lambda w: float(w["a"] * w["b"] * w["c"])),)
    groups = tuple(Group(name, (1, 2, 3), (2.0 * i, 1.0 * i, 0.0)) for i, name in enumerate(names, start=1))
    found = exact(Problem(groups, (Budget("latency", ops, 9.0),)))

    assert found.feasible
    assert found.bound is None
    assert found.lost <= greedy(Problem(groups, (Budget("latency", ops, 9.0),))).lost


def test_groups_without_a_choice_leave_nothing_to_solve() -> None:
    ops = (Op(("a",), lambda w: float(w["a"])),)
    found = exact(Problem((Group("a", (4,), (0.0,)),), (Budget("latency", ops, 5.0),)))

    assert (found.widths, found.feasible, found.lost) == ({"a": 4}, True, 0.0)
