"""Latency tables as values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from hwprune.errors import NotMeasuredError, ProfileError
from hwprune.latency.entry import SMALLEST_RATIO
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from tests.latency.rows import CONV, FINGERPRINT, entry
from tests.latency.strategies import layers, tables


def table_of(*widths: tuple[int, int]) -> LatencyTable:
    """A table of `CONV` at these widths, each with ratio c_in * c_out."""
    return LatencyTable(FINGERPRINT).add(entry(CONV.at(a, b), a * b, reference_ms=2.0) for a, b in widths)


def same(one: LatencyTable, other: LatencyTable) -> bool:
    """Whether two tables hold the same rows, samples and checks."""
    return (one.rows, one.held_out, one.samples) == (other.rows, other.held_out, other.samples)


@given(one=tables, other=tables)
def test_merging_commutes(one: LatencyTable, other: LatencyTable) -> None:
    assert same(one.merge(other), other.merge(one))


@given(one=tables, other=tables, third=tables)
def test_merging_is_associative_and_merging_again_changes_nothing(
    one: LatencyTable, other: LatencyTable, third: LatencyTable
) -> None:
    merged = one.merge(other).merge(third)

    assert same(merged, one.merge(other.merge(third)))
    assert same(merged, merged.merge(other))


@given(one=tables, other=tables)
def test_no_row_is_lost_in_a_merge(one: LatencyTable, other: LatencyTable) -> None:
    assert set(one.merge(other).rows) == set(one.rows) | set(other.rows)


@given(table=tables, layer=layers)
def test_a_lookup_finds_exactly_this_layer_or_says_so(table: LatencyTable, layer: Layer) -> None:
    if layer in table:
        assert table.lookup(layer).layer == layer
        assert table.ms(layer) > 0
    else:
        with pytest.raises(NotMeasuredError):
            table.lookup(layer)


def test_a_missing_layer_is_named_with_its_neighbours_and_the_command() -> None:
    table = table_of((64, 64), (64, 48), (16, 16))
    expected = "\n".join(
        [
            "latency of conv 64→56 3×3 on 8×8 was never measured",
            "  where   a table that was not saved",
            "  effect  nearest entries: conv 64→64 3×3 on 8×8, conv 64→48 3×3 on 8×8, conv 16→16 3×3 on 8×8",
            "  fix     run `hwprune profile --runtime onnxruntime --precision fp32`",
        ]
    )

    with pytest.raises(NotMeasuredError) as raised:
        table.lookup(CONV.at(64, 56))

    assert str(raised.value) == expected


def test_neighbours_are_of_the_same_geometry_only() -> None:
    table = table_of((64, 64)).add([entry(replace(CONV, size=(9, 9)), 1.0)])

    assert [found.layer for found in table.nearest(CONV.at(64, 32), 5)] == [CONV]
    assert table.widths(CONV) == ((64, 64),)


def test_milliseconds_are_the_ratio_times_the_tables_reference() -> None:
    table = table_of((1, 2), (2, 2)).add([entry(CONV.at(4, 2), 8.0, reference_ms=1000.0)])

    assert table.reference_ms == 2.0  # of three rows, one of them measured in a slow moment
    assert table.ms(CONV.at(4, 2)) == 16.0


def test_the_context_closest_to_a_network_counts() -> None:
    alone, framed, engine = (entry(CONV, ratio, context=c) for ratio, c in ((3, "alone"), (2, "framed"), (1, "engine")))
    table = LatencyTable(FINGERPRINT).add([framed, alone])

    assert table.lookup(CONV) == framed
    assert table.add([engine]).lookup(CONV) == engine
    assert len(table.add([engine])) == 3


def test_a_frame_is_subtracted_and_nothing_costs_zero_or_less() -> None:
    assert entry(CONV, 3.0, frame_ratio=1.0).ratio == 2.0
    assert entry(CONV, 1.0, frame_ratio=1.5).ratio == SMALLEST_RATIO


def test_the_later_of_two_measurements_counts() -> None:
    old = entry(CONV, 1.0)
    new = replace(entry(CONV, 2.0), measured_at="2026-02-01T00:00:00+00:00")
    table = LatencyTable(FINGERPRINT)

    assert table.add([new, old]).lookup(CONV) == table.add([old, new]).lookup(CONV) == new


@pytest.mark.parametrize(("key", "value"), [("cpu", "Other CPU"), ("version", "1.1"), ("threads", "2")])
def test_tables_of_other_hardware_or_software_do_not_merge(key: str, value: str) -> None:
    other = LatencyTable({**FINGERPRINT, key: value}, source="other.parquet")

    with pytest.raises(ProfileError, match=f"other.parquet has {key} {value}"):
        table_of((1, 1)).merge(other)


def test_what_does_not_matter_to_latency_may_differ() -> None:
    other = LatencyTable({**FINGERPRINT, "os": "Linux 9", "gpu": "none"})

    assert len(table_of((1, 1)).merge(other)) == 1


def test_an_empty_table_has_no_reference_time() -> None:
    with pytest.raises(ProfileError, match="empty"):
        _ = LatencyTable(FINGERPRINT).reference_ms
