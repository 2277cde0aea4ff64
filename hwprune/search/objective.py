"""What a search minimises: the loss that removing channels causes at once, or the shares that layers lose of theirs."""

from __future__ import annotations

import math
from typing import Final, Literal

Objective = Literal["loss", "shares"]
LEAST_SHARE: Final = 1e-9  # of importance that a group is said to keep, so that all of it going stays a number


def lost_at(lost: float, total: float, layers: int, objective: Objective) -> float:
    """What a search pays for channels that go.

    ``loss`` adds up importance as it is, an estimate of the loss of the network before it is trained again. ``shares``
    takes the network as a chain in which every layer passes on the share of its importance that stays: the product of
    those shares is to be the largest, so what is paid is minus the sum of their logarithms. It rises without bound as a
    group comes to its last channels, and does not grow with the size of the estimate, which for channels that many
    layers share can be far above any loss that a network can have.

    Args:
        lost: importance of the channels that go, at least 0.
        total: of all channels that the group may keep.
        layers: that make these channels: convolutions, linear layers.
    """
    if objective == "loss":
        return lost
    share = 1.0 - lost / total if total > 0.0 else 1.0
    return -layers * math.log(max(LEAST_SHARE, share))
