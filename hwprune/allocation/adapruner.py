"""Widths by the mean scale of norms (Liu et al., "AdaPruner", 2021, arXiv:2109.06397)."""

from __future__ import annotations

from dataclasses import dataclass

from hwprune.allocation.base import Kept, Situation
from hwprune.errors import check_options
from hwprune.graph.makers import mean_scales


@dataclass(frozen=True)
class AdaPrunerStyle:
    """Every group keeps a share of its channels in proportion to the mean |gamma| of its norms.

    The paper takes the mean scale of a block's norms for its importance and finds the network that meets a budget by
    bisection; how importance becomes a width could not be read, so here the share is t * I / max I, at most 1, and t is
    bisected until the budgets hold, measured latency among them. Its networks train with an L1 penalty on gamma first
    (the regulariser "slimming").

    Attributes:
        least: share that every group keeps before t counts.
    """

    least: float = 0.0
    name: str = "adapruner-style"

    def __post_init__(self) -> None:
        check_options(
            "allocation",
            self,
            least=(0 <= self.least < 1, "a share below 1"),
        )

    def kept(self, situation: Situation) -> Kept:
        """See `Allocator.kept`. Raises ModelError where channels go through no norm."""
        scales = mean_scales(situation.model, situation.network, self.name)
        means = {name: float(own.mean()) for name, own in scales.items() if name in situation.open}
        largest = max(means.values(), default=1.0)
        ratios = {name: max(self.least, mean / largest) for name, mean in means.items()}
        return situation.best(situation.fitted(ratios))
