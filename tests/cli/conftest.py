"""The commands as users type them, and one finished run for all tests that only read it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwprune.cli.main import main
from hwprune.cli.show import ERR, OUT
from tests import tiny


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@dataclass(frozen=True)
class Finished:
    """A finished run, and what the command printed."""

    directory: Path
    outcome: Outcome


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs ``hwprune ARGUMENTS`` in this process; tables of the user lie in the test's own folder."""
    monkeypatch.setenv("HWPRUNE_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("COLUMNS", "140")  # for processes that a test starts; consoles here know their width already
    for console in (OUT, ERR):
        monkeypatch.setattr(console, "width", 140)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["hwprune", *map(str, arguments)])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        assert isinstance(code, int)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """What --data takes."""
    (tmp_path / "data").mkdir()
    return tiny.save_pictures(tmp_path / "data" / "pictures.npz")


@pytest.fixture
def prune(cli: Cli, pictures: str, tmp_path: Path) -> Cli:
    """``hwprune prune`` of the small network in seconds; further arguments come last and so win."""
    usual = {
        "target": "macs:70%",
        "data": pictures,
        "out": tmp_path / "run",
        "runtime": "pytorch",
        "normalisation": "memory",
        "multiple": 16,
        "milestones": 1,
        "epochs": 1,
        "batch-size": 16,
    }
    options = [word for name, value in usual.items() for word in (f"--{name}", value)]

    def run(*arguments: object, model: str = tiny.REFERENCE) -> Outcome:
        return cli("prune", model, *options, *arguments)

    return run


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run by a real process, with ONNX Runtime, down to a certificate."""
    folder = tmp_path_factory.mktemp("finished")
    data = tiny.save_pictures(folder / "pictures.npz")
    settings = ("--target", "80%", "--multiple", 16, "--milestones", 1, "--epochs", 1, "--batch-size", 16, "--json")
    settings += ("--normalisation", "memory-measured")
    place = ("--out", folder / "run", "--table", folder / "table.parquet")
    process = tiny.start("prune", tiny.REFERENCE, "--data", data, *settings, *place)
    out, err = process.communicate(timeout=200)
    return Finished(folder / "run", Outcome(process.returncode, out, err))


@pytest.fixture
def finished(shared: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil."""
    assert shared.outcome.code == 0, shared.outcome.err
    return Path(shutil.copytree(shared.directory, tmp_path / "finished"))


def refused(outcome: Outcome, *words: str) -> None:
    """One worded error on the error stream, exit code 2, and nothing else that could be taken for a result."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, outcome.err
    assert "\n  fix " in outcome.err, outcome.err
    for word in words:
        assert word in outcome.err, outcome.err
