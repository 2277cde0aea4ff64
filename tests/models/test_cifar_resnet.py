"""The residual networks for 32 × 32 images."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from hwprune import analyze
from hwprune.models import cifar_resnet
from hwprune.models.cifar_resnet import BasicBlock, resnet20, without_padding


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269722), (32, 464154), (44, 658586), (56, 853018), (110, 1727962)]
)
def test_depths_have_the_published_numbers_of_parameters(depth: int, parameters: int) -> None:
    network = getattr(cifar_resnet, f"resnet{depth}")()

    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_depth_counts_convolutions_and_the_head() -> None:
    layers = [m for m in cifar_resnet.resnet56().modules() if isinstance(m, nn.Conv2d | nn.Linear)]

    assert len(layers) == 56


def test_a_shortcut_is_every_second_pixel_between_channels_of_zeros() -> None:
    x = torch.randn(2, 16, 8, 8)
    block = BasicBlock(16, 32, stride=2)

    torch.testing.assert_close(block.shortcut(x), functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))


def test_widths_of_the_shortcut_are_in_a_modules_attribute() -> None:
    pad = resnet20().layer3[0].shortcut[1]

    assert isinstance(pad, nn.ZeroPad3d)
    assert pad.padding == (0, 0, 0, 0, 16, 16)


def test_without_padding_computes_the_same_and_stages_have_channels_of_their_own() -> None:
    network = resnet20().double().eval()
    before = copy.deepcopy(network.state_dict())
    own, x = without_padding(network), torch.randn(2, 3, 32, 32, dtype=torch.float64)

    torch.testing.assert_close(own(x), network(x), rtol=1e-12, atol=1e-12)
    assert not any(isinstance(module, nn.ZeroPad3d) for module in own.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    widths = analyze(own.float(), torch.zeros(1, 3, 32, 32)).widths
    assert [widths[name] for name in ("conv1", "layer2.0.conv2", "layer3.0.conv2")] == [16, 32, 64]


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 10), (3, 32, 100), (4, 33, 2)])
def test_takes_other_channels_sizes_and_classes(channels: int, size: int, classes: int) -> None:
    network = resnet20(num_classes=classes, in_channels=channels).eval()

    assert network(torch.randn(2, channels, size, size)).shape == (2, classes)


def test_factories_say_what_they_take() -> None:
    assert resnet20.input_shape == (3, 32, 32)  # type: ignore[attr-defined]
