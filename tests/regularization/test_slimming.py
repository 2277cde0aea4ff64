"""The L1 penalty on norm scales."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwprune.errors import HwpruneError, ModelError
from hwprune.graph.coupling import analyze
from hwprune.regularization.slimming import Slimming
from tests.regularization.layers import going, network, only_drawn


def test_scales_shrink_by_the_penalty_whatever_their_size_and_nothing_else_moves() -> None:
    model, found = network()
    with torch.no_grad():
        model[1].weight[0] *= -1
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    only_drawn(Slimming(rho=0.01), model, found, going(found, {}), steps=5, lr=0.1)

    for name, value in model.named_parameters():
        moved = 5 * 0.1 * 0.01 * before[name].sign() if name in ("1.weight", "4.weight") else 0.0
        torch.testing.assert_close(value.detach(), before[name] - moved)


def test_a_network_without_norms_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    found = analyze(model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ModelError, match="go through none"):
        Slimming().begin(model, found, going(found, {}), 1)


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(HwpruneError, match="rho"):
        Slimming(0)
