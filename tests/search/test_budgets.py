"""Any number of budgets, sums and peaks, against brute force on problems small enough for it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings

from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Op, Problem
from tests.search.strategies import WIDTHS, every_setting, problems


def linear(*factors: tuple[str, float], base: float = 0.0) -> Op:
    return Op(tuple(name for name, _ in factors), lambda w: base + sum(f * w[name] for name, f in factors))


def group(name: str, each: float) -> Group:
    return Group(name, WIDTHS, tuple(each * (WIDTHS[-1] - width) for width in WIDTHS))


@settings(max_examples=300)
@given(problems())
def test_all_budgets_hold_whenever_any_widths_hold_them_and_nothing_more_can_be_given_back(problem: Problem) -> None:
    holding = [w for w in every_setting(problem) if all(budget.holds(w) for budget in problem.budgets)]
    solution = greedy(problem)

    assert solution.feasible == bool(holding)
    assert solution.spent == {budget.name: budget.spent(solution.widths) for budget in problem.budgets}
    if holding:
        assert solution.widths in holding
        assert solution.lost >= min(map(problem.lost, holding)) - 1e-9
        for one in problem.groups:
            wider = [solution.widths | {one.name: width} for width in WIDTHS if width > solution.widths[one.name]]
            slack = [b.limit - b.spent(w) for w in wider for b in problem.budgets]
            assume(all(abs(left) > 1e-9 for left in slack))  # where rounding decides, either answer is right
            assert not any(w in holding for w in wider)


@settings(max_examples=200)
@given(problems())
def test_a_peak_is_a_limit_on_each_operator(problem: Problem) -> None:
    apart = []
    for budget in problem.budgets:
        each = [Budget(f"{budget.name}.{i}", (op,), budget.limit, budget.fixed) for i, op in enumerate(budget.ops)]
        apart += each if budget.peak else [budget]

    assert greedy(problem).feasible == greedy(Problem(problem.groups, tuple(apart), problem.price)).feasible
    for widths in every_setting(problem):
        assert all(b.holds(widths) for b in problem.budgets) == all(b.holds(widths) for b in apart)


@settings(max_examples=200)
@given(problems())
def test_a_budget_that_holds_anyway_changes_nothing(problem: Problem) -> None:
    full = {group.name: WIDTHS[-1] for group in problem.groups}
    loose = [Budget(f"{b.name} loose", b.ops, b.spent(full) + 1.0, b.fixed, b.peak) for b in problem.budgets]
    with_loose = Problem(problem.groups, (*problem.budgets, *loose), problem.price)

    assert greedy(with_loose).widths == greedy(problem).widths


def test_of_two_equal_peaks_both_come_down() -> None:
    ops = (linear(("a", 2.0)), linear(("b", 2.0)), linear(("c", 1.0)))
    groups = (group("a", 1.0), group("b", 1.0), group("c", 0.1))
    solution = greedy(Problem(groups, (Budget("memory", ops, 4.0, peak=True),), ops))

    assert solution.widths == {"a": 2, "b": 2, "c": 4}
    assert solution.spent == {"memory": 4.0}


def test_a_move_that_the_price_does_not_reward_is_made_where_the_memory_needs_it() -> None:
    latency, memory = (linear(("a", 1.0)),), (linear(("b", 1.0)),)
    budgets = (Budget("latency", latency, 3.0), Budget("memory", memory, 2.0, peak=True))

    assert greedy(Problem((group("a", 1.0), group("b", 1.0)), budgets, latency)).widths == {"a": 3, "b": 2}


def test_where_only_all_groups_together_help_they_go_together_and_what_is_free_comes_back() -> None:
    largest = Op(("a", "b"), lambda w: float(max(w["a"], w["b"])))
    budget = Budget("memory", (largest, linear(("c", 0.1))), 2.0, peak=True)
    solution = greedy(Problem((group("a", 1.0), group("b", 1.0), group("c", 1.0)), (budget,)))

    assert solution.feasible
    assert solution.widths == {"a": 2, "b": 2, "c": 4}


@pytest.mark.parametrize("peak", [False, True])
def test_the_fixed_part_counts(peak: bool) -> None:
    budget = Budget("memory", (linear(("a", 1.0)),), 5.0, fixed=3.0, peak=peak)

    assert greedy(Problem((group("a", 1.0),), (budget,))).widths == {"a": 2}
