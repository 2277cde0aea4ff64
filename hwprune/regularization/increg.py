"""Incremental regularisation (Wang et al., "Structured Pruning via Incremental Regularization", IJCNN 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwprune.errors import check_options
from hwprune.graph.network import ChannelGroup, Network
from hwprune.regularization.base import Idle, Penalties, When, filters_of, multiply

MIDDLE = 0.25  # u of the paper: what the rank N1 gets of the unit


@dataclass(frozen=True)
class IncReg:
    """Every channel's penalty rises or falls with its rank by size, until it has reached the ceiling and is gone.

    Each step ranks the channels that are left in a group by the L1 norm of their filters, averages the ranks over all
    steps, and adds `increment` of the averaged rank to each lambda, which never falls below 0. So nothing is chosen
    once and for all: what grows again recovers. A channel whose lambda has reached the ceiling is zero for good. From
    the authors' code (Caffe, "Reg_Row"; IJCNN 2019 and arXiv:1811.08390), where the unit is the weight decay, the
    ceiling 10,000 times that, and the ratios are raised step by step while accuracy holds; here widths come from the
    search, and what has not reached the ceiling in the steps that there are goes by its rank.

    Attributes:
        ceiling: lambda at which a channel is gone.
        unit: A of the paper, the largest increment; 0 takes what reaches the ceiling in a third of the steps.
    """

    ceiling: float = 2.5
    unit: float = 0.0
    name: str = "increg"
    when: When = "after"

    def __post_init__(self) -> None:
        check_options(
            "regulariser",
            self,
            ceiling=(self.ceiling > 0, "above 0"),
            unit=(self.unit >= 0, "at least 0"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Incremental:
        """See `Regularizer.begin`; of ``goes`` only the number in each group counts."""
        return Incremental(self, model, network, goes, steps)


def increment(rank: Tensor, going: int, unit: float) -> Tensor:
    """What a step adds to lambda at a rank (0 is the smallest channel) where so many are still to go: the paper's d(r).

    It falls from ``unit`` at rank 0 through a quarter of that at N1 = 2/3 ``going`` to nothing at rank ``going`` and
    below nothing behind it.

    >>> increment(torch.tensor([0.0, 20.0, 30.0]), 30, 1.0).abs()
    tensor([1.0000, 0.2500, 0.0000])
    """
    slope = math.log(2 / MIDDLE) / going
    middle = -math.log(MIDDLE) / slope
    early = unit * torch.exp(-slope * rank)
    late = 2 * MIDDLE * unit - unit * torch.exp(-slope * (2 * middle - rank))
    return torch.where(rank < middle, early, late)


class Incremental(Idle):
    """A training under IncReg."""

    def __init__(self, options: IncReg, model: nn.Module, network: Network, goes: Tensor, steps: int) -> None:
        self.options, self.network = options, network
        self.unit = options.unit or 3 * options.ceiling / steps
        self.penalties = Penalties(model, network)
        self.filters = filters_of(model, network)
        self.ranks = torch.zeros_like(self.penalties.strength)
        self.gone = torch.zeros_like(goes)
        self.wanted = {group.name: int(goes[self._numbers(group)].sum()) for group in network.free}

    @property
    def goes(self) -> Tensor:
        """What is gone, and as much of the lowest rank as is still to go."""
        found = self.gone.clone()
        for group in self.network.free:
            left = self._left(group)
            order = left[torch.argsort(self.ranks[left], stable=True)]
            found[order[: self._to_go(group)]] = True
        return found

    def gradients(self) -> None:
        """The penalties'."""
        self.penalties.gradients()

    def stepped(self, step: int) -> None:
        """Rank, raise or lower, and zero what has reached the ceiling."""
        strength = self.penalties.strength
        sizes = torch.zeros_like(strength)
        for rows in self.filters:
            rows.add_to(sizes, rows.parameter.detach().abs())
        for group in self.network.free:
            left, going = self._left(group), self._to_go(group)
            now = torch.argsort(torch.argsort(sizes[left], stable=True), stable=True).to(sizes)
            self.ranks[left] = ((step - 1) * self.ranks[left] + now) / step
            if not going:
                strength[left] = 0.0
                continue
            rank = torch.argsort(torch.argsort(self.ranks[left], stable=True), stable=True).to(sizes)
            strength[left] = (strength[left] + increment(rank, going, self.unit)).clamp(min=0)
            order = left[torch.argsort(-strength[left], stable=True)][:going]
            self.gone[order[strength[order] >= self.options.ceiling]] = True
        multiply(self.penalties.rows, ~self.gone)

    def _numbers(self, group: ChannelGroup) -> Tensor:
        return torch.from_numpy(group.numbers).to(self.penalties.strength.device)

    def _left(self, group: ChannelGroup) -> Tensor:
        numbers = self._numbers(group)
        return numbers[~self.gone[numbers]]

    def _to_go(self, group: ChannelGroup) -> int:
        return self.wanted[group.name] - int(self.gone[self._numbers(group)].sum())
