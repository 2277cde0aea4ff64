"""Tables on disk: what is written is read, what is damaged is refused, and no writer loses another's rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from hwprune.errors import ProfileError
from hwprune.latency import storage
from hwprune.latency.table import LatencyTable
from tests.latency.rows import CONV, FINGERPRINT, entry
from tests.latency.strategies import tables

TABLE = LatencyTable(FINGERPRINT).add(entry(CONV.at(8, c_out), c_out) for c_out in range(1, 30))

CHILD = """
import os, resource, signal, sys
from pathlib import Path
from hwprune.errors import HwpruneError
from hwprune.latency import storage
from hwprune.latency.table import LatencyTable
from tests.latency.rows import CONV, FINGERPRINT, entry
path = Path(sys.argv[1])
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs ``code`` behind the imports above."""
    command = [sys.executable, "-c", CHILD + textwrap.dedent(code), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables)
def test_what_is_saved_is_loaded(tmp_path: Path, table: LatencyTable) -> None:
    path = tmp_path / "table.parquet"
    path.unlink(missing_ok=True)
    table.save(path)
    loaded = LatencyTable.load(path)

    assert (dict(loaded.rows), loaded.held_out) == (dict(table.rows), table.held_out)
    assert (loaded.samples, dict(loaded.structures)) == (table.samples, dict(table.structures))
    assert loaded.fingerprint == table.fingerprint
    assert loaded.source == str(path)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=tables, other=tables)
def test_saving_onto_a_table_merges_with_it(tmp_path: Path, one: LatencyTable, other: LatencyTable) -> None:
    path = tmp_path / "table.parquet"
    path.unlink(missing_ok=True)
    one.save(path)
    returned = other.save(path)

    loaded = LatencyTable.load(path)
    assert returned.rows == loaded.rows == one.merge(other).rows
    assert returned.samples == loaded.samples == one.merge(other).samples


def test_people_can_read_it_with_pandas(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "t.parquet")
    frame = pd.read_parquet(tmp_path / "t.parquet")

    assert list(frame["ms"]) == [TABLE.ms(CONV.at(8, c_out)) for c_out in frame["c_out"]]
    assert list(frame["c_out"]) == sorted(frame["c_out"])


def test_a_table_of_the_first_schema_which_had_no_networks_is_read_and_written_in_the_present_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.parquet"
    TABLE.save(path)
    arrow = pq.read_table(path)
    about = json.loads(arrow.schema.metadata[storage.METADATA_KEY])
    old = {**about, "schema": 1}
    del old["structures"]
    arrow = arrow.drop_columns([*storage._SAMPLE_COLUMNS]).replace_schema_metadata(
        {storage.METADATA_KEY: json.dumps(old)}
    )
    pq.write_table(arrow, path, write_page_checksum=True)

    loaded = LatencyTable.load(path)

    assert (dict(loaded.rows), loaded.samples) == (dict(TABLE.rows), ())
    assert dict(loaded.save(path).rows) == dict(LatencyTable.load(path).rows) == dict(TABLE.rows)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="hwprune profile"):
        LatencyTable.load(tmp_path / "none.parquet")


def test_every_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    TABLE.save(path)
    whole = path.read_bytes()
    damages = [b"", b"not a table", whole[:-9], whole[: len(whole) // 2], whole[len(whole) // 3 :]]
    for place in range(4, len(whole) // 2, 97):  # the data pages, which carry checksums
        damages.append(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    refused = 0
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            loaded = LatencyTable.load(path)
        except ProfileError as error:
            refused += 1
            assert str(path) in str(error)
            with pytest.raises(ProfileError):
                TABLE.save(path)
        else:  # a byte that means nothing
            assert dict(loaded.rows) == dict(TABLE.rows)
            continue
        assert path.read_bytes() == damaged

    assert refused > len(damages) // 2


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    before = path.read_bytes()

    with pytest.raises(ProfileError, match="no table of hwprune"):
        TABLE.save(path)
    assert path.read_bytes() == before


def test_a_foreign_schema_or_fingerprint_is_refused_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    monkeypatch.setattr("hwprune.latency.storage.SCHEMA", 99)
    TABLE.save(path)
    monkeypatch.undo()
    with pytest.raises(ProfileError, match="schema 99, this version reads 1 and 2"):
        LatencyTable.load(path)
    path.unlink()
    LatencyTable({**FINGERPRINT, "cpu": "another"}).add([entry(CONV, 1.0)]).save(path)
    before = path.read_bytes()
    with pytest.raises(ProfileError, match="cpu another"):
        TABLE.save(path)

    assert path.read_bytes() == before


def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    TABLE.save(path)
    before = path.read_bytes()
    killed = child(
        """
        def die(self, target): os.kill(os.getpid(), signal.SIGKILL)
        Path.replace = die
        LatencyTable(FINGERPRINT).add([entry(CONV, 1.0)]).save(path)
        """,
        path,
    )
    killed.communicate(timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    assert len(TABLE.add([entry(CONV, 1.0)]).save(path)) == len(TABLE) + 1
    assert not list(tmp_path.glob(".*.tmp"))  # the next writer cleans up


def test_a_full_disk_is_a_storage_error_and_the_old_file_survives(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    TABLE.save(path)
    before = path.read_bytes()
    writer = child(
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a write past it fails as on a full disk
        try:
            LatencyTable(FINGERPRINT).add([entry(CONV, 1.0)]).save(path)
        except HwpruneError as error:
            print(type(error).__name__, error)
        """,
        path,
    )
    said, failed = writer.communicate(timeout=60)

    assert said.startswith("StorageError cannot write"), failed
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_two_processes_that_write_one_table_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    code = """
        first = int(sys.argv[2])
        for c_out in range(first, first + 10):
            LatencyTable(FINGERPRINT).add([entry(CONV.at(8, c_out), 1.0)]).save(path)
        """
    writers = [child(code, path, first) for first in (1, 101)]
    for writer in writers:
        _, failed = writer.communicate(timeout=120)
        assert writer.returncode == 0, failed

    assert {b for _, b in LatencyTable.load(path).widths(CONV)} == {*range(1, 11), *range(101, 111)}
