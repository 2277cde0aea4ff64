"""``hwprune methods``."""

from __future__ import annotations

from hwprune.catalogue import METHODS
from tests.cli.conftest import Cli


def test_methods_are_listed_with_paper_and_options(cli: Cli) -> None:
    document = cli("methods", "--json").document
    listed = {method["name"]: method for method in document["methods"]["importance"]}

    assert list(listed) == list(METHODS["importance"])
    assert listed["cpmc-style"]["options"] == ["macs", "params", "latency"]
    assert "reconstructed" in cli("methods").out
