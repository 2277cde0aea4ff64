"""What a search adds up: the laws of the objectives, and the search for the largest product against brute force."""

from __future__ import annotations

import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwprune.search.exact import exact
from hwprune.search.objective import Objective, lost_at
from hwprune.search.problem import Budget, Group, Op, Problem

_IMPORTANCE = st.floats(0.01, 100)


@given(_IMPORTANCE, _IMPORTANCE, st.integers(1, 30))
def test_the_loss_is_importance_as_it_is(lost: float, stays: float, layers: int) -> None:
    assert lost_at(lost, lost + stays, layers, "loss") == lost


@given(_IMPORTANCE, _IMPORTANCE, st.integers(1, 30))
def test_odds_are_what_goes_against_what_stays(lost: float, stays: float, layers: int) -> None:
    assert lost_at(lost, lost + stays, layers, "odds") == pytest.approx((lost + stays) * lost / stays)


@given(st.floats(0.01, 0.98), st.floats(1e-3, 0.01), st.floats(1e-3, 1e3), st.integers(1, 30))
def test_odds_cost_more_the_less_a_group_keeps(gone: float, more: float, total: float, layers: int) -> None:
    first, then = (
        (lost_at((start + more) * total, total, layers, "odds") - lost_at(start * total, total, layers, "odds")) / total
        for start in (0.0, gone)
    )

    assert more <= first < then


@given(_IMPORTANCE, _IMPORTANCE, st.integers(1, 30), st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_the_size_of_the_estimate(lost: float, stays: float, layers: int, scale: float) -> None:
    total = lost + stays

    assert lost_at(scale * lost, scale * total, layers, "shares") == pytest.approx(
        lost_at(lost, total, layers, "shares")
    )


@given(_IMPORTANCE, _IMPORTANCE, _IMPORTANCE, st.integers(1, 30))
def test_shares_of_two_cuts_in_turn_add_up_to_those_of_one(first: float, second: float, stays: float, n: int) -> None:
    total = first + second + stays
    at_once = lost_at(first + second, total, n, "shares")
    in_turn = lost_at(first, total, n, "shares") + lost_at(second, second + stays, n, "shares")

    assert in_turn == pytest.approx(at_once, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("objective", get_args(Objective))
@pytest.mark.parametrize(("lost", "total"), [(0.0, 0.0), (0.0, 5.0)])
def test_what_loses_nothing_costs_nothing(lost: float, total: float, objective: Objective) -> None:
    assert lost_at(lost, total, 3, objective) == 0.0


@pytest.mark.parametrize("objective", ["odds", "shares"])
def test_all_of_it_costs_a_number(objective: Objective) -> None:
    assert 20.0 < lost_at(5.0, 5.0, 1, objective) < math.inf


@settings(max_examples=60)
@given(
    st.lists(st.lists(_IMPORTANCE, min_size=3, max_size=4), min_size=2, max_size=3),
    st.lists(st.integers(1, 5), min_size=3, max_size=3),
    st.floats(0.3, 0.9),
)
def test_the_search_finds_the_largest_product_of_kept_shares(
    scores: list[list[float]], layers: list[int], share: float
) -> None:
    curves = [np.concatenate([[0.0], np.cumsum(np.sort(own))]) for own in scores]
    groups = [
        Group(
            f"g{i}",
            tuple(range(1, len(own) + 1)),
            tuple(lost_at(curve[len(own) - w], curve[-1], layers[i], "shares") for w in range(1, len(own) + 1)),
        )
        for i, (own, curve) in enumerate(zip(scores, curves, strict=True))
    ]
    names = tuple(group.name for group in groups)
    ops = tuple(Op((name,), lambda widths, name=name: float(widths[name])) for name in names)
    limit = share * sum(map(len, scores))
    assume(limit >= len(groups))

    def kept(widths: tuple[int, ...]) -> float:
        """The product, in logarithms, straight from the scores."""
        each = (sum(sorted(own)[len(own) - w :]) / sum(own) for own, w in zip(scores, widths, strict=True))
        return sum(count * math.log(one) for count, one in zip(layers, each, strict=False))

    settings_ = product(*(group.choices for group in groups))
    best = max(kept(widths) for widths in settings_ if sum(widths) <= limit)
    found = exact(Problem(tuple(groups), (Budget("latency", ops, limit),)), gap=0.0)

    assert kept(tuple(found.widths[name] for name in names)) == pytest.approx(best, abs=1e-6)
