"""A model cut to half of everything, verified, with a word on what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.plan import Plan
from tests.graph.networks import random_plan

IMAGE = torch.zeros(2, 3, 8, 8)


def conv(before: int, after: int, **options: Any) -> nn.Conv2d:
    """A 1 x 1 convolution."""
    return nn.Conv2d(before, after, 1, **options)


def halved(model: nn.Module, inputs: Any = IMAGE) -> tuple[Network, nn.Module]:
    """The analysis and a copy cut to half of every free group, verified; the model itself is left as it was."""
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [dict(vars(module)) for module in model.modules()]
    network = analyze(model.eval(), inputs)
    kept = {g.name: range(g.width // 2) for g in network.free}
    plan = Plan.keeping(network, kept)
    small = cut(model, plan, network)
    for seed in range(2):
        some = random_plan(network, np.random.default_rng(seed))
        result = verify(model, cut(model, some, network), some, network)
        assert result.equal, (result, some.kept)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [list(vars(module)) for module in model.modules()] == [list(found) for found in attributes]
    return network, small


def why(network: Network, name: str) -> str:
    """Why a group stays."""
    return network.group(name).pinned or ""
