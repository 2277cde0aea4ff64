"""What a search minimises: the loss that removing channels causes at once, alone or against what groups keep."""

from __future__ import annotations

import math
from typing import Final, Literal

Objective = Literal["loss", "odds", "shares"]
LEAST_SHARE: Final = 1e-9  # of importance that a group is said to keep, so that all of it going stays a number


def lost_at(lost: float, total: float, layers: int, objective: Objective) -> float:
    """What a search pays for channels that go.

    ``loss`` adds up importance as it is, an estimate of the loss of the network before it is trained again.

    ``odds`` divides what a group loses by the share of its importance that stays, which is its total times the odds of
    what goes against what stays. Where little goes that is hardly more than the loss; it rises without bound as a group
    comes to its last channels, so a group is not cut to a few where others could lose a little more each.

    ``shares`` takes the network as a chain in which every layer passes on the share of its importance that stays: the
    product of those shares is to be the largest, so what is paid is minus the sum of their logarithms. It rises without
    bound as well, and does not grow with the size of the estimate, which for channels that many layers share can be far
    above any loss that a network can have.

    Args:
        lost: importance of the channels that go, at least 0.
        total: of all channels that the group may keep.
        layers: that make these channels: convolutions, linear layers.
    """
    if objective == "loss":
        return lost
    share = max(LEAST_SHARE, 1.0 - lost / total if total > 0.0 else 1.0)
    return lost / share if objective == "odds" else -layers * math.log(share)
