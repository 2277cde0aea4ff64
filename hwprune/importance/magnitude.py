"""Size of the weights that make a channel (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from hwprune.graph.makers import makers
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite, of_mean_one


@dataclass(frozen=True)
class Magnitude:
    """Norm of all weights that make a coupled channel, over the mean norm of its group.

    Norms of layers of different fan-in do not compare, so each group is scaled to mean one; the number then says which
    channel of a group to take first, and little about which group. Norm scales and biases do not count.

    Attributes:
        norm: the paper's is L1.
    """

    norm: Literal["l1", "l2"] = "l2"
    name: str = "magnitude"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data."""
        pieces, scores = makers(model, network), Scores()
        for group in network.free:
            sums = np.zeros(group.width)
            for piece in pieces[group.name]:
                sizes = piece.parameter.detach().double().abs()
                sums += piece.per_channel(sizes.square() if self.norm == "l2" else sizes)
            scores[group.name] = of_mean_one(np.sqrt(sums) if self.norm == "l2" else sums)
        check_finite(scores, self.name)
        return scores
