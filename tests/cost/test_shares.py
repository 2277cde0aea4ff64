"""What every group holds of the network's work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwprune.cost.shares import free_share, shares
from hwprune.cost.work import parameter_names, work
from hwprune.graph.choices import Choices
from hwprune.graph.coupling import analyze
from tests.graph.networks import build


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "resnext50_32x4d"])
@pytest.mark.parametrize("conv_groups", ["whole", "offsets"])
def test_a_share_is_what_goes_when_one_group_alone_goes_to_one_channel(name: str, conv_groups: str) -> None:
    model = build(name)
    network = analyze(model, torch.zeros(1, 3, 64, 64), choices=Choices(conv_groups=conv_groups))  # type: ignore[arg-type]
    parameters = parameter_names(model)
    dense, found = work(network, parameters), shares(network, parameters)

    assert list(found) == list(network.widths)
    for group in network.free[:: max(1, len(network.free) // 12)]:
        small = work(network, parameters, {**network.widths, group.name: 1})
        assert found[group.name].macs == pytest.approx(1 - small.macs / dense.macs)
        assert found[group.name].parameters == pytest.approx(1 - small.parameters / dense.parameters)
        assert found[group.name].activation_elements == pytest.approx(
            1 - small.activation_elements / dense.activation_elements
        )


def test_the_share_free_to_go_is_counted_by_hand_for_a_small_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False)).eval()
    network = analyze(model, torch.zeros(1, 3, 4, 4))

    assert free_share(network, parameter_names(model)) == pytest.approx(1 - (3 + 4) / (3 * 8 + 8 * 4))
    assert free_share(network, frozenset()) == 0


def test_a_network_of_which_nothing_may_go_has_no_shares() -> None:
    model = nn.Conv2d(3, 8, 1)
    network = analyze(model, torch.zeros(1, 3, 4, 4))

    assert shares(network, parameter_names(model)) == {}
    assert free_share(network, parameter_names(model)) == 0
