"""Optimal Brain Surgeon on coupled channels: what is lost once the layers that read a channel have taken it over.

A layer reads x and gives W x. Without some channels, and with the weights that then come nearest (see
`hwprune.importance.compensation`), its outputs are off by an error of the square

    sum over outputs o of  g_o * tr(W_ro (C_rr - C_rs C_ss^-1 C_sr) W_ro^T)

with C the covariance of x, r what goes, s what stays, and g_o how the network's outputs follow the layer's output o:
the mean square gradient of a random projection of them (Gauss-Newton), which needs no labels and does not vanish on
data that the network has learnt by heart. Channels of a group go one after another, always the one that costs least in
all layers that read it together: w_i^2 / [C^-1]_ii, and W and C^-1 as Optimal Brain Surgeon updates them (Hassibi and
Stork 1992; structured by Kurtic et al. 2023, "ZipLM", arXiv:2302.04089; C and g are K-FAC's factors, Martens and
Grosse 2015).

That sum takes errors at different positions for independent, which is wrong by orders of magnitude ahead of a global
pool. So the scale is measured: each group is reduced to some widths, the others being whole, and what the network's own
outputs change is what these widths cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.network import ChannelGroup, Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite, check_readers
from hwprune.importance.measured import Floats, Measuring, convex, floats_of, through
from hwprune.importance.moments import Block, Gathering, Moments, blocks_of, channels_last
from hwprune.importance.passes import only_inputs_need_gradients, passes
from hwprune.modes import device_of, evaluating, hooked

STEPS = 128  # in which a group's channels go; wider groups lose several at once


@dataclass(frozen=True)
class OptimalBrainSurgeon:
    """Mean square change of the network's outputs, with the layers that read a channel having taken it over.

    The score of a channel is what its removal adds after the channels of its group that are less important have gone,
    so the sum over those is the cost of the group's width. Unit: the outputs' own (logits), squared, per sample.
    """

    name: str = "obs"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; the loss is not used, nor the targets but for detectors.

        Memory: that of a training step, a copy of the input of one layer, and a covariance (inputs, inputs) in float64
        for every layer.
        """
        check_readers(network, "Optimal Brain Surgeon")
        batches = iter(batches)
        first = list(islice(batches, 1))
        moments, gains = _watched(model, network, blocks_of(model, network), chain(first, batches))
        inverses = {block: found.inverse for block, found in moments.items()}
        scores: Scores = {}
        channels = network.count
        with evaluating(model), only_inputs_need_gradients(model):
            measuring = Measuring.of(model, network, moments, first)
            for group in network.free:
                order, costs = eliminated(_readers(group, channels, inverses, gains), group.width)
                totals = np.concatenate([[0.0], np.cumsum(costs)])
                scores[group.name] = np.empty(group.width)
                scores[group.name][order] = convex(through(totals, measuring.points(group, order)))
        check_finite(scores, self.name)
        return scores


@dataclass(eq=False)
class Reader:
    """A layer that reads a group's channels, while they go.

    Attributes:
        channels: (entries,) which of the group's coupled channels each of its inputs is.
        weights: (entries, outputs and kernel positions), each output times the square root of its gain.
        inverse: (entries, entries) of the inverse covariance of all of the layer's inputs.
    """

    channels: NDArray[np.int64]
    weights: Floats
    inverse: Floats

    def costs(self, width: int) -> Floats:
        """Of each coupled channel, were it the next to go. (width,)"""
        each = np.square(self.weights).sum(1) / np.diag(self.inverse)
        return np.bincount(self.channels, each, minlength=width).astype(np.float64)

    def remove(self, gone: NDArray[np.int64]) -> None:
        """Let the others take over what these coupled channels told."""
        rows = np.flatnonzero(np.isin(self.channels, gone))
        if not len(rows):
            return
        factors = np.linalg.solve(self.inverse[np.ix_(rows, rows)], self.inverse[rows]).T
        self.weights -= factors @ self.weights[rows]
        self.inverse -= factors @ self.inverse[rows]
        self.weights[rows] = 0.0
        self.inverse[rows], self.inverse[:, rows] = 0.0, 0.0
        self.inverse[rows, rows] = 1.0


def eliminated(readers: Sequence[Reader], width: int) -> tuple[NDArray[np.int64], Floats]:
    """Coupled channels in the order in which they go, the cheapest first, and what each adds. Changes the readers."""
    order: list[int] = []
    costs: list[float] = []
    alive = np.ones(width, dtype=bool)
    at_once = math.ceil(width / STEPS)
    while alive.any():
        now = sum((reader.costs(width) for reader in readers), np.zeros(width))
        left = np.flatnonzero(alive)
        gone = left[np.argsort(now[left], kind="stable")[:at_once]]
        order += gone.tolist()
        costs += now[gone].tolist()
        alive[gone] = False
        for reader in readers:
            reader.remove(gone)
    return np.array(order), np.array(costs)


def _watched(
    model: nn.Module, network: Network, blocks: Sequence[Block], batches: Batches
) -> tuple[Mapping[Block, Moments], Mapping[str, Tensor]]:
    """Moments of every block that ran, and by layer the mean square gradient of each output."""
    gathering, gains = Gathering(blocks), _Gains({block.module: block.layer for block in blocks})
    with evaluating(model), only_inputs_need_gradients(model), gathering.watching(), gains.watching():
        for samples, run in passes(model, network, batches, _Projection(device_of(model))):
            torch.autograd.backward(run())
            gains.samples += samples
    return gathering.moments(), gains.means()


class _Projection:
    """A random projection of the network's outputs, in the place of a loss.

    Its gradient's square is, on average over projections, that of all outputs together.
    """

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(self, outputs: Any, targets: object) -> Tensor:
        found = [
            (value * torch.randn(value.shape, generator=self.generator, device=value.device).to(value)).sum()
            for value in floats_of(outputs)
        ]
        return torch.stack(found).sum()


class _Gains:
    """Sums of squared gradients of layers' outputs."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers, self.samples = layers, 0
        self._sums: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen meanwhile."""
        with hooked(layer.register_forward_hook(self._hook(name)) for name, layer in self.layers.items()):
            yield

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def listen(layer: nn.Module, gradient: Tensor) -> None:
            rows = channels_last(layer, gradient).flatten(0, -2)
            found = rows.float().square().sum(0, dtype=torch.float64)
            self._sums[name] = self._sums[name] + found if name in self._sums else found

        def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
            # Behind an embedding of whole numbers nothing needs a gradient yet.
            if not output.requires_grad:
                output.requires_grad_()
            output.register_hook(partial(listen, layer))  # type: ignore[no-untyped-call]

        return hook

    def means(self) -> dict[str, Tensor]:
        """Per sample."""
        return {name: found / self.samples for name, found in self._sums.items()}


def _readers(
    group: ChannelGroup, channels: int, inverses: Mapping[Block, Floats], gains: Mapping[str, Tensor]
) -> list[Reader]:
    place = np.full(channels + 1, -1)  # whose last entry is that of what is pinned
    place[group.numbers] = np.arange(group.width)
    found = []
    for block, inverse in inverses.items():
        read = place[block.numbers]
        rows = np.flatnonzero(read >= 0)
        if not len(rows) or block.module not in gains:
            continue
        weights = block.weights()[torch.from_numpy(rows)].double()
        gain = block.of_outputs(gains[block.module]).sqrt()
        weights = weights * gain.to(weights).view(-1, *(1,) * (weights.dim() - 3))
        own = np.diag(inverse[rows]) if inverse.ndim == 1 else inverse[np.ix_(rows, rows)]
        found.append(Reader(read[rows], weights.flatten(1).cpu().numpy(), own.copy()))
    return found
