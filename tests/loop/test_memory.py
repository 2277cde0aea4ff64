"""A bound on activation memory: what is asked, how the search aims at it, and what meets it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import TargetError
from hwprune.loop.memory import MemoryGoal
from hwprune.search.greedy import greedy
from hwprune.search.problem import Group, Op, Problem
from hwprune.target import MemoryLimit
from hwprune.validation.engine import EngineReport
from hwprune.validation.ledger import Candidate

FULL = {"a": 8, "b": 8}
OPS = (
    Op(("a",), lambda w: 100.0 * w["a"]),
    Op(("a", "b"), lambda w: 50.0 * (w["a"] + w["b"])),
    Op(("b",), lambda w: 20.0 * w["b"]),
)


def _goal(limit: str, dense_bytes: int = 4000) -> MemoryGoal:
    return MemoryGoal(MemoryLimit.parse(limit), dense_bytes, OPS, FULL)


def _candidate(widths: dict[str, int], told: int | None, *, ok: bool = True) -> Candidate:
    report = EngineReport(ok, "", "some", "cpu", "fp32", activation_bytes=told)
    return Candidate("target-1", 1, widths, None, 0, 0, 0, engines=(report,))


@pytest.mark.parametrize(
    ("text", "value", "relative"),
    [("60%", 0.6, True), ("12MiB", 12 * 2**20, False), ("1.5 MB", 1.5e6, False), ("800 KiB", 819200, False)],
)
def test_what_people_type_is_read(text: str, value: float, relative: bool) -> None:
    assert MemoryLimit.parse(text) == MemoryLimit(value, relative)
    assert MemoryLimit.parse(text).bytes_of(1000.0) == (1000.0 * value if relative else value)


@pytest.mark.parametrize("text", ["", "12", "12M", "0%", "-1MiB", "half", "1.5ms", "memory:50%"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="cannot read the memory"):
        MemoryLimit.parse(text)


widths = st.fixed_dictionaries({"a": st.integers(1, 8), "b": st.integers(1, 8)})


@given(st.integers(1, 10**9), widths)
def test_a_prediction_is_the_dense_engine_scaled_by_the_largest_layer(dense_bytes: int, at: dict[str, int]) -> None:
    largest = max(100 * at["a"], 50 * (at["a"] + at["b"]), 20 * at["b"])

    assert _goal("50%", dense_bytes).predicted_bytes(at) == pytest.approx(dense_bytes * largest / 800)
    assert _goal("50%", dense_bytes).predicted_bytes(FULL) == pytest.approx(dense_bytes)


@given(widths, st.floats(0.3, 3.0))
def test_after_a_candidate_has_taught_its_factor_the_budget_knows_what_it_takes(
    at: dict[str, int], ratio: float
) -> None:
    goal = _goal("50%", 10**9)
    told = round(ratio * goal.predicted_bytes(at))

    budget = goal.budget(1.0, goal.factor([_candidate(at, told)]))

    assert budget.spent(at) == pytest.approx(told, rel=1e-6)
    assert budget.limit == pytest.approx(5e8)


@given(st.floats(0.1, 0.99), st.integers(1, 6))
def test_milestones_share_the_way_down_evenly_in_proportion(ratio: float, steps: int) -> None:
    limits = [
        MemoryGoal(MemoryLimit(ratio, True), 1000, OPS, FULL).budget(k / steps, 1.0).limit for k in range(steps + 1)
    ]

    assert limits[0] == pytest.approx(1000)
    assert limits[-1] == pytest.approx(1000 * ratio)
    assert [b / a for a, b in pairwise(limits)] == pytest.approx([ratio ** (1 / steps)] * steps)


def test_a_bound_above_the_dense_engine_is_no_bound() -> None:
    budget = _goal("150%").budget(0.5, 1.0)

    assert budget.limit == 6000
    assert budget.holds(FULL)


def test_the_search_keeps_the_predicted_engine_within_the_bound() -> None:
    groups = tuple(Group(name, tuple(range(1, 9)), tuple(float(8 - w) for w in range(1, 9))) for name in FULL)
    goal = _goal("60%")
    solution = greedy(Problem(groups, (goal.budget(1.0, 1.0),)))

    assert solution.feasible
    assert goal.predicted_bytes(solution.widths) <= 2400
    assert solution.lost == 7  # a at 4, b at 5: the first layer bounds a, the second their sum


def test_only_an_engine_that_told_its_memory_meets_a_bound() -> None:
    goal = _goal("2000B")

    assert goal.met_by(_candidate(FULL, 2000))
    assert not goal.met_by(_candidate(FULL, 2001))
    assert not goal.met_by(_candidate(FULL, None))
    assert not goal.met_by(_candidate(FULL, 10, ok=False))
    assert goal.factor([_candidate(FULL, None)]) == 1.0
