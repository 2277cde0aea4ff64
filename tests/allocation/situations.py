"""A small network, budgets on it, and a judge that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from hwprune.allocation.base import Kept, Situation
from hwprune.graph.coupling import analyze
from hwprune.search.problem import Budget, Group, Op, Problem, Widths

WIDTHS = {"0": 8, "3": 12, "6": 16}


@dataclass
class Judge:
    """Accuracy by a rule of the widths, and what it was asked for."""

    rule: Callable[[dict[str, int]], float]
    asked: list[dict[str, int]] = field(default_factory=list)

    def __call__(self, kept: Kept) -> float:
        self.asked.append({name: len(channels) for name, channels in kept.items()})
        return self.rule(self.asked[-1])


def situation(
    limit: float = 0.5,
    *,
    multiple: int = 1,
    rule: Callable[[dict[str, int]], float] = lambda widths: sum(widths.values()) / 36,
    cost: Callable[[Widths], float] | None = None,
) -> Situation:
    """Three convolutions with norms; the budget is that share of the products of neighbouring widths."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 12), (12, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
    for norm in (model[1], model[4], model[7]):
        nn.init.uniform_(norm.weight, 0.2, 1.2)
    network = analyze(model, torch.zeros(1, 3, 8, 8))
    assert network.widths == WIDTHS
    scores = {name: np.random.default_rng(0).permutation(width) + 1.0 for name, width in WIDTHS.items()}
    groups = tuple(
        Group(name, choices, tuple(float(choices[-1] - choice) for choice in choices))
        for name, width in WIDTHS.items()
        for choices in [tuple(range(multiple, width + 1, multiple))]
    )
    ops: tuple[Op, ...] = (
        Op(("0",), lambda widths: 3.0 * widths["0"]),
        Op(("0", "3"), lambda widths: float(widths["0"] * widths["3"])),
        Op(("3", "6"), lambda widths: float(widths["3"] * widths["6"])),
    )
    if cost is not None:
        ops = (Op(tuple(WIDTHS), cost),)
    whole = sum(op.at(WIDTHS) for op in ops)
    random = torch.Generator().manual_seed(1)
    batches = [(torch.randn(16, 3, 8, 8, generator=random), torch.randint(4, (16,), generator=random))]
    return Situation(
        model, network, Problem(groups, (Budget("cost", ops, limit * whole),)), scores, batches, Judge(rule), 0
    )
