"""From what the user types to a network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.segmentation import fcn_resnet50

from hwprune.errors import ModelError
from hwprune.models.resolve import describe_inputs, load_model

RESNET20 = "hwprune.models.cifar_resnet:resnet20"
USERS_MODULE = """
from torch import nn
from torchvision.models.segmentation import fcn_resnet50

def small(num_classes=3):
    return nn.Linear(2, num_classes)

def fixed():
    return nn.Linear(2, 3)

def broken():
    raise KeyError("lost")

def number():
    return 5

small.input_shape = (2,)
"""


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the module ``users_nets_xyz``."""
    (tmp_path / "users_nets_xyz.py").write_text(USERS_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_nets_xyz", raising=False)
    return tmp_path


@pytest.mark.parametrize("reference", ["squeezenet1_1", "torchvision:squeezenet1_1"])
def test_torchvisions_names_work_with_and_without_prefix(reference: str) -> None:
    network = load_model(reference, num_classes=7)

    assert not network.training
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_googlenet_comes_without_training_heads_and_without_warnings() -> None:
    network = load_model("googlenet")

    assert not any(name.startswith("aux") for name in network.state_dict())


def test_weights_with_training_heads_fit_a_network_without(tmp_path: Path) -> None:
    tensors = load_model("googlenet").state_dict()
    save_file({**tensors, "aux1.conv.conv.weight": torch.zeros(1)}, tmp_path / "w.safetensors")

    network = load_model("googlenet", weights=tmp_path / "w.safetensors")

    assert torch.equal(network.state_dict()["fc.weight"], tensors["fc.weight"])


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "mc3_18"])
def test_torchvisions_detection_segmentation_and_video_networks_have_names_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("something is downloaded"))

    assert not load_model(name, num_classes=7).training


def test_segmentation_networks_come_without_their_training_head(tmp_path: Path) -> None:
    whole = fcn_resnet50(weights=None, weights_backbone=None, num_classes=2, aux_loss=True)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")

    network = load_model("fcn_resnet50", weights=tmp_path / "w.safetensors", num_classes=2)

    assert network(torch.zeros(1, 3, 32, 32)).keys() == {"out"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("retinanet_resnet50", "did you mean retinanet_resnet50_fpn"),
        ("resnet51", "did you mean resnet50"),
        ("hwprune.models.cifar_resnet:resnet21", "did you mean .*resnet20"),
        ("no_such_package.nets:small", "cannot be imported"),
        (":resnet20", "names no function"),
        ("hwprune.models.cifar_resnet:", "names no function"),
    ],
)
def test_unknown_networks_are_refused_with_what_is_near(reference: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(reference)


def test_modules_of_the_current_folder_are_found(users_folder: Path) -> None:
    path = list(sys.path)

    network = load_model("users_nets_xyz:fixed", num_classes=9)

    assert isinstance(network, nn.Linear)
    assert network.out_features == 3
    assert sys.path == path


def test_a_factory_gets_the_number_of_classes_when_it_has_a_parameter_for_it(users_folder: Path) -> None:
    assert load_model("users_nets_xyz:small", num_classes=9).out_features == 9


@pytest.mark.parametrize(("name", "words"), [("broken", "KeyError: 'lost'"), ("number", "int, not a network")])
def test_what_a_factory_does_wrong_is_said(users_folder: Path, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(f"users_nets_xyz:{name}")


def test_only_registries_have_default_weights() -> None:
    with pytest.raises(ModelError, match="no default weights"):
        load_model(RESNET20, weights="DEFAULT")


def test_a_missing_weights_file_is_said() -> None:
    with pytest.raises(ModelError, match="no such weights file"):
        load_model(RESNET20, weights=Path("nowhere.safetensors"))


@pytest.mark.parametrize(
    ("reference", "shape"),
    [
        ("resnet50", (3, 224, 224)),
        ("inception_v3", (3, 299, 299)),
        ("torchvision:retinanet_resnet50_fpn", (3, 320, 320)),
        ("ssd300_vgg16", (3, 300, 300)),
        ("fcn_resnet50", (3, 520, 520)),
        ("r3d_18", (3, 16, 112, 112)),
        ("mvit_v2_s", (3, 16, 224, 224)),
        (RESNET20, (3, 32, 32)),
    ],
)
def test_networks_say_what_they_take(reference: str, shape: tuple[int, ...]) -> None:
    assert describe_inputs(reference) == shape


def test_a_users_factory_says_what_it_takes_by_an_attribute(users_folder: Path) -> None:
    assert describe_inputs("users_nets_xyz:small") == (2,)
    assert describe_inputs("users_nets_xyz:fixed") == (3, 224, 224)


def test_timms_networks_know_their_input() -> None:
    pytest.importorskip("timm", reason="timm is optional")

    assert describe_inputs("timm:resnet10t") == (3, 176, 176)
    assert load_model("timm:resnet10t", num_classes=4)(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
