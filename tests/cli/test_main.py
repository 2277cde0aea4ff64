"""The entry point: help for every command, and a real process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from hwprune.cli.main import app
from hwprune.cli.quickstart import MODEL
from tests import tiny
from tests.cli.conftest import Cli, refused

COMMANDS = sorted(typer.main.get_group(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_all_its_options(cli: Cli, command: str) -> None:
    outcome = cli(command, "--help")

    assert outcome.code == 0
    assert f"hwprune {command}" in outcome.out
    described = typer.main.get_group(app).commands[command]
    for parameter in described.params:
        assert getattr(parameter, "help", ""), f"{command} {parameter.name} has no help"
        assert max(parameter.opts, key=len).lower() in outcome.out.lower()


def test_the_commands_are_listed(cli: Cli) -> None:
    outcome = cli("--help")

    assert outcome.code == 0
    assert all(command in outcome.out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [("nothing",), ("prune", "--colour"), ("inspect",), ("prune", "--batch", "two")])
def test_what_cannot_be_parsed_ends_with_2_and_says_where(cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli(*arguments)

    assert outcome.code == 2
    assert outcome.out == ""
    assert "Usage" in outcome.err and "Traceback" not in outcome.err


def test_errors_of_a_real_process_go_to_the_error_stream(tmp_path: Path) -> None:
    process = tiny.start("inspect", "resnet5")
    out, err = process.communicate(timeout=100)

    assert (process.returncode, out) == (2, "")
    assert err.startswith("error torchvision has no network 'resnet5'\n  fix ")


def test_the_quickstart_needs_the_weights_of_other_data(cli: Cli, tmp_path: Path) -> None:
    refused(cli("quickstart", "--data", f"cifar10:{tmp_path}"), "--weights")


def test_the_quickstart_says_which_package_it_needs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    refused(cli("quickstart"), 'pip install "hwprune[onnxruntime]"')


def test_the_quickstart_has_its_network(cli: Cli) -> None:
    assert cli("inspect", MODEL, "--json").document["parameters"] == 269_722
