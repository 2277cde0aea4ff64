"""The way down to the target."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.loop.goal import MILESTONE, milestones_of

_RATIOS = st.floats(0.02, 0.999)


@given(_RATIOS, st.integers(0, 30))
def test_milestones_fall_by_equal_factors_and_end_at_the_goal(ratio: float, count: int) -> None:
    found = [one for (one,) in milestones_of([ratio], count, [1.0])]
    factors = [after / before for before, after in pairwise([1.0, *found])]

    assert found[-1] == pytest.approx(ratio)
    assert factors == pytest.approx([factors[0]] * len(factors))
    assert len(found) == count or not count


@given(_RATIOS, st.integers(1, 30))
def test_equal_amounts_and_most_at_first(ratio: float, count: int) -> None:
    amounts = [1.0, *(one for (one,) in milestones_of([ratio], count, [1.0], "amount"))]
    first = [1.0, *(one for (one,) in milestones_of([ratio], count, [1.0], "orthoreg"))]
    total = 1 - ratio
    taken = [total / (k * total + count * (1 - total)) for k in range(1, count + 1)]  # of what is left, round by round

    assert [before - after for before, after in pairwise(amounts)] == pytest.approx([total / count] * count)
    assert [1 - after / before for before, after in pairwise(first)] == pytest.approx(taken)
    assert amounts[-1] == pytest.approx(ratio) and first[-1] == pytest.approx(ratio)


@given(_RATIOS)
def test_without_a_count_no_step_is_longer_than_usual_and_there_is_none_too_many(ratio: float) -> None:
    found = [one for (one,) in milestones_of([ratio], 0, [1.0])]

    assert found[0] >= MILESTONE - 1e-9
    assert len(found) == 1 or ratio ** (1 / (len(found) - 1)) < MILESTONE + 1e-9


@given(_RATIOS, st.floats(0.05, 1), _RATIOS, st.integers(0, 30))
def test_a_leg_begins_where_the_last_one_ended_and_all_deployments_take_as_many_steps(
    ratio: float, start: float, other: float, count: int
) -> None:
    found = milestones_of([ratio * start, other], count, [start, 1.0])
    alone = milestones_of([min(ratio, other)], count, [1.0])

    assert len(found) == len(alone)
    assert found[-1] == pytest.approx((ratio * start, other))
    for (first, second), (before, _) in zip(found[1:], found, strict=False):
        assert first / before == pytest.approx(ratio ** (1 / len(found)))
        assert second < other ** (1 / len(found)) + 1e-9
