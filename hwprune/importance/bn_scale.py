"""Scale of batch norm (Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hwprune.graph.makers import mean_scales
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite


@dataclass(frozen=True)
class BnScale:
    """Mean |gamma| of all norms that a coupled channel goes through, one global ranking.

    The paper has one norm a channel, and trains with an L1 penalty on gamma before it ranks; without that penalty
    (the regulariser "slimming") gamma tells little. Where channels are coupled, the mean is Torch-Pruning's choice.
    """

    name: str = "bn-scale"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`; reads no data. Raises ModelError where channels go through no norm."""
        scores = mean_scales(model, network, self.name)
        check_finite(scores, self.name)
        return scores
