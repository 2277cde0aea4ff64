"""Small networks for the tests of runtimes, and a plain way to make them narrower."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Convolutions with and without bias, depthwise, batch norm, a residual sum, a flatten and a classifier."""

    def __init__(self, width: int = 16, hidden: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, width, 1, bias=False)
        self.head = nn.Linear(width * 16, hidden)
        self.last = nn.Linear(hidden, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = x + self.point(torch.nn.functional.hardswish(self.deep(x)))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.last(torch.relu(self.head(x)))


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode with random weights and batch norm statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
    return network.eval()


def images(batch: int = 1, size: int = 8) -> Tensor:
    """Random images, always the same."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(7))
