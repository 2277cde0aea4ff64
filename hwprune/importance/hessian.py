"""Second-order importance with the Hessian itself, by Hutchinson's estimate (Yu et al., WACV 2022, "HAP")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwprune.errors import check_options
from hwprune.graph.makers import Rows, makers, rows_of
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, by_group
from hwprune.importance.passes import needing_gradients, passes
from hwprune.modes import device_of


@dataclass(frozen=True)
class Hessian:
    """Half of w' H w over the filters w that make a coupled channel, H being the Hessian of the mean loss.

    That is the loss increase without these filters to second order, at a minimum (Optimal Brain Damage, LeCun et al.
    1990, with whole filters in place of single weights). Every probe is one Hessian-vector product, with the filters
    of each channel times a random sign s: the mean of s_i w_i' (H (s w))_i is w_i' H_ii w_i (Hutchinson 1990). HAP
    multiplies the mean of the diagonal with the filters' length; the quadratic form needs no such step. What comes out
    negative, by chance or away from a minimum, counts as nothing. Unit: loss.

    Attributes:
        probes: Hessian-vector products per batch.
        seed: of the signs.
    """

    probes: int = 1
    seed: int = 0
    name: str = "hessian"

    def __post_init__(self) -> None:
        check_options(
            "importance",
            self,
            probes=(self.probes > 0, "at least 1"),
        )

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`."""
        filters = rows_of(makers(model, network), network)
        used = [rows.parameter for rows in filters]
        count = network.count
        total, seen = torch.zeros(count, dtype=torch.float64, device=device_of(model)), 0
        generator = torch.Generator().manual_seed(self.seed)
        with needing_gradients(model, used):
            for samples, run in passes(model, network, batches, loss):
                gradients = torch.autograd.grad(run(), used, create_graph=True, allow_unused=True)
                seen += samples
                for _ in range(self.probes):
                    signs = torch.randint(2, (count,), generator=generator).to(total) * 2 - 1
                    total += probe(filters, gradients, signs) / self.probes
        return by_group(network, (total / (2 * seen)).clamp(min=0).cpu().numpy(), self.name)


def probe(filters: Sequence[Rows], gradients: Sequence[Tensor | None], signs: Tensor) -> Tensor:
    """s_i w_i' (H (s w))_i of every coupled channel, for one choice of signs s, from the gradients of a loss."""
    # A gradient that no weight changes tells nothing: the network is linear there.
    known = [(rows, g) for rows, g in zip(filters, gradients, strict=True) if g is not None and g.requires_grad]
    total = torch.zeros_like(signs)
    if not known:
        return total
    moved = [rows.parameter.detach() * rows.spread(signs) for rows, _ in known]
    slope = torch.stack([(g * direction).sum() for (_, g), direction in zip(known, moved, strict=True)]).sum()
    products = torch.autograd.grad(slope, [rows.parameter for rows, _ in known], retain_graph=True, allow_unused=True)
    for (rows, _), direction, product in zip(known, moved, products, strict=True):
        if product is not None:
            rows.add_to(total, direction * product)
    return total
