"""What makes coupled channels, where a parameter belongs to several groups at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.graph.makers import mean_scales


class Joined(nn.Module):
    """Two convolutions whose channels, side by side, go through one norm; those of the first through another too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.own = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(3, 6, 1)
        self.norm = nn.BatchNorm2d(10)
        self.last = nn.Conv2d(10, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        joined = self.norm(torch.cat([self.own(self.first(images)), self.second(images)], 1))
        found: Tensor = self.last(joined)
        return found


def test_of_a_norm_over_several_groups_each_has_its_own_scales() -> None:
    model = Joined().eval()
    with torch.no_grad():
        model.own.weight.copy_(torch.tensor([0.0, 1.0, 2.0, -3.0]))
        model.norm.weight.copy_(torch.arange(10.0))
    found = mean_scales(model, analyze(model, torch.zeros(1, 3, 4, 4)), "a test")

    assert found["first"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found["second"].tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
