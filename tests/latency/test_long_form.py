"""The flat frame has every measurement of a table."""

from __future__ import annotations

from hypothesis import given, settings

from hwprune.latency.long_form import COLUMNS, long_form
from hwprune.latency.table import LatencyTable
from tests.latency.strategies import tables


@settings(max_examples=40)
@given(tables)
def test_every_measurement_is_one_row(table: LatencyTable) -> None:
    frame = long_form(table)
    counts = frame["measurement"].value_counts().to_dict()

    assert tuple(frame.columns) == COLUMNS
    assert counts.get("layer", 0) == sum(len(entry.samples_ms) for entry in table.rows.values())
    assert counts.get("network", 0) == sum(len(sample.samples_ms) for sample in table.samples)
    assert counts.get("layer in a network", 0) == sum(len(sample.layer_ms) for sample in table.samples)
    held = sum(len(held.measured_ms) + len(held.again_ms) for held in table.held_out)
    assert counts.get("held-out network", 0) == held
    assert frame["latency_ms"].notna().all()
