"""Ranking after a uniform penalty, of GReg-2 (Wang et al., "Neural Pruning via Growing Regularization", ICLR 2021)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from hwprune.errors import check_options
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite, of_mean_one
from hwprune.importance.passes import Pass, passes
from hwprune.regularization.base import Penalties, filters_of, mean_sizes

MOMENTUM = 0.9


@dataclass(frozen=True)
class Greg2Response:
    """Mean |w| of a channel's filters in a copy that was trained while a penalty on all channels grew.

    Near a minimum with curvature h a weight under the penalty lambda is h / (h + lambda) of what it was: flat
    directions shrink faster, so that sizes tell of the Hessian without one. The paper lets lambda grow to 1e-2 in
    10,000 steps at a learning rate of 1e-3, which would halve a weight that nothing holds; here ``decay`` says by how
    much, and lambda follows from the steps. Batch norm keeps its statistics, or it would undo the shrinking. The paper
    takes a share of every layer; sizes of different layers do not compare, so each group is scaled to mean one.

    Attributes:
        steps: of training; batches are used again where there are fewer.
        lr: of SGD with momentum 0.9.
        decay: what is left at the end of a weight that nothing holds.
    """

    steps: int = 100
    lr: float = 1e-3
    decay: float = 0.5
    name: str = "greg2"

    def __post_init__(self) -> None:
        check_options(
            "importance",
            self,
            steps=(self.steps > 0, "at least 1"),
            lr=(self.lr > 0, "above 0"),
            decay=(0 < self.decay < 1, "a share"),
        )

    @property
    def ceiling(self) -> float:
        """lambda at the end: sum of lr * lambda / (1 - momentum) over the steps is the logarithm of the decay."""
        rate = self.lr / (1 - MOMENTUM)
        return -math.log(self.decay) * 2 / (rate * (self.steps + 1))

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`."""
        trained = copy.deepcopy(model).requires_grad_(True)
        penalties = Penalties(trained, network)
        optimizer = torch.optim.SGD(trained.parameters(), lr=self.lr, momentum=MOMENTUM)
        for step, (samples, run) in enumerate(islice(_endless(trained, network, list(batches), loss), self.steps), 1):
            penalties.strength.fill_(self.ceiling * step / self.steps)
            optimizer.zero_grad(set_to_none=True)
            (run() / samples).backward()  # type: ignore[no-untyped-call]
            penalties.gradients()
            optimizer.step()
        sizes = mean_sizes(filters_of(trained, network), penalties.strength).double().cpu().numpy()
        scores = {group.name: of_mean_one(sizes[group.numbers]) for group in network.free}
        check_finite(scores, self.name)
        return scores


def _endless(model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Iterator[Pass]:
    while True:
        yield from passes(model, network, batches, loss)
