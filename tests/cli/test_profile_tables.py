"""``hwprune profile`` on tables that are there: look, export, merge, check, add; and several hands on one table."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from hwprune.latency.held_out import HeldOut
from hwprune.latency.table import LatencyTable
from tests import tiny
from tests.cli.conftest import Cli, refused
from tests.latency.rows import CONV, FINGERPRINT, entry

SMALL = ("--device", "cpu", "--runtime", "pytorch", "--multiple", 24, "--held-out", 0)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A table made by hand: two layers, one check."""
    held = HeldOut("resnet18", ({"a": 8}, {"a": 4}), (1.0, 0.5), (1.1, 0.5), (1.05,), "2026-01-02T00:00:00+00:00")
    rows = [entry(CONV, 0.5, activation_bytes=4096), entry(CONV.at(64, 32), 0.3)]
    LatencyTable(FINGERPRINT).add(rows).with_held_out(held).save(tmp_path / "made.parquet")
    return tmp_path / "made.parquet"


def test_show_says_what_is_in_a_table_without_its_device(cli: Cli, made: Path) -> None:
    shown = cli("profile", "--show", "--table", made)

    assert shown.code == 0, shown.err
    for word in (
        "Some CPU",
        "onnxruntime",
        "2: 2 conv",
        "of 1 of 2 measurements, up to 4 KiB",
        "resnet18",
        "4.5 %",
        "days ago",
    ):
        assert word in shown.out, shown.out
    document = cli("profile", "--show", "--table", made, "--json").document
    assert document["rows"] == 2
    assert document["fingerprint"] == FINGERPRINT
    assert document["checks"][0]["error"]["median"] == pytest.approx((1 - 1.0 / 1.1) / 2)


def test_show_of_a_table_that_is_not_there_is_one_error(cli: Cli, tmp_path: Path) -> None:
    refused(cli("profile", "--show", "--table", tmp_path / "none.parquet"), "no latency table here")


def test_an_export_has_one_row_a_measurement(cli: Cli, made: Path, tmp_path: Path) -> None:
    printed = cli("profile", "--export", "csv", "--table", made)
    frame = pd.read_csv(io.StringIO(printed.out))
    layers = frame[frame["measurement"] == "layer"]

    assert len(layers) == 2 * 3  # entries, blocks
    assert set(layers["latency_ms"]) == {0.5, 0.3}
    assert set(layers["out_channels"]) == {64, 32}
    assert set(layers["kernel_px"]) == {"3x3"}
    held = frame[frame["measurement"] == "held-out network"]
    assert held[["predicted_ms", "latency_ms"]].to_numpy().tolist() == [[1.0, 1.1], [0.5, 0.5], [1.0, 1.05]]

    file = tmp_path / "export.json"
    assert str(file) in cli("profile", "--export", file, "--table", made).out
    assert len(json.loads(file.read_text())["measurements"]) == len(frame)
    before = file.read_bytes()
    refused(cli("profile", "--export", file, "--table", made), "there already")
    assert file.read_bytes() == before
    refused(cli("profile", "--export", "xlsx", "--table", made), "cannot export as 'xlsx'")


def test_merge_takes_in_other_tables_and_leaves_them(cli: Cli, made: Path, tmp_path: Path) -> None:
    LatencyTable(FINGERPRINT).add([entry(CONV.at(32, 32), 0.2)]).save(tmp_path / "other.parquet")
    other, target = (tmp_path / "other.parquet").read_bytes(), tmp_path / "new.parquet"

    done = cli("profile", "--table", target, "--merge", made, "--merge", tmp_path / "other.parquet", "--json")

    assert done.document["rows"] == len(LatencyTable.load(target)) == 3
    assert len(LatencyTable.load(made)) == 2
    assert (tmp_path / "other.parquet").read_bytes() == other


@pytest.mark.parametrize("spoilt", ["device", "damaged", "missing", "itself"])
def test_a_merge_that_fails_changes_nothing(cli: Cli, made: Path, tmp_path: Path, spoilt: str) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    LatencyTable(FINGERPRINT).add([entry(CONV.at(32, 32), 0.2)]).save(good)
    if spoilt == "device":
        LatencyTable(FINGERPRINT | {"cpu": "Another"}).add([entry(CONV, 0.5)]).save(bad)
    elif spoilt == "damaged":
        bad.write_bytes(b"PAR1 not really")
    before = tiny.snapshot(tmp_path)

    refused(cli("profile", "--table", made, "--merge", good, "--merge", made if spoilt == "itself" else bad))
    assert tiny.snapshot(tmp_path) == before


def test_a_table_of_another_machine_is_not_merged_into_the_users_own(cli: Cli, made: Path, tmp_path: Path) -> None:
    before = tiny.snapshot(tmp_path)

    refused(cli("profile", "--device", "cpu", "--runtime", "pytorch", "--merge", made), "Some CPU")
    assert tiny.snapshot(tmp_path) == before


def test_a_model_is_added_to_a_table_that_is_there_and_to_no_other(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    refused(cli("profile", *SMALL, "--add-model", tiny.REFERENCE, "--table", table), "no latency table here")
    assert not table.exists()

    first = cli("profile", *SMALL, "--model", tiny.REFERENCE, "--table", table, "--json").document["rows"]
    added = cli("profile", *SMALL, "--batch", 2, "--add-model", tiny.REFERENCE, "--table", table, "--json").document
    assert added["rows"] == 2 * first


def test_both_methods_measure_and_are_checked_and_a_check_measures_networks_only(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    words = ("--device", "cpu", "--multiple", 24, "--table", table, "--json")
    refused(cli("profile", *words, "--check"), "no latency table here")

    document = cli("profile", *words, "--model", tiny.REFERENCE, "--method", "both", "--held-out", 2).document
    before = LatencyTable.load(table)
    again = cli("profile", *words, "--check", "--method", "in-context", "--held-out", 1).document
    after = LatencyTable.load(table)

    assert len(before) > 0
    assert document["samples"][tiny.REFERENCE] == len(before.samples) > 0
    assert {check["method"]: check["error"]["count"] for check in document["checks"]} == {
        "isolated": 2,
        "in-context": 2,
    }
    assert {check["method"]: check["error"]["count"] for check in again["checks"]} == {"isolated": 2, "in-context": 1}
    assert (dict(after.rows), after.samples) == (dict(before.rows), before.samples)


def test_a_check_needs_to_know_the_networks(cli: Cli, made: Path) -> None:
    LatencyTable(FINGERPRINT).add([entry(CONV, 0.5)]).save(made.with_name("bare.parquet"))

    bare = made.with_name("bare.parquet")
    refused(cli("profile", "--device", "cpu", "--check", "--table", bare), "does not say which networks", "--model")


def test_what_was_measured_when_the_time_is_up_is_kept_and_the_same_command_goes_on(cli: Cli, tmp_path: Path) -> None:
    command = ("profile", *SMALL, "--model", tiny.REFERENCE, "--table", tmp_path / "table.parquet", "--json")

    stopped = cli(*command, "--multiple", 8, "--budget", "0.2s")
    assert stopped.code == 0, stopped.err
    assert "the time is up" in stopped.err
    assert 0 < stopped.document["rows"] < cli(*command, "--multiple", 8).document["rows"]


@pytest.mark.parametrize("time", ["10", "soon", "0s", "-5min", "1d"])
def test_a_time_of_another_form_is_refused(cli: Cli, time: str) -> None:
    refused(cli("profile", *SMALL, "--model", tiny.REFERENCE, "--budget", time), "cannot read the time", "10min")


@pytest.mark.parametrize(
    "options",
    [
        ("--show", "--check"),
        ("--show", "--model", "resnet18"),
        ("--merge", "a.parquet", "--export", "csv"),
        ("--model", "resnet18", "--add-model", "resnet50"),
        ("--check", "--add-model", "resnet50"),
    ],
)
def test_one_thing_at_a_time(cli: Cli, options: tuple[str, ...]) -> None:
    refused(cli("profile", "--device", "cpu", *options), "do not go together", options[0])


def test_measuring_needs_a_device(cli: Cli) -> None:
    refused(cli("profile", "--model", "resnet18"), "--device is missing")


def test_two_profilers_that_write_one_table_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two real processes with half of their layers in common."""
    table, alone = tmp_path / "table.parquet", tmp_path / "alone.parquet"
    layers = []
    for multiple in (24, 12):
        common = ("--device", "cpu", "--runtime", "pytorch", "--model", tiny.REFERENCE, "--held-out", 0)
        layers.append((*common, "--multiple", multiple))
    together = [tiny.start("profile", *words, "--table", table) for words in layers]
    for process in together:
        assert process.communicate(timeout=200) and process.returncode == 0
    for words in layers:
        assert tiny.start("profile", *words, "--table", alone).communicate(timeout=200)

    assert set(LatencyTable.load(table).rows) == set(LatencyTable.load(alone).rows)
