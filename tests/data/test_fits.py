"""Whether batches and a network go together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hwprune.data import Data, check_fits, from_loaders
from hwprune.errors import DataError


def data(*labels: int) -> Data:
    batch = torch.randn(len(labels), 3, 4, 4), torch.tensor(labels)
    return from_loaders([batch], [batch])


def classifier(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes), nn.Dropout())


def test_a_network_that_fits_is_left_as_it_was() -> None:
    network = classifier(3)

    check_fits(data(0, 1, 2), network)

    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Linear(7, 2), r"does not take inputs of shape \(4, 3, 4, 4\)"),
        (nn.Flatten(1, 2), r"makes \(4, 12, 4\)"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(48, 5)), "makes tuple"),
        (classifier(2), "label 3 is outside of the network's 2 outputs"),
    ],
)
def test_what_does_not_fit_is_said(network: nn.Module, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_fits(data(0, 3, 1, 0), network)


def test_class_folders_need_a_network_with_as_many_outputs() -> None:
    folders = replace(data(0, 1), num_classes=2, name="imagefolder:pets")

    with pytest.raises(DataError, match="5 outputs, the data 2 classes"):
        check_fits(folders, classifier(5))
    check_fits(replace(folders, name="npz"), classifier(5))
