"""``hwprune inspect``: the counted facts of known networks."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, refused


def test_resnet50_has_the_macs_parameters_and_activations_of_the_literature(cli: Cli) -> None:
    document = cli("inspect", "resnet50", "--json").document

    assert document["macs"] == 4_089_184_256
    assert document["parameters"] == 25_557_032
    assert document["activation_elements"] == 11_113_984


def test_a_cifar_network_is_shown_with_what_stays_and_why(cli: Cli) -> None:
    outcome = cli("inspect", "hwprune.models.cifar_resnet:resnet20")

    assert outcome.code == 0
    assert "layer3.2.conv1" in outcome.out
    assert "reaches the network's output" in outcome.out
    assert "40.55 M MACs, 269.7 k parameters" in outcome.out


def test_excluded_modules_are_pinned(cli: Cli) -> None:
    document = cli("inspect", "hwprune.models.cifar_resnet:resnet20", "--exclude", "layer1.*", "--json").document

    pinned = {group["name"]: group["pinned"] for group in document["groups"] if group["pinned"]}
    assert pinned["layer1.0.conv1"] == "is excluded by 'layer1.*'"


@pytest.mark.parametrize("shape", ["large", "1x3x0x32", "1x3x-8x8", ""])
def test_an_input_shape_that_is_none_is_refused(cli: Cli, shape: str) -> None:
    outcome = cli("inspect", "hwprune.models.cifar_resnet:resnet20", "--input", shape or "x")

    refused(outcome, "cannot read the input shape", "1x3x224x224")


def test_an_input_that_the_network_refuses_is_an_error_with_a_fix(cli: Cli) -> None:
    refused(cli("inspect", "hwprune.models.cifar_resnet:resnet20", "--input", "1x5x32x32"), "5")


def test_an_unknown_network_is_refused(cli: Cli) -> None:
    refused(cli("inspect", "resnet5"), "did you mean resnet50")
