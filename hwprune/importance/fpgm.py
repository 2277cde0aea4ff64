"""Distance from the other filters (He et al., "Filter Pruning via Geometric Median", CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from hwprune.graph.makers import makers, squared_distances
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite, of_mean_one


@dataclass(frozen=True)
class Fpgm:
    """Sum of the Euclidean distances from what makes a channel to what makes every other one of its group.

    The channel nearest to the geometric median of its group is the one that the others stand in for best (the paper's
    equation 6). The filters of all layers that make a coupled channel are one long vector. The paper takes the same
    share of every layer; distances of different layers do not compare, so each group is scaled to mean one.
    """

    name: str = "fpgm"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data."""
        pieces, scores = makers(model, network), Scores()
        for group in network.free:
            squares = squared_distances(pieces[group.name], group.width)
            scores[group.name] = of_mean_one(np.sqrt(squares).sum(1))
        check_finite(scores, self.name)
        return scores
