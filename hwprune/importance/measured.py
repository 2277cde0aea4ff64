"""What a group's widths are measured to cost: how far the network's own outputs move without some of its channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hwprune.graph.network import ChannelGroup, Network
from hwprune.importance.criterion import Batches
from hwprune.importance.moments import Block, Moments, before
from hwprune.importance.passes import passes

MEASURED_AT = (0.75, 0.5, 0.25, 0.1)  # shares of a group's width at which its cost is measured
# Images that it is measured with, fewer where there are many groups: the same ones for all of them, so that few tell
# groups apart, and measuring takes no longer than a dozen batches of training do.
FEWEST_IMAGES, MOST_IMAGES, RUNS = 4, 32, 2048
NOTHING = 1e-100  # a total that small tells no shape

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measuring:
    """Runs the network with some channels told from others.

    Attributes:
        model, network: as for `Criterion.scores`.
        moments: of every block.
        batches: what is run.
        dense: the network's outputs as it is.
    """

    model: nn.Module
    network: Network
    moments: Mapping[Block, Moments]
    batches: Batches
    dense: Sequence[Tensor]

    @classmethod
    def of(
        cls, model: nn.Module, network: Network, moments: Mapping[Block, Moments], batches: Sequence[tuple[Any, Any]]
    ) -> Measuring:
        few = [_cut_short(batches[0], RUNS // (len(MEASURED_AT) * max(1, len(network.free))))]
        return cls(model, network, moments, few, outputs_of(model, network, few))

    def points(self, group: ChannelGroup, order: NDArray[np.int64]) -> list[tuple[int, float]]:
        """How many channels of the group went, in that order, and what that was measured to cost."""
        removed = sorted({group.width - math.ceil(share * group.width) for share in MEASURED_AT} - {0})
        return [(count, self.cost(group.numbers[order[:count]])) for count in removed]

    def cost(self, gone: NDArray[np.int64]) -> float:
        """Mean square change of the outputs, per sample, without these coupled channels."""
        told = {}
        for block, moments in self.moments.items():
            lost = np.isin(block.numbers, gone)
            if lost.any():
                told[block] = (lost, *moments.takeover(~lost, lost, shifted=block.shifted))

        def replaced(block: Block, x: Tensor) -> Tensor:
            lost, slopes, shift = told[block]
            kept = block.read(x)[..., torch.from_numpy(~lost)]
            return block.replaced(x, lost, kept @ slopes.to(x) + shift.to(x))

        with before(list(told), replaced):
            found = outputs_of(self.model, self.network, self.batches)
        changes = [float((new - old).double().square().sum()) for new, old in zip(found, self.dense, strict=True)]
        return sum(changes) / sum(len(inputs) for inputs, _ in self.batches)


def outputs_of(model: nn.Module, network: Network, batches: Batches) -> list[Tensor]:
    """All tensors of floats that the network gives, of one pass after the other."""
    found: list[Tensor] = []

    def kept(outputs: Any, targets: object) -> Tensor:
        found.extend(value.detach() for value in floats_of(outputs))
        return torch.zeros(())

    for _, run in passes(model, network, batches, kept):
        run()
    return found


def _cut_short(batch: tuple[Any, Any], images: int) -> tuple[Any, Any]:
    inputs, targets = batch
    count = max(FEWEST_IMAGES, min(MOST_IMAGES, images)) if isinstance(inputs, Tensor) else FEWEST_IMAGES
    return inputs[:count], targets[:count]


def through(totals: Floats, points: Sequence[tuple[int, float]]) -> Floats:
    """The curve of this shape, ``totals`` (width + 1,) by how many went, that meets the points.

    Between two points, and from the last one to the end, it is scaled and shifted; what costs less than fewer channels
    did costs as much.
    """
    curve = np.zeros_like(totals)
    known = [(0, 0.0)]
    for count, cost in points:
        known.append((count, max(cost, known[-1][1])))
    for (first, low), (last, high) in pairwise(known):
        rise = totals[first : last + 1] - totals[first]
        steps = rise / rise[-1] if rise[-1] > NOTHING else np.linspace(0.0, 1.0, len(rise))
        curve[first : last + 1] = low + (high - low) * steps
    last, high = known[-1]
    grown = high / totals[last] if totals[last] > NOTHING else 0.0
    curve[last:] = high + grown * (totals[last:] - totals[last])
    return curve


def convex(curve: Floats) -> Floats:
    """What every channel adds, never less than the one before: the nearest such steps of the same total. (width,)

    They rise a little where they would be equal, so that their order is that in which the channels went.
    """
    steps: Floats = np.asarray(isotonic_regression(np.diff(curve)).x)
    tie = 1e-9 * max(float(steps.max(initial=0.0)), 1e-30)
    return steps + tie * np.arange(len(steps))


def floats_of(outputs: Any) -> list[Tensor]:
    """All tensors of floats among a network's outputs."""
    return [value for value in tree_leaves(outputs) if isinstance(value, Tensor) and value.is_floating_point()]
