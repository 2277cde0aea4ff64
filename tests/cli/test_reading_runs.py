"""``hwprune certify`` and ``hwprune validate``: runs that can be read, and those that cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwprune.validation.certify import MOST_REBUILDS, NARROW, Certificate, compare_until_narrow
from tests import tiny
from tests.cli.conftest import Cli, refused

COMMANDS = ("certify", "validate")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_run_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    refused(cli(command, tmp_path), "there is no run in", str(tmp_path))
    refused(cli(command, tmp_path / "nowhere"), "there is no run in")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unfinished_run_is_refused_with_the_command_that_ends_it(cli: Cli, finished: Path, command: str) -> None:
    (finished / "model.onnx").unlink()
    before = tiny.snapshot(finished)

    refused(cli(command, finished), "model.onnx is not there", f"hwprune prune --resume {finished}")
    assert tiny.snapshot(finished) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "run.json is damaged"),
        (b"\xff\xfe", "run.json is damaged"),
        (b"[]", "not of schema 1"),
        (b'{"schema": 99, "settings": {}}', "not of schema 1"),
        (b'{"schema": 1, "settings": 5, "stages": {}, "origin": {}}', "run.json is damaged"),
        (b'{"schema": 1, "settings": {}, "stages": {}, "origin": {}}', "settings cannot be read"),
    ],
)
def test_a_damaged_run_is_refused(cli: Cli, tmp_path: Path, command: str, content: bytes, words: str) -> None:
    (tmp_path / "run.json").write_bytes(content)

    refused(cli(command, tmp_path), words)
    assert tiny.snapshot(tmp_path) == {"run.json": content}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_network_is_refused(cli: Cli, finished: Path, command: str) -> None:
    (finished / "model.onnx").write_bytes(b"not ONNX")
    before = tiny.snapshot(finished)

    outcome = cli(command, finished)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err.partition("error ")[0]
    assert tiny.snapshot(finished) == before


def test_resuming_with_a_damaged_ledger_is_refused_and_spares_it(cli: Cli, finished: Path) -> None:
    (finished / "ledger.parquet").write_bytes(b"PAR1 not really")
    before = tiny.snapshot(finished)

    refused(cli("prune", "--resume", finished), "the ledger cannot be read", "ledger.parquet")
    assert tiny.snapshot(finished) == before


def test_resuming_with_a_damaged_plan_is_refused_and_spares_it(cli: Cli, finished: Path) -> None:
    stages = json.loads((finished / "run.json").read_bytes())["stages"]
    plan = finished / "candidates" / stages["target"] / "plan.json"
    plan.write_text(plan.read_text()[:-20])
    before = tiny.snapshot(finished)

    refused(cli("prune", "--resume", finished), "the plan is damaged", str(plan))
    assert tiny.snapshot(finished) == before


def test_a_finished_run_is_told_again_by_resume(cli: Cli, finished: Path) -> None:
    before = tiny.snapshot(finished)
    outcome = cli("prune", "--resume", finished)

    assert outcome.code == 0, outcome.err
    assert "dense beside pruned" in outcome.out
    assert tiny.snapshot(finished) == before


def test_certify_writes_a_certificate_and_tells_it(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwprune.validation.certify.NARROW", NARROW)  # as users have it, not as other tests do
    outcome = cli("certify", finished, "--blocks", 4, "--json")
    written = Certificate.load(finished / "certificate.json")

    assert outcome.code == (0 if written.verdict == "faster" else 3)
    assert outcome.document["summary"] == written.summary
    rebuilds = list(zip(written.dense_blocks_ms, written.pruned_blocks_ms, strict=True))
    # No rebuild more than the interval took to be narrow: three on a quiet machine.
    assert compare_until_narrow(rebuilds, fewest=3, most=MOST_REBUILDS) == written.comparison
    assert len(rebuilds) <= MOST_REBUILDS
    assert len(rebuilds) == 3 or compare_until_narrow(rebuilds[:-1], fewest=3, most=MOST_REBUILDS).uncertainty > NARROW


def test_certify_with_another_runtime_and_batch_leaves_the_run_s_own_certificate(cli: Cli, finished: Path) -> None:
    own = (finished / "certificate.json").read_bytes()
    for options in (("--batch", 2), ("--runtime", "pytorch", "--batch", 2)):
        outcome = cli("certify", finished, "--blocks", 3, "--json", *options)
        assert outcome.code in (0, 3), outcome.err
        assert outcome.document["batch"] == 2
        assert list(outcome.document["clocks"]) == ["note"] and "processor core" in outcome.document["clocks"]["note"]

    assert (finished / "certificate.json").read_bytes() == own
    found = sorted(path.name for path in (finished / "certificate").iterdir())
    assert found == ["onnxruntime-cpu-fp32-batch2.json", "pytorch-cpu-fp32-batch2.json"]
    assert sorted(path.name for path in (finished / "batch-2").iterdir()) == ["dense.onnx", "model.onnx"]


def test_certify_needs_three_rebuilds_and_the_device(cli: Cli, finished: Path) -> None:
    refused(cli("certify", finished, "--rebuilds", 1), "too few", "ask for 3")
    refused(cli("certify", finished, "--device", "rtx9999"), "no device called")


def test_validate_builds_both_networks_and_times_them(cli: Cli, finished: Path) -> None:
    document = cli("validate", finished, "--json").document

    assert [document[name]["ok"] for name in ("dense", "pruned")] == [True, True]
    assert document["pruned"]["size_bytes"] < document["dense"]["size_bytes"]
    assert document["dense"]["samples_ms"]
