"""The residual networks for 32 × 32 images of He et al. 2015 (arXiv:1512.03385, section 4.2): depth 6n + 2.

Shortcuts are of option A: where the shape changes, every second pixel is taken and channels of zeros are
added, so that a shortcut has no parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

_Arguments = ParamSpec("_Arguments")
_Network = TypeVar("_Network", bound=nn.Module)


class EverySecondPixel(nn.Module):
    """(n, c, h, w) -> (n, c, ⌈h/2⌉, ⌈w/2⌉): the strided slice of an option-A shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """Pixels with even row and even column."""
        return x[:, :, ::2, ::2]


def _shortcut(in_planes: int, planes: int, stride: int) -> nn.Sequential:
    """Identity where the shape stays, else option A.

    The channels are added by a padding module and not by a literal in ``forward``: a network with other
    widths then only needs another ``padding``. On a 4-d tensor ``ZeroPad3d`` pads width, height and channels.
    """
    if stride == 1 and in_planes == planes:
        return nn.Sequential()
    front = (planes - in_planes) // 2
    return nn.Sequential(EverySecondPixel(), nn.ZeroPad3d((0, 0, 0, 0, front, planes - in_planes - front)))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut around them."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.shortcut = _shortcut(in_planes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_planes, h, w) -> (n, planes, h/stride, w/stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return self.relu2(out)  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """A stem, three stages of ``blocks`` basic blocks with 16, 32 and 64 channels, global average, linear.

    Shapes: (n, in_channels, 32, 32) -> (n, num_classes); other sizes work too. The networks for CIFAR-10
    take three channels in [0, 1], normalised by mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225).
    """

    def __init__(self, blocks: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_planes: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]


def without_padding(network: nn.Module) -> nn.Module:
    """A copy whose option-A shortcuts are 1 × 1 convolutions that compute the same.

    Stages then have channels of their own, since no shortcut passes those of one on to the next, and the shortcuts can
    learn. ONNX Runtime takes 94 to 95 % of the time on a processor without AVX-512 (`benchmarks/shortcuts.py`).
    """
    network = copy.deepcopy(network)
    for block in network.modules():
        if isinstance(block, BasicBlock) and len(block.shortcut):
            block.shortcut = nn.Sequential(_convolution(block.conv1))
    return network


def _convolution(like: nn.Conv2d) -> nn.Conv2d:
    """What stands for an option-A shortcut around a block that begins with that convolution: every second pixel."""
    before, after = like.in_channels, like.out_channels
    found = nn.Conv2d(before, after, 1, stride=2, bias=False).to(like.weight)
    front = (after - before) // 2
    with torch.no_grad():
        found.weight.zero_()
        found.weight[range(front, front + before), range(before)] = 1.0
    return found


def takes(*input_shape: int) -> Callable[[Callable[_Arguments, _Network]], Callable[_Arguments, _Network]]:
    """Note on a factory which input shape its networks take, without the batch: ``factory.input_shape``."""

    def note(factory: Callable[_Arguments, _Network]) -> Callable[_Arguments, _Network]:
        vars(factory)["input_shape"] = input_shape
        return factory

    return note


@takes(3, 32, 32)
def resnet20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """270 thousand parameters."""
    return CifarResNet(3, num_classes, in_channels)


@takes(3, 32, 32)
def resnet32(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """464 thousand parameters."""
    return CifarResNet(5, num_classes, in_channels)


@takes(3, 32, 32)
def resnet44(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """659 thousand parameters."""
    return CifarResNet(7, num_classes, in_channels)


@takes(3, 32, 32)
def resnet56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """853 thousand parameters."""
    return CifarResNet(9, num_classes, in_channels)


@takes(3, 32, 32)
def resnet110(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """1.7 million parameters."""
    return CifarResNet(18, num_classes, in_channels)
