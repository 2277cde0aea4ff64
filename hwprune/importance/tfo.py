"""First-order Taylor importance of norm scales (Molchanov et al., CVPR 2019, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from hwprune.graph.makers import norm_scales, parameters_of
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite
from hwprune.importance.passes import mean_gradients


@dataclass(frozen=True)
class ScaleTaylor:
    """Squared first-order loss change when a norm's scale is set to zero.

    s_i = sum over the norms that the channel goes through of (gamma * dL/dgamma)^2, with the gradient of the mean loss
    over all samples and without the shift: as the code of OrthoReg (Lubana et al. 2020, arXiv:2009.05014) computes what
    it calls TFO. Unit: squared loss.
    """

    name: str = "tfo"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`. Raises ModelError where channels go through no norm."""
        pieces = norm_scales(model, network, self.name)
        used = parameters_of(pieces.values())
        found = mean_gradients(model, network, batches, loss, used)
        squares = {id(w): (w.detach() * g).square() for w, g in zip(used, found, strict=True)}
        scores = {
            name: np.sum([piece.per_channel(squares[id(piece.parameter)]) for piece in own], axis=0)
            for name, own in pieces.items()
        }
        check_finite(scores, self.name)
        return scores
