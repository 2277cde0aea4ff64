from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.errors import HardCodedSizeError, PlanError
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut, embedded
from hwprune.graph.verification import verify
from hwprune.models.cifar_resnet import resnet20
from hwprune.plan import Plan
from tests.graph.networks import TORCHVISION, awake, build, random_plan


@pytest.mark.parametrize("name", TORCHVISION)
def test_pruned_equals_dense_with_the_removed_channels_zeroed_at_their_consumers(name: str) -> None:
    model = build(name)
    network = analyze(model, torch.randn(1, 3, 64, 64))
    plan = random_plan(network, np.random.default_rng(1))
    state = copy.deepcopy(model.state_dict())

    small = cut(model, plan, network)
    result = verify(model, small, plan, network)
    control = verify(model, small, Plan.keeping(network, {}), network)

    assert result.equal, result
    assert control.error > 1e-3  # the removed channels were alive, so the comparison could have failed
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_the_channel_pad_of_a_cifar_resnet_is_narrowed_with_its_channels() -> None:
    torch.manual_seed(0)
    model = awake(resnet20(), torch.randn(4, 3, 32, 32))
    network = analyze(model, torch.randn(1, 3, 32, 32))
    for seed in range(5):
        plan = random_plan(network, np.random.default_rng(seed))

        assert verify(model, cut(model, plan, network), plan, network).equal


def test_widths_and_integer_attributes_follow_the_plan() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 2, 1)
    )
    network = analyze(model, torch.randn(1, 3, 8, 8))
    small = cut(model, Plan.keeping(network, {"0": [1, 3]}), network)

    first, norm, act, grouped, last = small
    assert (first.out_channels, norm.num_features, act.num_parameters) == (4, 4, 4)
    assert (grouped.in_channels, grouped.out_channels, grouped.groups, last.in_channels) == (4, 4, 2, 4)
    # coupled channel k of the first group is conv group k: channels 2k and 2k + 1
    assert torch.equal(first.weight, model[0].weight[[2, 3, 6, 7]])


def test_a_linear_layer_behind_a_flatten_loses_every_position_of_a_channel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    network = analyze(model, torch.randn(2, 3, 8, 8))
    small = cut(model, Plan.keeping(network, {"0": [0, 2]}), network)

    kept = [*range(36), *range(72, 108)]
    assert torch.equal(small[2].weight, model[2].weight[:, kept])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"])
def test_what_a_cut_network_has_learnt_goes_back_to_its_places_and_nowhere_else(name: str) -> None:
    model = build(name)
    network = analyze(model, torch.randn(1, 3, 64, 64))
    plan = random_plan(network, np.random.default_rng(1))
    small = cut(model, plan, network)
    with torch.no_grad():
        for value in small.state_dict().values():
            value.add_(1)

    grown = copy.deepcopy(model)
    grown.load_state_dict(embedded(model, small, plan, network))

    before, after = model.state_dict(), grown.state_dict()
    again = cut(grown, plan, network).state_dict()
    assert all(torch.equal(again[key], value) for key, value in small.state_dict().items())
    for key, value in after.items():
        assert int((value != before[key]).sum()) <= again[key].numel()


def test_shared_modules_and_tied_weights_stay_shared() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1)
            self.again = nn.Conv2d(6, 6, 1)
            self.again.weight = self.body.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.again(self.body(self.body(self.stem(x)).relu())))

    torch.manual_seed(0)
    model = Shared()
    network = analyze(model, torch.randn(1, 3, 4, 4))
    plan = Plan.keeping(network, {network.free[0].name: [0, 4]})
    small = cut(model, plan, network)

    assert len(network.free) == 1
    assert small.again.weight is small.body.weight
    assert verify(model, small, plan, network).equal


def test_a_width_written_into_the_forward_pins_its_channels_and_names_the_line() -> None:
    class HardCoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).view(-1, 8, 16).mean(2))

    model = HardCoded()
    network = analyze(model, torch.randn(1, 3, 4, 4))

    assert network.widths == {}
    assert "size written into the code: view in 'the network itself'" in str(network.group("a").pinned)
    assert "test_surgery.py:" in str(network.group("a").pinned)


def test_code_that_takes_other_channels_at_another_width_is_refused() -> None:
    class LastHalf(nn.Module):
        """Adds a fixed slice: shapes fit at any width, meanings do not."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.c(y + (self.b(x).flip(1) if y.shape[1] < 8 else self.b(x)))

    model = LastHalf()
    network = analyze(model, torch.randn(1, 3, 4, 4))

    assert network.widths == {}
    assert "runs other operators at another width" in str(network.group("a").pinned)


def test_code_that_only_another_width_than_the_probed_ones_leads_astray_is_refused_by_the_cut() -> None:
    class FlipsWhenNarrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.c(y + (self.b(x).flip(1) if y.shape[1] == 2 else self.b(x)))

    model = FlipsWhenNarrow()
    network = analyze(model, torch.randn(1, 3, 4, 4))

    assert not isinstance(cut(model, Plan.keeping(network, {"a": [0, 2, 3]}), network), type(None))
    with pytest.raises(HardCodedSizeError, match="runs other operators"):
        cut(model, Plan.keeping(network, {"a": [0, 3]}), network)


def test_a_plan_for_another_network_is_refused() -> None:
    model, other = (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)),
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)),
    )
    network, foreign = (analyze(m, torch.randn(1, 3, 4, 4)) for m in (model, other))

    with pytest.raises(PlanError):
        cut(model, Plan.keeping(foreign, {"0": [0]}), network)
