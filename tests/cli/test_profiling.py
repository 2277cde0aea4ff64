"""``hwprune profile``: tables that grow, and devices that are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwprune.latency.table import LatencyTable
from tests import tiny
from tests.cli.conftest import Cli, refused

SMALL = ("--device", "cpu", "--runtime", "pytorch", "--model", tiny.REFERENCE, "--multiple", 24)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_card_that_is_not_here_is_refused_with_what_is_here(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"

    refused(cli("profile", "--device", "rtx3090", "--table", table), "rtx3090, which is not in this machine", "here: ")
    assert not table.exists()


def test_an_unknown_device_is_refused_with_names_like_it(cli: Cli) -> None:
    refused(cli("profile", "--device", "rtx309"), "no device called 'rtx309'", "rtx3090")


def test_a_second_profile_measures_only_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    first = cli("profile", *SMALL, "--table", table, "--held-out", 0, "--json").document
    before = {key: entry.measured_at for key, entry in LatencyTable.load(table).rows.items()}
    second = cli("profile", *SMALL, "--table", table, "--held-out", 0)

    assert first["rows"] == len(before) > 0
    assert f"table: {table}" in second.out
    assert {key: entry.measured_at for key, entry in LatencyTable.load(table).rows.items()} == before


def test_a_damaged_table_is_refused_and_left_as_it_is(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    table.write_bytes(b"PAR1 not really")

    refused(cli("profile", *SMALL, "--table", table), "the latency table is damaged", str(table))
    assert table.read_bytes() == b"PAR1 not really"


def test_an_unknown_model_is_refused_before_anything_is_measured(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"

    refused(cli("profile", *SMALL, "--model", "resnet5", "--table", table), "no network 'resnet5'")
    assert not table.exists()
