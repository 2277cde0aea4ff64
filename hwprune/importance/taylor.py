"""First-order Taylor importance (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hwprune.graph.makers import all_makers, parameters_of
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite
from hwprune.importance.passes import needing_gradients, passes


@dataclass(frozen=True)
class Taylor:
    """First-order estimate of the squared loss change when all that makes a coupled channel is set to zero.

    s_i = mean over batches of (sum over the channel's weights, biases and norm parameters of w * dL/dw)^2, with the
    gradient of the batch's mean loss (their equation 8 over a joint set of parameters). Unit: squared loss.
    """

    name: str = "taylor"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`."""
        pieces = all_makers(model, network)
        used = parameters_of(pieces.values())
        totals, seen = {group.name: np.zeros(group.width) for group in network.free}, 0
        with needing_gradients(model, used):
            for samples, run in passes(model, network, batches, loss):
                gradients = torch.autograd.grad(run() / samples, used, allow_unused=True)
                products = {
                    id(w): (w.detach() * g).double() for w, g in zip(used, gradients, strict=True) if g is not None
                }
                for group in network.free:
                    known = (piece for piece in pieces[group.name] if id(piece.parameter) in products)
                    change = sum(
                        (piece.per_channel(products[id(piece.parameter)]) for piece in known), np.zeros(group.width)
                    )
                    totals[group.name] += change**2
                seen += 1
        scores = {name: total / seen for name, total in totals.items()}
        check_finite(scores, self.name)
        return scores
