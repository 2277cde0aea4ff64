"""``hwprune prune --max-memory``: a second bound, met by the engine as measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, refused


def test_a_run_ends_within_both_bounds_as_measured(prune: Cli, tmp_path: Path) -> None:
    done = prune("--max-memory", "90%", "--target", "macs:90%", "--epochs", 0, "--json")

    assert done.code == 0, done.err
    dense, *_, delivered = done.document["candidates"]
    told = [one["engines"][0]["activation_bytes"] for one in (dense, delivered)]
    assert told[1] <= 0.9 * told[0]
    assert delivered["macs"] <= 0.9 * dense["macs"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["max_memory"] == "90%"


def test_a_bound_that_no_width_meets_is_one_error(prune: Cli) -> None:
    refused(prune("--max-memory", "1KiB"), "--max-memory 1 KiB is out of reach", "the least that the engine")


def test_a_runtime_that_tells_nothing_is_refused(prune: Cli) -> None:
    pytest.importorskip("openvino")
    refused(prune("--runtime", "openvino", "--max-memory", "50%"), "openvino does not tell", "memory:50%")


def test_a_bound_that_cannot_be_read_is_refused_before_anything_begins(prune: Cli, tmp_path: Path) -> None:
    refused(prune("--max-memory", "lots"), "cannot read the memory 'lots'")
    assert not (tmp_path / "run").exists()
