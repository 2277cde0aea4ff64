"""Reading weights and putting them into a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hwprune.data import load_data
from hwprune.errors import ModelError, NumericsError
from hwprune.models.cifar_resnet import resnet20
from hwprune.models.weights import RESNET20_DIGITS, put_weights, read_weights
from hwprune.recovery.evaluate import evaluate


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))


def made() -> nn.Sequential:
    network = small()
    network(torch.randn(2, 1, 4, 4))
    return network


def test_weights_written_and_read_are_the_same(tmp_path: Path) -> None:
    given, taken = made(), made()
    save_file(given.state_dict(), tmp_path / "w.safetensors")

    put_weights(taken, read_weights(tmp_path / "w.safetensors"), where="w")

    assert all(torch.equal(value, taken.state_dict()[name]) for name, value in given.state_dict().items())


def test_everything_that_does_not_fit_is_in_one_message() -> None:
    tensors = made().state_dict()
    tensors["0.weight"] = torch.zeros(4, 1, 3, 3)
    tensors["9.weight"] = tensors.pop("3.bias")

    with pytest.raises(ModelError) as caught:
        put_weights(made(), tensors, where="w")

    text = str(caught.value)
    assert "missing: 3.bias" in text
    assert "unexpected: 9.weight" in text
    assert "of another shape: 0.weight (4, 1, 3, 3) for (2, 1, 3, 3)" in text


def test_weights_that_do_not_fit_change_nothing() -> None:
    network = made()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(ModelError):
        put_weights(network, {"0.weight": torch.zeros(2, 1, 3, 3)}, where="w")

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(bad: float) -> None:
    tensors = made().state_dict()
    tensors["1.running_var"][1] = bad

    with pytest.raises(NumericsError, match=r"1\.running_var"):
        put_weights(made(), tensors, where="w")


def test_names_of_data_parallel_training_are_understood() -> None:
    given, taken = made(), made()

    put_weights(taken, {f"module.{name}": value for name, value in given.state_dict().items()}, where="w")

    assert torch.equal(taken[0].weight, given[0].weight)


def test_one_name_of_a_shared_tensor_is_enough() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    tensors = {name: torch.ones_like(v) for name, v in network.state_dict().items() if name != "1.weight"}

    put_weights(network, tensors, where="w")

    assert torch.equal(network[1].weight, torch.ones(3, 3))


@pytest.mark.parametrize(("name", "words"), [("w.pth", "safe"), ("w.safetensors", "cannot be read")])
def test_pickles_and_damaged_files_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")

    with pytest.raises(ModelError, match=words):
        read_weights(tmp_path / name)


def test_the_shipped_network_reads_nearly_every_held_back_digit() -> None:
    network = resnet20()
    put_weights(network, read_weights(RESNET20_DIGITS), where=RESNET20_DIGITS)

    assert evaluate(network, load_data("digits").validation).top1 > 0.985
