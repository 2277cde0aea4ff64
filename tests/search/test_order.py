"""The order in which a group's channels go: its laws, with and without channels that may come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.search.order import Order

_SCORES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=12)  # integers, so that some are equal


@st.composite
def _groups(draw: st.DrawFn) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Channels that are there, their scores, and what is known of all."""
    known = np.array(draw(_SCORES))
    there = draw(st.sets(st.integers(0, len(known) - 1), min_size=1))
    scores = np.array(draw(st.lists(st.integers(0, 20).map(float), min_size=len(there), max_size=len(there))))
    return sorted(there), scores, known


@given(_SCORES)
def test_the_most_important_stay_and_of_equal_ones_the_first(scores: list[float]) -> None:
    order = Order.of(range(10, 10 + len(scores)), np.array(scores))

    for width in range(len(scores) + 1):
        best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:width]
        assert order.kept(width) == sorted(10 + i for i in best)
        assert order.lost(width) == pytest.approx(sum(scores) - sum(scores[i] for i in best))


@given(_groups())
def test_what_may_come_back_comes_after_all_that_is_there(group: tuple[list[int], np.ndarray, np.ndarray]) -> None:
    there, scores, known = group
    order, alone = Order.of(there, scores, known), Order.of(there, scores)

    assert sorted(order.channels) == list(range(len(known)))
    for width in range(len(there) + 1):  # as if nothing could come back, but for what has gone already
        assert order.kept(width) == alone.kept(width)
        assert order.lost(width) - order.lost(len(there)) == pytest.approx(alone.lost(width))
    for width in range(len(there), len(known) + 1):
        back = sorted(set(range(len(known))) - set(there), key=lambda i: (-known[i], i))[: width - len(there)]
        assert order.kept(width) == sorted([*there, *back])
        away = set(range(len(known))) - set(order.kept(width))
        assert order.lost(width) == pytest.approx(sum(known[i] for i in away))


@given(_groups(), st.data())
def test_what_is_not_known_does_not_come_back(
    group: tuple[list[int], np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    there, scores, known = group
    gone = sorted(set(range(len(known))) - set(there))
    lost = data.draw(st.sets(st.sampled_from(gone))) if gone else set()
    known[list(lost)] = np.nan

    assert set(Order.of(there, scores, known).channels) == set(range(len(known))) - lost
