"""Models, weights and data that cannot be used: one worded error, and no run directory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests import tiny
from tests.cli.conftest import Cli, refused


def test_an_unknown_model_is_refused_with_the_names_that_look_like_it(prune: Cli, tmp_path: Path) -> None:
    refused(prune(model="resnet5"), "no network 'resnet5'", "resnet50", "resnet18")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["no.such.module:network", "tests.tiny:no_network", "tests.tiny:CLASSES", ":"])
def test_a_factory_that_is_not_there_is_refused(prune: Cli, tmp_path: Path, model: str) -> None:
    refused(prune(model=model))
    assert not (tmp_path / "run").exists()


def test_a_factory_in_the_current_folder_is_found(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_network.py").write_text("from tests.tiny import network as small\n")
    monkeypatch.chdir(tmp_path)

    assert '"macs": ' in cli("inspect", "my_network:small", "--json").out


def test_weights_of_another_network_are_refused_by_name_and_shape(prune: Cli, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    state = tiny.network(num_classes=7).state_dict()
    state["extra"] = torch.zeros(1)
    del state["0.weight"]
    save_file(state, file)

    refused(prune("--weights", file), "missing: 0.weight", "unexpected: extra", "(7, 48) for (4, 48)", str(file))
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_there_are_refused(prune: Cli, tmp_path: Path) -> None:
    refused(prune("--weights", tmp_path / "none.safetensors"), "no such weights file", "none.safetensors")


@pytest.mark.parametrize(("name", "words"), [("w.pt", "pickled"), ("w.safetensors", "cannot be read")])
def test_weights_that_are_no_safetensors_are_refused(prune: Cli, tmp_path: Path, name: str, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"not what it seems")

    refused(prune("--weights", file), words, str(file))
    assert file.read_bytes() == b"not what it seems"


def test_weights_with_nan_are_refused_by_name(prune: Cli, tmp_path: Path) -> None:
    state = tiny.network().state_dict()
    state["3.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")

    refused(prune("--weights", tmp_path / "nan.safetensors"), "3.weight", "not finite")
    assert not (tmp_path / "run").exists()


def test_timm_that_is_not_installed_gives_its_install_line(prune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    refused(prune(model="timm:resnet18"), "'timm' is not installed", 'pip install "hwprune[timm]"')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("npz:/no/such/file.npz", "no such file"),
        ("imagefolder:/no/such/folder", "no such file or folder"),
        ("mnist", "unknown data"),
        ("npz:", "npz:PATH"),
        ("tests.tiny:pictures", "the factory raised TypeError"),
    ],
)
def test_data_that_is_not_there_is_refused(prune: Cli, tmp_path: Path, data: str, words: str) -> None:
    refused(prune("--data", data), words)
    assert not (tmp_path / "run").exists()


_GOOD_IMAGES, _GOOD_LABELS = tiny.pictures(16)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((16, 8, 8, 5), np.uint8), _GOOD_LABELS, "(5, 8, 8)"),
        (_GOOD_IMAGES.astype(np.float32), _GOOD_LABELS, "float32"),
        (_GOOD_IMAGES[:9], _GOOD_LABELS, "9 images have 16 labels"),
        (_GOOD_IMAGES, _GOOD_LABELS + 1, "label 4 is outside"),
        (_GOOD_IMAGES, _GOOD_LABELS - 1, "label -1 is negative"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    prune: Cli, tmp_path: Path, images: np.ndarray, labels: np.ndarray, words: str
) -> None:
    file = tmp_path / "odd.npz"
    np.savez(file, images=images, labels=labels)
    before = file.read_bytes()

    refused(prune("--data", f"npz:{file}"), words)
    assert not (tmp_path / "run").exists()
    assert file.read_bytes() == before


def test_a_file_that_is_no_npz_is_refused(prune: Cli, tmp_path: Path) -> None:
    (tmp_path / "odd.npz").write_bytes(b"PK not really")

    refused(prune("--data", f"npz:{tmp_path / 'odd.npz'}"), "not a readable npz file", "odd.npz")
