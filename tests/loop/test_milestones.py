"""The way down to the target."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.loop.goal import MILESTONE, Goal, milestones_of
from hwprune.target import Target

_RATIOS = st.floats(0.02, 0.999)


def _goal(ratio: float) -> Goal:
    return Goal(Target("latency", ratio, True), ratio, 1.0, True)


@given(_RATIOS, st.integers(0, 30))
def test_milestones_fall_by_equal_factors_and_end_at_the_goal(ratio: float, count: int) -> None:
    found = milestones_of(_goal(ratio), count)
    factors = [after / before for before, after in pairwise([1.0, *found])]

    assert found[-1] == pytest.approx(ratio)
    assert factors == pytest.approx([factors[0]] * len(factors))
    assert len(found) == count or not count


@given(_RATIOS)
def test_without_a_count_no_step_is_longer_than_usual_and_there_is_none_too_many(ratio: float) -> None:
    found = milestones_of(_goal(ratio), 0)

    assert found[0] >= MILESTONE - 1e-9
    assert len(found) == 1 or ratio ** (1 / (len(found) - 1)) < MILESTONE + 1e-9
