"""Weights and costs at once (Yan et al., "Channel Pruning via Multi-Criteria based on Weight Dependency", 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import nn

from hwprune.errors import check_options
from hwprune.graph.makers import makers, readers
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Saved, Scores, check_finite

SMALLEST = 1e-3  # cost of a channel over the largest one: what saves next to nothing is not infinitely important


@dataclass(frozen=True)
class CpmcStyle:
    """Weights that die with a channel, over what the channel costs; both over the network's largest.

    The paper counts the channel's own filter and the slices of the next layer that read it as its weights, and adds
    computational cost and number of parameters, normalised over the whole network, so that one ranking serves all
    layers. Its formulas could not be had (arXiv:2011.03240 tells them in words only where it could be read), so these
    are a reconstruction:

        w_i = sum |own filters| + sum |slices that read it|,   I_i = (w_i / max w) / (sum_k a_k c_k / max c_k)

    with the costs c_k of one channel in MACs, parameters and measured latency, the last of which is not the paper's,
    and weights a_k that are scaled to sum to one. Cost divides as in Group Fisher Pruning, so that nothing is
    negative; with ``--normalisation none`` nothing divides a second time.

    Attributes:
        macs, params, latency: weights of the costs; all 0 leaves the weights alone.
        saved: see `Saved`; given by the run.
    """

    macs: float = 1.0
    params: float = 1.0
    latency: float = 1.0
    saved: Saved = field(default_factory=dict, repr=False)
    name: str = "cpmc-style"

    def __post_init__(self) -> None:
        check_options(
            "importance",
            self,
            macs=(self.macs >= 0, "at least 0"),
            params=(self.params >= 0, "at least 0"),
            latency=(self.latency >= 0, "at least 0"),
        )

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the costs by name."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the costs that `priced` is to be given."""
        return tuple(name for name, weight in self.weights.items() if weight)

    def priced(self, saved: Saved) -> CpmcStyle:
        """The criterion that knows what a channel costs."""
        return replace(self, saved=saved)

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data."""
        own, read = makers(model, network), readers(model, network)
        sizes = {}
        for group in network.free:
            pieces = (*own[group.name], *read[group.name])
            sizes[group.name] = sum(
                (piece.per_channel(piece.parameter.detach().abs()) for piece in pieces), np.zeros(group.width)
            )
        largest = max((float(size.max()) for size in sizes.values()), default=0.0) or 1.0
        cost = self._cost(tuple(sizes))
        scores = {name: size / largest / cost[name] for name, size in sizes.items()}
        check_finite(scores, self.name)
        return scores

    def _cost(self, groups: tuple[str, ...]) -> Mapping[str, float]:
        """Weighted mean of a channel's costs by group, each over the network's largest."""
        if not self.costs:
            return dict.fromkeys(groups, 1.0)
        total = sum(self.weights.values())
        found = dict.fromkeys(groups, 0.0)
        for name in self.costs:
            costs = {group: max(0.0, self.saved[name].get(group, 0.0)) for group in groups}
            largest = max(costs.values()) or 1.0
            for group in groups:
                found[group] += self.weights[name] / total * costs[group] / largest
        return {group: max(cost, SMALLEST) for group, cost in found.items()}
