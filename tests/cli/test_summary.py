"""A finished run as people read it, on narrow and on wide terminals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

from hwprune.cli import show
from hwprune.cli.summary import as_document, show_result
from hwprune.cost.work import Work
from hwprune.plan import Plan
from hwprune.pruning import Result
from hwprune.validation.engine import EngineReport
from hwprune.validation.ledger import Candidate

_OWN = EngineReport(True, "", "onnxruntime", "cpu", "fp32", size_bytes=4096, activation_bytes=1024, samples_ms=(2.0,))
_RTX = EngineReport(True, "", "tensorrt_rtx", "rtx3090", "fp32", size_bytes=8192)
_DENSE = Candidate("dense", 0, {"conv1": 8}, None, 1000, 100, 400, 2.0, 2.0, 1.0, engines=(_OWN, _RTX))
_SMALL = Candidate("milestone-1", 1, {"conv1": 4}, 1.1, 500, 50, 200, 1.2, 2.4, 0.5, engines=(_OWN, _RTX))
_BROKEN = replace(_SMALL, id="delivered", engines=(_OWN, replace(_RTX, ok=False, error="[no]", size_bytes=None)))


def _result(*candidates: Candidate) -> Result:
    return Result(
        target="latency 50.0 %",
        model=nn.Identity(),
        plan=Plan({"conv1": (0, 2, 3, 5)}, {"conv1": 8}, "m", ((1, 3, 8, 8),), "hash"),
        accuracy={"dense": 0.9, "cut": 0.3, "statistics": 0.7, "finetuned": 0.885},
        dense=Work(1000, 100, 100),
        pruned=Work(500, 50, 50),
        candidates=candidates,
        certificate=None,
        directory=Path("runs/[odd]-cpu"),
    )


@pytest.fixture(params=[80, 140])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Columns of the terminal."""
    columns: int = request.param
    monkeypatch.setattr(show, "OUT", Console(highlight=False, width=columns, force_terminal=True, no_color=True))
    return columns


def test_every_line_fits_and_every_figure_is_there(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_result(_result(_DENSE, _SMALL, _SMALL), as_json=False)
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    assert max(map(len, out.splitlines())) <= width
    for figure in ("-1.5 points", "50.0 %", "+10.0 %", "1.2 ms", "8 KiB", "2 of 2"):
        assert figure in out
    assert "no speed-up is claimed" in " ".join(out.split())
    assert "runs/[odd]-cpu" in out


def test_an_engine_that_is_missing_is_named(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_result(_result(_DENSE, _SMALL, _BROKEN), as_json=False)
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())

    assert "1 of 2, not" in words


def test_without_predictions_nothing_is_made_up(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    absent = replace(_SMALL, predicted_ms=None, measured_ms=None, dense_ms=None, ratio=None)
    show_result(_result(replace(_DENSE, dense_ms=None, ratio=None, measured_ms=None), absent, absent), as_json=False)
    out = capsys.readouterr().out

    assert "not measured" in out
    assert " ms" not in out.partition("candidates")[2]


def test_the_document_has_no_raw_samples() -> None:
    document = as_document(_result(_DENSE, _SMALL, _BROKEN))

    assert "samples_ms" not in document["candidates"][0]["engines"][0]
    assert document["widths"] == {"conv1": 4}


def test_a_target_that_the_delivered_network_missed_is_told(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(_result(_DENSE, _SMALL, _SMALL), missed=("Above the target 60 % when measured last.",))
    show_result(result, as_json=False)

    assert "Above the target 60 %" in " ".join(capsys.readouterr().out.split())
    assert as_document(result)["missed"] == ["Above the target 60 % when measured last."]
