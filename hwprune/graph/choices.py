"""What the user decides about coupling; everything else follows from the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hwprune.errors import HwpruneError

ConvGroups = Literal["whole", "offsets"]
Attention = Literal["heads", "head_dims"]


@dataclass(frozen=True, slots=True)
class Choices:
    """How channels are coupled where there is a choice.

    Attributes:
        conv_groups: "whole" groups of a grouped convolution go (where that leaves any choice: two large groups tied
            to each other would be one coupled channel), or the same "offsets" in every group.
        attention: whole "heads" go, or the same "head_dims" in every head.
        free_inputs: whether channels of the network's own inputs may go (one sensor of many).
    """

    conv_groups: ConvGroups = "whole"
    attention: Attention = "heads"
    free_inputs: bool = False

    def __post_init__(self) -> None:
        for name, known in (("conv_groups", get_args(ConvGroups)), ("attention", get_args(Attention))):
            if getattr(self, name) not in known:
                raise HwpruneError(f"unknown {name} {getattr(self, name)!r}", fix=f"choose one of {', '.join(known)}")
