"""The sequence of width settings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hwprune.latency import design

widths = st.lists(st.integers(1, 64), min_size=1, max_size=6, unique=True)
groups = st.dictionaries(st.sampled_from("abcd"), widths, min_size=1)


@given(choices=groups, count=st.integers(0, 30), first=st.integers(0, 10), seed=st.integers(0, 3))
def test_the_sequence_goes_on_where_it_was_and_holds_choices_only(
    choices: dict[str, list[int]], count: int, first: int, seed: int
) -> None:
    whole = design.settings(choices, first + count, seed=seed)

    assert design.settings(choices, count, seed=seed, first=first) == whole[first:]
    assert all(setting[name] in choices[name] for setting in whole for name in choices)
    assert all(setting.keys() == choices.keys() for setting in whole)


@given(choices=groups, seed=st.integers(0, 3))
def test_dense_and_smallest_come_first_and_every_choice_comes_soon(choices: dict[str, list[int]], seed: int) -> None:
    most = max(map(len, choices.values()))
    found = design.settings(choices, 2 + 2 * most, seed=seed)

    assert found[0] == {name: max(values) for name, values in choices.items()}
    assert found[1] == {name: min(values) for name, values in choices.items()}
    for name, values in choices.items():
        assert {setting[name] for setting in found} == set(values)


@given(choices=groups, data=st.data())
def test_settings_around_one_are_at_most_one_choice_away(choices: dict[str, list[int]], data: st.DataObject) -> None:
    at = {name: data.draw(st.sampled_from(values)) for name, values in choices.items()}

    for setting in design.around(choices, at, 5, seed=0):
        for name, values in choices.items():
            assert abs(sorted(values).index(setting[name]) - sorted(values).index(at[name])) <= 1
