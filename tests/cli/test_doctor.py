"""``hwprune doctor``."""

from __future__ import annotations

import sys

import pytest

from hwprune.runtimes.select import RUNTIMES
from tests.cli.conftest import Cli


def test_json_names_every_runtime_and_the_processor(cli: Cli) -> None:
    document = cli("doctor", "--json").document

    assert [runtime["name"] for runtime in document["runtimes"]] == list(RUNTIMES)
    assert document["devices"]["cpu"]["cores"]
    assert document["versions"]["hwprune"]


def test_what_is_missing_has_its_install_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = cli("doctor")

    assert outcome.code == 0
    assert 'pip install "hwprune[onnxruntime]"' in outcome.out
