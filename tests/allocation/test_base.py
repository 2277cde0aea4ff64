"""Ratios scaled to a budget."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.search.problem import Widths
from tests.allocation.situations import WIDTHS, situation

RATIOS = st.fixed_dictionaries({name: st.floats(0.05, 1.0) for name in WIDTHS})


@settings(max_examples=30)
@given(ratios=RATIOS, limit=st.floats(0.1, 0.95))
def test_the_widths_hold_and_no_larger_multiple_does(ratios: dict[str, float], limit: float) -> None:
    where = situation(limit)
    widths = where.fitted(ratios)
    scales = sorted(
        {(choice - 0.5) / (ratios[g.name] * g.choices[-1]) for g in where.problem.groups for choice in g.choices}
    )
    holding = [where.nearest({n: (s + 1e-6) * r for n, r in ratios.items()}) for s in (0.0, *scales)]
    best = max((w for w in holding if where.holds(w)), key=lambda w: sum(w.values()))

    assert where.holds(widths)
    assert all(widths[name] >= best[name] for name in WIDTHS), "within one step of the budget"


@given(first=RATIOS, limit=st.floats(0.1, 0.9))
@settings(max_examples=20)
def test_a_larger_budget_never_narrows_a_group(first: dict[str, float], limit: float) -> None:
    less, more = situation(limit).fitted(first), situation(limit + 0.05).fitted(first)

    assert all(less[name] <= more[name] for name in WIDTHS)


def test_widths_are_the_choices_nearest_to_the_shares() -> None:
    where = situation(multiple=4)

    assert where.nearest({"0": 0.6, "3": 0.49}) == {"0": 4, "3": 4, "6": 16}
    assert where.nearest({"0": 5.0, "3": 0.0, "6": 0.0}) == {"0": 8, "3": 4, "6": 4}


def test_where_nothing_holds_the_narrowest_are_told() -> None:
    where = situation(1e-6)

    assert where.fitted(dict.fromkeys(WIDTHS, 1.0)) == where.narrowest == dict.fromkeys(WIDTHS, 1)


def test_what_holds_is_found_where_latency_falls_with_width() -> None:
    def cost(widths: Widths) -> float:
        return sum(widths.values()) + (10.0 if widths["6"] % 4 else 0.0)

    where = situation(0.7, cost=cost)
    widths = where.fitted(dict.fromkeys(WIDTHS, 1.0))
    scales = [step / 400 for step in range(401)]
    held = [where.holds(where.nearest(dict.fromkeys(WIDTHS, scale))) for scale in scales]
    first_too_wide = where.nearest(dict.fromkeys(WIDTHS, scales[held.index(False)]))

    assert True in held[held.index(False) :], "a wider one is faster than a narrower one"
    assert where.holds(widths) and sum(widths.values()) >= sum(first_too_wide.values()) - len(WIDTHS)


def test_the_most_important_channels_stay() -> None:
    where = situation()
    kept = where.best({"0": 3, "3": 12, "6": 1})

    assert set(kept["0"]) == {i for i, score in enumerate(where.scores["0"]) if score > 5}
    assert list(kept["3"]) == list(range(12)) and where.scores["6"][kept["6"][0]] == 16
