"""First-order Taylor importance (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite
from hwprune.importance.passes import passes


@dataclass(frozen=True)
class Taylor:
    """First-order estimate of the squared loss change when all that makes a coupled channel is set to zero.

    s_i = mean over batches of (sum over the channel's weights, biases and norm parameters of w * dL/dw)^2, with the
    gradient of the batch's mean loss (their equation 8 over a joint set of parameters). Unit: squared loss.
    """

    name: str = "taylor"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`."""
        state = dict(model.named_parameters(remove_duplicate=False))
        makers = {
            group.name: [s for s in group.slots if not s.contracted and s.parameter in state] for group in network.free
        }
        used = [*{id(state[s.parameter]): state[s.parameter] for slots in makers.values() for s in slots}.values()]
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        totals, seen = {group.name: np.zeros(group.width) for group in network.free}, 0
        try:
            for parameter in used:
                parameter.requires_grad_(True)
            for samples, run in passes(model, network, batches, loss):
                gradients = torch.autograd.grad(run() / samples, used, allow_unused=True)
                products = {
                    id(w): (w.detach() * g).double() for w, g in zip(used, gradients, strict=True) if g is not None
                }
                for group in network.free:
                    change = np.zeros(group.width)
                    for slot in makers[group.name]:
                        product = products.get(id(state[slot.parameter]))
                        if product is None:
                            continue
                        others = [dim for dim in range(product.dim()) if dim != slot.dim]
                        rows = (product.sum(others) if others else product).cpu().numpy()
                        change += rows[slot.indices].sum(1)
                    totals[group.name] += change**2
                seen += 1
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
        scores = {name: total / seen for name, total in totals.items()}
        check_finite(scores, self.name)
        return scores
