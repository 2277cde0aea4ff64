"""Size of the weights that make a channel (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite


@dataclass(frozen=True)
class Magnitude:
    """L2 norm of all weights that make a coupled channel, over the mean norm of its group.

    Norms of layers of different fan-in do not compare, so each group is scaled to mean one; the number then says which
    channel of a group to take first, and little about which group. Norm scales and biases do not count.
    """

    name: str = "magnitude"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data."""
        state = dict(model.named_parameters(remove_duplicate=False))
        scores: Scores = {}
        for group in network.free:
            squares = np.zeros(group.width)
            for slot in group.slots:
                weight = state.get(slot.parameter)
                if slot.contracted or weight is None or weight.dim() < 2:
                    continue
                others = [dim for dim in range(weight.dim()) if dim != slot.dim]
                rows = weight.detach().double().square().sum(others).cpu().numpy()
                squares += rows[slot.indices].sum(1)
            norms = np.sqrt(squares)
            scores[group.name] = norms / max(float(norms.mean()), torch.finfo(torch.float64).tiny)
        check_finite(scores, self.name)
        return scores
