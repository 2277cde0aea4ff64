"""Sparse norm scales (Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwprune.errors import check_options
from hwprune.graph.makers import norm_scales, rows_of
from hwprune.graph.network import Network
from hwprune.regularization.base import Idle, When


@dataclass(frozen=True)
class Slimming:
    """An L1 penalty on the scales of all norms that channels go through: loss + rho * sum |gamma|.

    As in the paper the subgradient rho * sign(gamma) is added to the gradient. Made for the importance "bn-scale".

    Attributes:
        rho: the penalty; 1e-4 and 1e-5 in the paper.
    """

    rho: float = 1e-4
    name: str = "slimming"
    when: When = "before"

    def __post_init__(self) -> None:
        check_options(
            "regulariser",
            self,
            rho=(self.rho > 0, "above 0"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> SparseScales:
        """See `Regularizer.begin`. Raises ModelError where channels go through no norm."""
        return SparseScales(self, model, network, goes)


class SparseScales(Idle):
    """A training under the penalty."""

    def __init__(self, options: Slimming, model: nn.Module, network: Network, goes: Tensor) -> None:
        self.options, self.goes = options, goes
        self.rows = rows_of(norm_scales(model, network, options.name), network)

    def gradients(self) -> None:
        """rho * sign(gamma) of every coupled channel."""
        for rows in self.rows:
            if rows.parameter.grad is not None:
                belongs = (rows.channel_of >= 0).to(rows.parameter)
                rows.parameter.grad.add_(self.options.rho * torch.sign(rows.parameter.detach()) * belongs)
