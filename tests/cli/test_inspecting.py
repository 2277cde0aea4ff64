"""``hwprune inspect``: the counted facts of known networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

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
    assert "of the parameters with them" in outcome.out
    assert "goes when this group alone is cut to one" in outcome.out


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


def test_json_has_shares_pins_repairs_and_choices(cli: Cli) -> None:
    document = cli("inspect", "tests.cli.networks:attention", "--attention", "head-dims", "--json").document

    assert document["choices"] == {"conv_groups": "whole", "attention": "head_dims", "free_inputs": False}
    assert 0 < document["free_parameters_share"] < 1
    assert {"module": "", "attribute": "head_dim", "item": None, "value": 8} in document["repaired"]
    assert document["spanning"][0]["module"] == "norm"
    free = next(group for group in document["groups"] if group["name"] == "qkv")
    assert free["width"] == 8
    assert 0 < free["macs_share"] < 1
    pinned = next(group for group in document["groups"] if group["name"] == "out")
    assert (pinned["pinned"], pinned["operator"], pinned["macs_share"]) == ("reaches the network's output", "", None)


def test_spanning_calls_and_repaired_attributes_are_counted(cli: Cli) -> None:
    out = cli("inspect", "tests.cli.networks:attention").out

    assert "1 call spans channels (a norm, a mean) and runs over those that stay" in out
    assert "1 integer attribute is repaired" in out


@pytest.mark.parametrize(
    ("option", "width"), [((), 4), (("--conv-groups", "offsets"), 4), (("--conv-groups", "whole"), 4)]
)
def test_conv_groups_are_chosen(cli: Cli, option: tuple[str, ...], width: int) -> None:
    document = cli("inspect", "tests.cli.networks:grouped", *option, "--json").document

    widths = {group["name"]: group["width"] for group in document["groups"] if not group["pinned"]}
    assert widths == ({"0": 4, "2": 6} if "offsets" in option else {"0": 4})


def test_inputs_are_freed_where_asked(cli: Cli) -> None:
    names = [
        [
            g["name"]
            for g in cli("inspect", "tests.cli.networks:grouped", *flag, "--json").document["groups"]
            if not g["pinned"]
        ]
        for flag in ((), ("--free-inputs",))
    ]

    assert names == [["0"], ["0", "input of 0"]]


def test_a_detector_is_inspected_by_its_name(cli: Cli) -> None:
    document = cli("inspect", "torchvision:retinanet_resnet50_fpn", "--json").document

    assert document["input_shapes"] == [[1, 3, 320, 320]]
    assert document["parameters"] == 34_068_119
    free = {name for group in document["groups"] if not group["pinned"] for name in group["consumers"]}
    assert {"head.classification_head.cls_logits", "head.regression_head.bbox_reg"} <= free


def test_the_coupling_is_drawn_into_files(cli: Cli, tmp_path: Path) -> None:
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    outcome = cli("inspect", "tests.cli.networks:grouped", "--dot", tmp_path / "g.dot", "--svg", tmp_path / "g.svg")

    assert f"picture: {tmp_path / 'g.svg'}" in outcome.out
    assert (tmp_path / "g.dot").read_text().startswith("digraph coupling {")
    assert ElementTree.fromstring((tmp_path / "g.svg").read_bytes()).tag.endswith("svg")


def test_without_graphviz_there_is_one_error_that_says_how_to_get_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    refused(cli("inspect", "resnet18", "--svg", tmp_path / "g.svg"), "'dot' of Graphviz", "apt-get install graphviz")
    assert not list(tmp_path.iterdir())
    assert cli("inspect", "tests.cli.networks:grouped", "--dot", tmp_path / "g.dot").code == 0


def test_a_picture_that_cannot_be_written_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    refused(cli("inspect", "tests.cli.networks:grouped", "--dot", tmp_path / "file" / "g.dot"), "cannot write")
