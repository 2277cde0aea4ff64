"""Widths proposed by a small graph network (after Zhang et al., "Graph Pruning for Model Compression", 2019/2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.allocation.base import Kept, Situation
from hwprune.errors import check_options

LEAST_RATIO = 0.1  # of a proposal, before all are scaled
HIDDEN = 16
LEARNING_STEPS, CLIMBING_STEPS = 300, 60


@dataclass(frozen=True)
class GraphStyle:
    """A graph network over the groups learns from measured candidates which ratios keep accuracy, and proposes widths.

    Nodes are channel groups; two are joined where one operator costs what both widths say. A network of two graph
    convolutions (Kipf and Welling 2017) predicts accuracy from the nodes' facts and ratios. It learns from
    ``candidates`` random ratios, scaled until the budgets hold, with their accuracy on held-back training data; then
    ratios climb its prediction, and the best of what was measured is taken. Of the paper, which generates weights by a
    network over the graph and searches widths by reinforcement learning, only the idea is known here that layers joined
    by shortcuts are to be judged together.

    Attributes:
        candidates: measured at random.
        proposals: measured of the network's.
    """

    candidates: int = 24
    proposals: int = 8
    name: str = "graph-style"

    def __post_init__(self) -> None:
        check_options(
            "allocation",
            self,
            candidates=(self.candidates > 1, "at least 2"),
            proposals=(self.proposals > 0, "at least 1"),
        )

    def kept(self, situation: Situation) -> Kept:
        """See `Allocator.kept`."""
        names = situation.open
        if not names:
            return situation.best(situation.narrowest)
        random = np.random.default_rng(situation.seed)
        tried = _Tried(situation)
        for _ in range(self.candidates):
            tried.measure(random.uniform(LEAST_RATIO, 1, len(names)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(situation.seed)
            network = Predictor(facts_of(situation), adjacency(situation))
            learn(network, torch.tensor(np.array(tried.ratios)).float(), torch.tensor(tried.accuracies).float())
        starts = np.argsort(-np.array(tried.accuracies), kind="stable")[: self.proposals]
        for climbed in climb(network, torch.tensor(np.array(tried.ratios)[starts]).float()):
            tried.measure(climbed.double().numpy())
        return situation.best(tried.widths[int(np.argmax(tried.accuracies))])


class _Tried:
    """What was measured: the ratios that the widths really have, the widths, and their accuracy."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self.ratios: list[np.ndarray] = []
        self.widths: list[dict[str, int]] = []
        self.accuracies: list[float] = []

    def measure(self, ratios: np.ndarray) -> None:
        names = self.situation.open
        widths = self.situation.fitted(dict(zip(names, map(float, ratios), strict=True)))
        full = {group.name: group.choices[-1] for group in self.situation.problem.groups}
        self.ratios.append(np.array([widths[name] / full[name] for name in names]))
        self.widths.append(widths)
        self.accuracies.append(self.situation.judge(self.situation.best(widths)))


def adjacency(situation: Situation) -> Tensor:
    """(groups, groups): joined groups and each with itself, normalised as Kipf and Welling do: D^-1/2 A D^-1/2."""
    place = {name: i for i, name in enumerate(situation.open)}
    joined = torch.eye(len(place))
    for budget in situation.problem.budgets:
        for op in budget.ops:
            known = [place[name] for name in op.groups if name in place]
            for one in known:
                joined[one, known] = 1
    roots = joined.sum(1).rsqrt()
    return roots[:, None] * joined * roots[None]


def facts_of(situation: Situation) -> Tensor:
    """(groups, 4): logarithm of the width, place in the network, share of the cost, spread of importance."""
    groups: Mapping[str, tuple[int, ...]] = {group.name: group.choices for group in situation.problem.groups}
    full = {name: choices[-1] for name, choices in groups.items()}
    ops, rows = [op for budget in situation.problem.budgets for op in budget.ops], []
    total = sum(op.at(full) for op in ops) or 1.0
    for place, name in enumerate(situation.open):
        share = sum(op.at(full) for op in ops if name in op.groups) / total
        scores = situation.scores.get(name, np.ones(1))
        spread = float(scores.std() / max(float(scores.mean()), 1e-30))
        rows.append((np.log2(full[name]) / 10, place / len(situation.open), share, spread))
    return torch.tensor(rows, dtype=torch.float32)


class Predictor(nn.Module):
    """Two graph convolutions over facts and ratios, and a mean over the groups: () a ratio vector's worth."""

    def __init__(self, facts: Tensor, joined: Tensor) -> None:
        super().__init__()
        self.facts, self.joined = facts, joined
        self.first, self.second = nn.Linear(facts.shape[1] + 2, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, 1)

    def forward(self, ratios: Tensor) -> Tensor:
        """(candidates, groups) -> (candidates,)."""
        facts = self.facts.expand(len(ratios), -1, -1)
        nodes = torch.cat([facts, ratios[..., None], ratios[..., None].log()], dim=2)
        nodes = torch.relu(self.first(self.joined @ nodes))
        nodes = torch.relu(self.second(self.joined @ nodes))
        worth: Tensor = self.last(nodes.mean(1))[:, 0]
        return worth


def learn(network: Predictor, ratios: Tensor, accuracies: Tensor) -> None:
    """Fit the standardised accuracies."""
    wanted = (accuracies - accuracies.mean()) / accuracies.std().clamp(min=1e-6)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(LEARNING_STEPS):
        optimizer.zero_grad()
        (network(ratios) - wanted).square().mean().backward()
        optimizer.step()


def climb(network: Predictor, ratios: Tensor) -> Tensor:
    """Ratios of a better prediction, from these; their mean stays, since the budgets scale it anyway."""
    network.requires_grad_(False)
    found, size = ratios.clone().requires_grad_(), ratios.mean(1, keepdim=True)
    optimizer = torch.optim.Adam([found], lr=0.02)
    for _ in range(CLIMBING_STEPS):
        optimizer.zero_grad()
        (-network(found).sum()).backward()
        optimizer.step()
        with torch.no_grad():
            found.mul_(size / found.mean(1, keepdim=True)).clamp_(LEAST_RATIO, 1)
    return found.detach()
