"""Group Fisher information (Liu et al., "Group Fisher Pruning for Practical Network Compression", ICML 2021).

A mask m with one entry per coupled channel multiplies the input of every consumer. For one sample n

    dL_n / dm_i = sum over the consumers x that carry channel i, and over positions, of  A_x * dL_n / dA_x

so the layers that share a channel, and all calls of a head that several feature maps share, are summed first and
squared afterwards (their equation 4), and

    s_i = 1 / (2 N) * sum_n (dL_n / dm_i)^2

which is the second-order estimate of the loss increase when the channel is removed, for a converged network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hwprune.errors import ModelError
from hwprune.graph.masks import PreHook, Reader, before_consumers
from hwprune.graph.network import Consumer, Network
from hwprune.importance.criterion import Batches, Loss, Scores, by_group, check_readers
from hwprune.importance.passes import only_inputs_need_gradients, passes
from hwprune.modes import device_of, evaluating

PLAIN = (torch.float32, torch.float64)  # sums in these need no wider one
PIECE = 1 << 17  # elements that are multiplied at once, so that products stay in a processor's caches


class Gradients:
    """dL_n / dm_i of one batch: (samples, coupled channels), summed over consumers and their calls.

    With ``mask`` (coupled channels,) the mask is real: every consumer's input is multiplied by its entries.
    """

    def __init__(self, channels: int, device: torch.device, mask: Tensor | None = None) -> None:
        self.channels, self.device, self.mask = channels, device, mask
        self.sum: Tensor | None = None

    def start(self, samples: int) -> None:
        self.sum = torch.zeros(samples, self.channels, dtype=torch.float64, device=self.device)

    def add(self, numbers: Tensor, values: Tensor, module: str) -> None:
        """Add (rows, channels): a sample's rows (its windows, its regions) follow each other."""
        if self.sum is None:
            return
        if len(values) % len(self.sum):
            raise ModelError(
                f"the input of {module!r} has {len(values)} rows for {len(self.sum)} samples",
                effect="Fisher information cannot tell whose gradient is whose",
                fix="give batches of one sample, or use another importance",
            )
        self.sum.index_add_(1, numbers, values.reshape(len(self.sum), -1, values.shape[1]).sum(1))

    def watch(self, consumer: Consumer) -> PreHook:
        """A forward pre-hook that gives the consumer an alias of its input and listens to that alias alone.

        The input itself may feed other layers too, whose gradients are theirs; the alias only gets this one's. It
        shares the input's memory, and the closure lets go of it as soon as the backward pass has been here.
        """
        reader = Reader.of(consumer, self.device)

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x = inputs[0]
            last = isinstance(module, nn.Linear)
            # Behind an embedding of whole numbers nothing needs a gradient yet: the alias is the first.
            values, alias = x.detach(), x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            if self.mask is not None:
                alias = reader.masked(module, alias, self.mask)

            def listen(gradient: Tensor) -> None:
                per_channel = _summed(values, gradient, last=last).double()
                self.add(reader.numbers, per_channel[:, reader.carried], consumer.module)

            if alias.requires_grad:  # a masked network may also just be run
                alias.register_hook(listen)
            return (alias, *inputs[1:])

        return hook


def _summed(values: Tensor, gradient: Tensor, *, last: bool) -> Tensor:
    """Products summed over positions: (samples, channels).

    A convolution's channels are dimension 1, a linear layer's the last one.
    """
    plain, on_processor = values.dtype in PLAIN, values.device.type == "cpu"
    if plain and not on_processor:
        return torch.einsum("n...c,n...c->nc" if last else "nc...,nc...->nc", values, gradient)
    over = tuple(range(1, values.dim() - 1) if last else range(2, values.dim()))
    samples = max(1, PIECE * len(values) // max(1, values.numel()) if on_processor else len(values))
    pieces = []
    for first, second in zip(torch.split(values, samples), torch.split(gradient, samples), strict=True):
        product = first * second
        pieces.append(product.sum(over, dtype=None if plain else torch.float64) if over else product)
    return torch.cat(pieces)


@contextmanager
def watching(model: nn.Module, network: Network, gradients: Gradients) -> Iterator[None]:
    """Every consumer tells ``gradients`` what reaches it."""
    with before_consumers(model, network, gradients.watch):
        yield


@dataclass(frozen=True)
class Fisher:
    """Group Fisher information per coupled channel.

    Unit: the loss's own (nats for cross entropy), per sample. The network is in eval mode, so samples do not see each
    other through batch norm.
    """

    name: str = "fisher"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`.

        Memory: that of a training step. Activations are not copied, only held until their gradient comes, and what is
        added is one product of a layer's size at a time and one (samples, coupled channels) table.
        """
        check_readers(network, "Fisher information")
        device = device_of(model)
        gradients = Gradients(network.count, device)
        total, seen = torch.zeros(gradients.channels, dtype=torch.float64, device=device), 0
        with evaluating(model), only_inputs_need_gradients(model), watching(model, network, gradients):
            for samples, run in passes(model, network, batches, loss):
                gradients.start(samples)
                torch.autograd.backward(run())
                if gradients.sum is not None:
                    total += gradients.sum.square().sum(0)
                seen += samples
        return by_group(network, (total / (2 * seen)).cpu().numpy(), self.name)
