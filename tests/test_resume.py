"""A run that is killed, again and again: what is finished is not done again, and the result is the same."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwprune.latency.table import LatencyTable
from hwprune.validation.ledger import Candidate, Ledger
from tests import tiny

# Work is the target and the table prices the channels: no latency measured after the kills decides about widths.
SETTINGS = ("--target", "macs:50%", "--normalisation", "latency", "--milestones", 2, "--multiple", 4)
SETTINGS += ("--method", "isolated")
TRAINING = ("--epochs", 30, "--batch-size", 16)


@dataclass(frozen=True)
class Seen:
    """What lay on the disk at the moment of a kill."""

    stages: dict[str, Any]
    rows: dict[Any, str]
    candidates: dict[str, Candidate]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Story:
    """The killed run, what was seen at each kill, and the copy that was left alone from the third kill on."""

    run: Path
    seen: dict[str, Seen]
    undisturbed: Path
    output: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Kill a run in each of its phases, and go on each time."""
    folder = tmp_path_factory.mktemp("resume")
    run, table, copy = folder / "run", folder / "table.parquet", folder / "copy"
    data = tiny.save_pictures(folder / "pictures.npz", count=240)
    begin = ("prune", tiny.REFERENCE, "--data", data, *SETTINGS, *TRAINING, "--out", run, "--table", table)
    go_on = ("prune", "--resume", run, "--json")
    seen = {}
    for phase, arguments in (("profiling", begin), ("calibrating", go_on), ("building", go_on)):
        _kill(tiny.start(*arguments), lambda phase=phase: PHASES[phase](run, table))
        seen[phase] = _look(run, table)
    _copy(run, table, copy)
    alone = tiny.start("prune", "--resume", copy, "--json")
    _kill(tiny.start(*go_on), lambda: PHASES["training"](run, table))
    seen["training"] = _look(run, table)
    output = _end(tiny.start(*go_on))
    _end(alone)
    return Story(run, seen, copy, output)


def _stages(run: Path) -> dict[str, Any]:
    file = run / "run.json"
    found: dict[str, Any] = json.loads(file.read_bytes())["stages"] if file.exists() else {}
    return found


def _calibrating(run: Path, _: Path) -> bool:
    parts = json.loads((run / "run.json").read_bytes()).get("parts", {})
    return len(parts.get("calibration", ())) >= 2


def _building(run: Path, _: Path) -> bool:
    return (run / "candidates" / "milestone-1" / "model.onnx").exists()


def _training(run: Path, _: Path) -> bool:
    return (run / "log.txt").read_text().count("epoch ") >= 2


PHASES: dict[str, Callable[[Path, Path], bool]] = {
    "profiling": lambda run, table: table.exists(),
    "calibrating": _calibrating,
    "building": _building,
    "training": _training,
}


def _kill(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """SIGKILL as soon as ``ready``."""
    deadline = time.monotonic() + 150
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    process.kill()
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, err


def _end(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out


def _look(run: Path, table: Path) -> Seen:
    ledger = Ledger(run / "ledger.parquet").candidates
    rows = {key: entry.measured_at for key, entry in LatencyTable.load(table).rows.items()}
    kept = {name: content for name, content in tiny.snapshot(run).items() if name.startswith("importance-")}
    return Seen(_stages(run), rows, {candidate.id: candidate for candidate in ledger}, kept)


def _copy(run: Path, table: Path, copy: Path) -> None:
    """The run as it is, with a table of its own."""
    shutil.copytree(run, copy)
    document = json.loads((copy / "run.json").read_bytes())
    document["origin"]["table"] = str(shutil.copy(table, copy / "table.parquet"))
    (copy / "run.json").write_text(json.dumps(document))


def test_the_kills_came_in_four_phases(story: Story) -> None:
    assert list(story.seen) == ["profiling", "calibrating", "building", "training"]
    assert [len(seen.candidates) for seen in story.seen.values()] == [1, 1, 1, 3]
    assert ["calibration" in seen.stages for seen in story.seen.values()] == [False, False, True, True]
    assert "statistics" in story.seen["training"].stages and "finetuned" not in story.seen["training"].stages


def test_it_ends_with_a_certificate(story: Story) -> None:
    document = json.loads(story.output)

    assert document["certificate"]["verdict"] in ("faster", "not faster")
    assert document["pruned"]["macs"] <= 0.5 * document["dense"]["macs"]


@pytest.mark.parametrize("phase", PHASES)
def test_finished_stages_are_not_done_again(story: Story, phase: str) -> None:
    last = _stages(story.run)

    assert {name: last[name] for name in story.seen[phase].stages} == story.seen[phase].stages


@pytest.mark.parametrize("phase", PHASES)
def test_layers_in_the_table_are_not_measured_again(story: Story, phase: str) -> None:
    rows = _look(story.run, story.run.parent / "table.parquet").rows
    again = [key for key, when in story.seen[phase].rows.items() if rows[key] != when]

    # The second pass over noisy layers may be what a kill in the profile leaves to do.
    assert not again if phase != "profiling" else len(again) <= len(rows) // 4


@pytest.mark.parametrize("phase", PHASES)
def test_candidates_and_importances_are_kept(story: Story, phase: str) -> None:
    now = _look(story.run, story.run.parent / "table.parquet")

    assert {name: now.candidates[name] for name in story.seen[phase].candidates} == story.seen[phase].candidates
    assert {name: now.files[name] for name in story.seen[phase].files} == story.seen[phase].files


def test_no_epoch_is_trained_twice(story: Story) -> None:
    numbers = [int(number) for number in re.findall(r"epoch (\d+): loss", (story.run / "log.txt").read_text())]

    assert numbers == sorted(set(numbers))  # an epoch whose line the kill cut off is missing, and none is repeated
    assert len(numbers) >= TRAINING[1] - 1


def test_the_result_is_that_of_a_run_that_nobody_killed(story: Story) -> None:
    for name in ("milestone-1", "target-1", "delivered"):
        plans = [(run / "candidates" / name / "plan.json").read_bytes() for run in (story.run, story.undisturbed)]
        assert plans[0] == plans[1], name
    found, wanted = tiny.snapshot(story.run), tiny.snapshot(story.undisturbed)
    same = ("plan.json", "dense.onnx", "model.onnx", "importance-1.safetensors", "importance-2.safetensors")
    assert [name for name in (*same, "model.safetensors") if found[name] != wanted[name]] == []
    assert _accuracies(story.run) == _accuracies(story.undisturbed)


def _accuracies(run: Path) -> dict[str, Any]:
    stages = _stages(run)
    return {name: stages[name] for name in ("dense", "pruned", "statistics", "finetuned")}
