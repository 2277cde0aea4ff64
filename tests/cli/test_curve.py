"""``hwprune prune`` with several targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, refused


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("60%,macs:50%", "not of one kind"),
        ("60%,1.5ms", "not of one kind"),
        ("60%,60.0%", "name one target twice"),
        ("60%,,50%", "cannot read the target ''"),
        ("100%,60%", "not below what the dense network has"),
        ("macs:70%,macs:0.001%", "out of reach"),
    ],
)
def test_targets_that_make_no_curve_are_refused(prune: Cli, tmp_path: Path, targets: str, words: str) -> None:
    refused(prune("--target", targets), words)
    assert not (tmp_path / "run" / "points").exists()


def test_the_command_line_shows_the_curve(prune: Cli) -> None:
    shown = prune("--target", "macs:70%,macs:50%", "--normalisation", "flops")
    words = " ".join(shown.out.replace("│", " ").split())

    assert shown.code == 0
    for told in ("macs 70.0 %", "macs 50.0 %", "dense", "curve.csv", "certified latency"):
        assert told in words
