"""The run directory: each finished stage is remembered, and a kill at any time leaves it readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwprune.errors import RunError, StorageError
from hwprune.run import CONTENT, Run
from tests.tiny import snapshot


def test_a_stage_is_done_once_and_remembered_by_another_process(tmp_path: Path) -> None:
    calls: list[int] = []
    run = Run.create(tmp_path, {})

    def compute() -> dict[str, object]:
        calls.append(1)
        return {"ratio": 0.6, "widths": (8, 16)}

    first = run.once("search", compute)
    again = Run.resume(tmp_path).once("search", compute)

    assert first == again == {"ratio": 0.6, "widths": [8, 16]}
    assert calls == [1]


def test_a_stage_that_fails_is_not_remembered(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {})
    with pytest.raises(ZeroDivisionError):
        run.once("search", lambda: 1 / 0)

    assert Run.resume(tmp_path).stages == {}


def test_parts_of_a_stage_survive(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {})
    assert run.kept("calibration") is None
    run.keep("calibration", [0.5])
    run.keep("calibration", [0.5, 0.7])

    assert Run.resume(tmp_path).kept("calibration") == [0.5, 0.7]


def test_settings_and_origin_come_back(tmp_path: Path) -> None:
    Run.create(tmp_path, {"target": "60%"}, origin={"model": "resnet50"})
    found = Run.resume(tmp_path)

    assert (found.settings, found.origin) == ({"target": "60%"}, {"model": "resnet50"})


def test_a_new_run_forgets_all_of_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    Run.create(tmp_path, {}).once("dense", lambda: 1)
    for pattern in CONTENT:
        file = tmp_path / pattern.replace("*", "1")
        folder = "." not in file.name
        (file / "deep").mkdir(parents=True) if folder else file.write_bytes(b"old")
    for name in ("weights.safetensors", "notes.json", "table.parquet"):
        (tmp_path / name).write_bytes(b"mine")
    Run.create(tmp_path, {}, force=True)

    assert sorted(snapshot(tmp_path)) == ["notes.json", "run.json", "table.parquet", "weights.safetensors"]
    assert Run.resume(tmp_path).stages == {}


def test_an_old_run_is_not_replaced_without_force(tmp_path: Path) -> None:
    Run.create(tmp_path, {})
    before = snapshot(tmp_path)
    with pytest.raises(RunError, match="--force"):
        Run.create(tmp_path, {})

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_files_that_are_no_run_are_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(RunError, match="it is no run"):
        Run.create(tmp_path, {}, force=force)

    assert snapshot(tmp_path) == {"model.safetensors": b"mine"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": 1, "settings": []}'])
def test_a_damaged_run_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json"):
        Run.resume(tmp_path)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        Run.create(tmp_path / "file", {})


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    Run.create(tmp_path, {"target": "60%"}).once("dense", lambda: {"top1": 0.9})

    assert json.loads((tmp_path / "run.json").read_bytes())["stages"] == {"dense": {"top1": 0.9}}
    assert "dense finished" in (tmp_path / "log.txt").read_text()
