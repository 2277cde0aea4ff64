"""Size of the weights that make a channel (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from hwprune.graph.makers import makers
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite, of_mean_one


@dataclass(frozen=True)
class Magnitude:
    """L2 norm of all weights that make a coupled channel, over the mean norm of its group.

    Norms of layers of different fan-in do not compare, so each group is scaled to mean one; the number then says which
    channel of a group to take first, and little about which group. Norm scales and biases do not count.
    """

    name: str = "magnitude"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data."""
        pieces, scores = makers(model, network), Scores()
        for group in network.free:
            squares = np.zeros(group.width)
            for piece in pieces[group.name]:
                squares += piece.per_channel(piece.parameter.detach().double().square())
            scores[group.name] = of_mean_one(np.sqrt(squares))
        check_finite(scores, self.name)
        return scores
