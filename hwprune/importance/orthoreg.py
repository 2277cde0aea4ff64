"""Importance of OrthoReg (Lubana et al., "Robust Network Pruning Using Orthonormality Regularization", 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from hwprune.graph.makers import Floats, Piece, makers, parameters_of
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite
from hwprune.importance.passes import mean_gradients


@dataclass(frozen=True)
class FilterTaylor:
    """Squared first-order loss change without a filter, summed over the filters that make a coupled channel.

    For every filter j, its convolution's bias included, s_j = (sum of w * g)^2 with g the gradient of the mean loss
    over all samples, in eval mode; a channel's importance is the sum of s_j over its filters. Adding up is exact where
    filters act independently, which is what the paper's regulariser ("orthoreg") trains for. From the authors' code
    (arXiv:2009.05014), which leaves residual streams whole; here they are coupled channels as any other. Unit:
    squared loss.
    """

    name: str = "orthoreg"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`."""
        pieces = makers(model, network)
        state = dict(model.named_parameters(remove_duplicate=False))
        weights = parameters_of(pieces.values())
        biases = [bias for own in pieces.values() for piece in own if (bias := state.get(_bias_of(piece))) is not None]
        used = [*weights, *{id(bias): bias for bias in biases}.values()]
        found = mean_gradients(model, network, batches, loss, used)
        products = {id(w): w.detach() * g for w, g in zip(used, found, strict=True)}
        scores = {}
        for group in network.free:
            total = np.zeros(group.width)
            for piece in pieces[group.name]:
                bias = state.get(_bias_of(piece))
                changes = _filters(piece, products[id(piece.parameter)], None if bias is None else products[id(bias)])
                total += (changes**2)[piece.slot.indices].sum(1)
            scores[group.name] = total
        check_finite(scores, self.name)
        return scores


def _bias_of(piece: Piece) -> str:
    return f"{piece.slot.parameter.rpartition('.')[0]}.bias"


def _filters(piece: Piece, weight: Tensor, bias: Tensor | None) -> Floats:
    """What each filter of a layer adds."""
    rows = piece.rows(weight)
    # A transposed convolution in groups has as many rows as one of its groups has outputs, and no bias fits them.
    return rows + bias.double().cpu().numpy() if bias is not None and len(bias) == len(rows) else rows
