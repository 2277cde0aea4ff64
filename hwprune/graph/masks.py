"""A mask over a network's coupled channels, multiplied into the input of every layer that reads them.

The mask sits behind norm, activation and addition, so a channel whose entry is 0 is as good as cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hwprune.graph.network import Consumer, Network
from hwprune.modes import hooked

PreHook = Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class Reader:
    """How one consumer reads the mask.

    Attributes:
        carried: (carried,) its input channels that belong to a coupled channel that may go.
        numbers: (carried,) those coupled channels.
        channels: of its input.
    """

    carried: Tensor
    numbers: Tensor
    channels: int

    @classmethod
    def of(cls, consumer: Consumer, device: torch.device) -> Reader:
        """On the device of the network."""
        at = torch.from_numpy(consumer.channel_of)
        carried = torch.nonzero(at >= 0).flatten().to(device)
        return cls(carried, at.to(device)[carried], len(at))

    def masked(self, module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        """The consumer's input times the mask's entries of its channels."""
        entries = torch.ones(self.channels, dtype=x.dtype, device=x.device)
        entries[self.carried] = mask[self.numbers].to(x.dtype)
        # A convolution's channels are dimension 1, a linear layer's the last one.
        return x * (entries if isinstance(module, nn.Linear) else entries.view(-1, *(1,) * (x.dim() - 2)))


@contextmanager
def masking(model: nn.Module, network: Network, mask: Tensor) -> Iterator[None]:
    """Multiply ``mask`` (coupled channels,) into the network meanwhile; it may change between two passes."""

    def pre_hook(consumer: Consumer) -> PreHook:
        reader = Reader.of(consumer, mask.device)
        return lambda module, inputs: (reader.masked(module, inputs[0], mask), *inputs[1:])

    with before_consumers(model, network, pre_hook):
        yield


@contextmanager
def before_consumers(model: nn.Module, network: Network, pre_hook: Callable[[Consumer], PreHook]) -> Iterator[None]:
    """A forward pre-hook of its own on every layer that reads channels that may go; gone afterwards."""
    modules = dict(model.named_modules())
    with hooked(modules[one.module].register_forward_pre_hook(pre_hook(one)) for one in network.consumers):
        yield
