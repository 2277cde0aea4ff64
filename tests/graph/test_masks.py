"""A mask over coupled channels is as good as a cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwprune.graph.coupling import analyze
from hwprune.graph.masks import masking
from hwprune.graph.surgery import cut, kept_channels
from tests.graph.networks import build, random_plan


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_a_network_with_a_mask_of_zeros_computes_what_the_cut_one_does(name: str) -> None:
    model = build(name).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    network = analyze(model, x)
    plan = random_plan(network, np.random.default_rng(0))
    mask = torch.from_numpy(kept_channels(network, plan)).double()

    with torch.no_grad(), masking(model, network, mask):
        masked = model(x)
        mask.fill_(1)
        whole = model(x)
    with torch.no_grad():
        torch.testing.assert_close(masked, cut(model, plan, network)(x), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(whole, model(x), rtol=0, atol=0)  # a mask may change meanwhile, and is gone after


def test_half_a_mask_is_half_of_every_consumers_input() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    network = analyze(model, x)
    with masking(model, network, torch.full((6,), 0.5, dtype=torch.float64)):
        halved = model(x)

    torch.testing.assert_close(halved, torch.nn.functional.linear(model[0](x) / 2, model[1].weight, model[1].bias))
