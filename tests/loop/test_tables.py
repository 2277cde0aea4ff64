"""Which table serves a device: the user's own, else one that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hwprune.device import resolve
from hwprune.errors import ProfileError
from hwprune.latency.profiler import fingerprint_of
from hwprune.latency.table import LatencyTable
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.tables import begin_with_shipped, check_is_of, found_table, table_path, table_to_read
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests import tiny
from tests.latency.rows import CONV, entry

RUNTIME = PyTorchRuntime()
SETTINGS = Settings("60%", device="cpu", runtime="pytorch")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "README.md").write_text("tables")
    (folder / "damaged.parquet").write_bytes(b"PAR1 not really")
    return folder


def _mine(**other: str) -> LatencyTable:
    fingerprint = {**fingerprint_of(RUNTIME, resolve("cpu")), **other}
    return LatencyTable(fingerprint).add([entry(CONV, 0.5), entry(CONV.at(64, 32), 0.3)])


def _of_card(count: int, **other: str) -> LatencyTable:
    fingerprint = {"device": "cuda:0", "gpu": "NVIDIA GeForce RTX 3090", "runtime": "tensorrt_rtx", "precision": "fp32"}
    return LatencyTable(fingerprint | other).add([entry(CONV.at(64, width), 0.1) for width in range(1, count + 1)])


def test_the_users_own_table_begins_with_the_shipped_one_of_this_hardware(shipped: Path, tmp_path: Path) -> None:
    _mine(cpu="Another CPU").save(shipped / "a.parquet")
    _mine(version="0.9").save(shipped / "b.parquet")
    _mine(device="cpu").save(shipped / "c.parquet")
    before, own = tiny.snapshot(shipped), tmp_path / "own.parquet"

    begin_with_shipped(own, SETTINGS, Silent(), shipped=shipped)

    assert dict(LatencyTable.load(own).rows) == dict(_mine().rows)
    assert tiny.snapshot(shipped) == before
    assert found_table(own, SETTINGS, shipped=shipped) == own


def test_the_shipped_table_of_this_hardware_is_looked_into_until_the_user_has_one(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HWPRUNE_PROFILES", str(tmp_path / "own"))
    own = table_path(SETTINGS)

    _mine(version="0.9").save(shipped / "a.parquet")
    assert table_to_read(SETTINGS, shipped=shipped) == own
    _mine().save(shipped / "b.parquet")
    assert table_to_read(SETTINGS, shipped=shipped) == shipped / "b.parquet"
    _mine().save(own)
    assert table_to_read(SETTINGS, shipped=shipped) == own


OTHER = {"cpu": "Another CPU", "cpu_family_model_stepping": "0/0/0", "flags": "mmx", "version": "0.9", "threads": "7"}


@pytest.mark.parametrize("other", [{key: value} for key, value in {**OTHER, "precision": "bf16"}.items()])
def test_a_shipped_table_of_other_hardware_or_software_is_no_beginning(
    other: dict[str, str], shipped: Path, tmp_path: Path
) -> None:
    _mine(**other).save(shipped / "a.parquet")
    own = tmp_path / "own.parquet"

    begin_with_shipped(own, SETTINGS, Silent(), shipped=shipped)

    assert not own.exists()


def test_a_table_that_the_user_has_is_left_as_it_is(shipped: Path, tmp_path: Path) -> None:
    _mine().save(shipped / "a.parquet")
    own = tmp_path / "own.parquet"
    replace(_mine(), rows={}).save(own)
    before = own.read_bytes()

    begin_with_shipped(own, SETTINGS, Silent(), shipped=shipped)

    assert own.read_bytes() == before


@NO_GPU
def test_the_largest_shipped_table_of_a_card_that_is_not_here_predicts_for_it(shipped: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    card, own = Settings("60%", device="rtx3090"), tmp_path / "own.parquet"
    _of_card(9, gpu="NVIDIA GeForce RTX 3090 Ti").save(shipped / "a.parquet")
    _of_card(9, precision="fp16").save(shipped / "b.parquet")
    _of_card(9, runtime="pytorch").save(shipped / "c.parquet")

    assert found_table(own, card, shipped=shipped) == own
    _of_card(2).save(shipped / "d.parquet")
    _of_card(3).save(shipped / "e.parquet")
    _of_card(1).save(shipped / "f.parquet")
    assert found_table(own, card, shipped=shipped) == shipped / "e.parquet"
    _of_card(1).save(own)
    assert found_table(own, card, shipped=shipped) == own


@NO_GPU
def test_a_table_of_something_else_is_told_from_one_of_the_device() -> None:
    pytest.importorskip("tensorrt_rtx")
    card = Settings("60%", device="rtx3090")

    check_is_of(_of_card(1), card)
    check_is_of(_mine(), SETTINGS)
    for table, settings in ((_mine(), card), (_of_card(1, precision="fp16"), card), (_mine(cpu="Another"), SETTINGS)):
        with pytest.raises(ProfileError):
            check_is_of(table, settings)


def test_a_table_says_what_it_holds() -> None:
    assert _mine().counted == "2 layers"
    assert replace(_mine(), rows={}).counted == "nothing"
