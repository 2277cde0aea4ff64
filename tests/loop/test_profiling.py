"""The proof of a table, on its grid and off it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table
from hwprune.loop.profiling import any_widths, checked
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from tests import tiny


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    settings = Settings("100%", runtime="pytorch", multiple=24)
    shape = (3, tiny.SIDE, tiny.SIDE)
    return Subject(tiny.network(), shape, settings, tmp_path / "subject", Silent(), tiny.REFERENCE)


def test_any_width_lies_between_the_smallest_choice_and_the_largest_and_is_the_same_for_a_seed(
    subject: Subject,
) -> None:
    settings = any_widths(subject, 200, seed=3)

    for name, choices in subject.choices.items():
        found = {setting[name] for setting in settings}
        assert (min(found), max(found)) == (min(choices), max(choices))
        assert len(found) > len(choices) or len(choices) == 1
    assert settings == any_widths(subject, 200, seed=3)


def test_a_check_off_the_grid_measures_the_layers_that_it_needs_and_both_checks_are_kept(
    subject: Subject, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    rows = set(measured_table(subject, path).rows)

    held = checked(subject, path, calibration=1, count=2, again=1, anywhere=2)

    table = LatencyTable.load(path)
    assert {one.network for one in held} == {one.network for one in table.held_out}
    assert rows < set(table.rows)
    for one in held:
        assert (one.error.count, len(one.again_ms)) == (2, 1)
        assert one.noise is not None
        for widths in one.widths:
            assert all(layer.fused or layer.at(widths) in table for layer in subject.network.layers)
