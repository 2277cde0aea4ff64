from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Op, Problem


def staircase(width: int, step: int = 8) -> float:
    """Latency of a device that works in blocks of channels."""
    return float(-(-width // step))


def op(name: str, step: int = 8) -> Op:
    return Op((name,), lambda widths: staircase(widths[name], step))


def group(name: str, width: int, each: float) -> Group:
    return Group(name, tuple(range(1, width + 1)), tuple(each * (width - w) for w in range(1, width + 1)))


def test_cuts_the_unimportant_group_and_stops_on_a_step_edge() -> None:
    ops = (op("a"), op("b"))
    problem = Problem((group("a", 32, 1.0), group("b", 32, 10.0)), (Budget("latency", ops, 6.0),), ops)

    assert greedy(problem).widths == {"a": 16, "b": 32}


def test_sees_a_saving_that_only_appears_many_channels_on() -> None:
    ops = (op("a", 16), op("b", 4))
    problem = Problem((group("a", 32, 0.1), group("b", 32, 10.0)), (Budget("latency", ops, 9.0),), ops)

    assert greedy(problem).widths == {"a": 16, "b": 32}


def test_counts_both_sides_of_a_channel() -> None:
    # "shared" is read by three operators, "alone" by one: at equal importance the shared one goes.
    ops = (op("alone", 1), *(op("shared", 1) for _ in range(3)))
    problem = Problem((group("alone", 8, 1.0), group("shared", 8, 1.0)), (Budget("latency", ops, 23.0),), ops)

    assert greedy(problem).widths["alone"] == 8


def test_the_price_decides_the_order_and_the_budget_when_to_stop() -> None:
    macs = (Op(("a",), lambda w: 10.0 * w["a"]), Op(("b",), lambda w: 1.0 * w["b"]))
    latency = (op("a", 1), op("b", 1))
    problem = Problem((group("a", 8, 1.0), group("b", 8, 1.0)), (Budget("latency", latency, 12.0),), macs)

    assert greedy(problem).widths == {"a": 4, "b": 8}


def test_what_cannot_be_reached_says_how_far_it_came() -> None:
    ops = (op("a"),)
    solution = greedy(Problem((group("a", 16, 1.0),), (Budget("latency", ops, 0.5),), ops))

    assert not solution.feasible
    assert solution.spent == {"latency": 1.0}


def test_several_budgets_hold_at_once() -> None:
    latency, memory = (op("a", 1), op("b", 1)), (Op(("b",), lambda w: 4.0 * w["b"]),)
    problem = Problem(
        (group("a", 8, 1.0), group("b", 8, 5.0)),
        (Budget("latency", latency, 14.0), Budget("memory", memory, 24.0)),
        latency,
    )
    solution = greedy(problem)

    assert solution.feasible
    assert solution.widths["b"] <= 6


def test_narrows_a_group_where_another_can_then_be_widened_by_more() -> None:
    """Four of seven must go. Three for 2.7 is the best rate, but leaves one to find, and twice two for 2 is better."""
    saved, lost = {"a": 3.0, "b": 2.0, "c": 2.0}, {"a": 2.7, "b": 2.0, "c": 2.0}
    groups = tuple(Group(name, (1, 2), (lost[name], 0.0)) for name in saved)
    ops = tuple(Op((name,), partial(_times, name, saved[name])) for name in saved)
    found = greedy(Problem(groups, (Budget("latency", ops, limit=10.0),), ops))

    assert found.feasible and found.widths == {"a": 2, "b": 1, "c": 1}


def test_keeps_a_group_wider_where_several_others_pay_less_for_it() -> None:
    """Six must go. Ten for 6 is the best rate, but three times two for 1.5 is enough and loses 4.5."""
    names = ("wide", "a", "b", "c")
    saved, lost = dict(zip(names, (10.0, 2.0, 2.0, 2.0), strict=True)), dict.fromkeys(names, 1.5) | {"wide": 6.0}
    groups = tuple(Group(name, (1, 2), (lost[name], 0.0)) for name in names)
    ops = tuple(Op((name,), partial(_times, name, saved[name])) for name in names)
    found = greedy(Problem(groups, (Budget("latency", ops, limit=26.0),), ops))

    assert found.feasible and found.widths == {"wide": 2, "a": 1, "b": 1, "c": 1}


def _times(name: str, factor: float, widths: Mapping[str, int]) -> float:
    return factor * widths[name]


def test_a_group_needs_as_many_losses_as_choices() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Group("a", (1, 2), (0.0,))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    groups = []
    for name in names:
        drops = draw(st.lists(st.floats(0.01, 5.0), min_size=3, max_size=3))
        losses = [sum(drops[i:]) for i in range(4)]
        groups.append(Group(name, (1, 2, 3, 4), tuple(losses)))
    factor = draw(st.floats(0.5, 3.0))
    ops = [Op((name,), lambda w, n=name: float(w[n])) for name in names]
    for left, right in pairwise(names):
        ops.append(Op((left, right), lambda w, x=left, y=right: factor * w[x] * w[y]))
    full = sum(o.at(dict.fromkeys(names, 4)) for o in ops)
    limit = full * draw(st.floats(0.2, 1.0))
    return Problem(tuple(groups), (Budget("latency", tuple(ops), limit),), tuple(ops))


@settings(max_examples=150)
@given(problems())
def test_is_feasible_whenever_brute_force_is_and_nothing_more_can_be_given_back(problem: Problem) -> None:
    names = [g.name for g in problem.groups]
    (budget,) = problem.budgets
    all_widths = [dict(zip(names, widths, strict=True)) for widths in product((1, 2, 3, 4), repeat=len(names))]
    feasible = [widths for widths in all_widths if budget.spent(widths) <= budget.limit]
    solution = greedy(problem)

    assert solution.feasible == bool(feasible)
    if feasible:
        assert budget.spent(solution.widths) <= budget.limit
        assert solution.lost == pytest.approx(problem.lost(solution.widths))
        assert solution.lost >= min(map(problem.lost, feasible)) - 1e-9
        wider = [w for w in feasible if sum(w[n] != solution.widths[n] for n in names) == 1]
        assert not any(
            problem.lost(w) < solution.lost - 1e-9 for w in wider if all(w[n] >= solution.widths[n] for n in names)
        )
