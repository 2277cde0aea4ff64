from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwprune.graph.choices import Choices
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut, kept_channels
from hwprune.importance.compensation import compensate
from hwprune.importance.moments import RIDGE, Gathering, blocks_of
from hwprune.models.cifar_resnet import resnet20
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from tests.graph.networks import awake
from tests.importance.shrinking import share_of, shrunk

IMAGE = (3, 8, 8)


def convolutions(second: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), second)


READERS = {
    "pointwise": lambda: convolutions(nn.Conv2d(8, 5, 1)),
    "kernel": lambda: convolutions(nn.Conv2d(8, 5, 3)),
    "grouped": lambda: convolutions(nn.Sequential(nn.Conv2d(8, 6, 3, groups=2), nn.Conv2d(6, 5, 1))),
    "transposed": lambda: convolutions(nn.ConvTranspose2d(8, 5, 2, stride=2)),
    "channels last": lambda: convolutions(nn.Conv2d(8, 5, 3)).to(memory_format=torch.channels_last),
    "flattened": lambda: convolutions(nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 5))),
    "pooled": lambda: convolutions(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))),
}


def network_of(model: nn.Module) -> Network:
    return analyze(model.eval(), (torch.zeros(1, *IMAGE),), choices=Choices(conv_groups="offsets"))


def images(count: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(seed))


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [(images(seed=seed), torch.zeros(64, dtype=torch.long)) for seed in range(count)]


def compensated(model: nn.Module, network: Network, plan: Plan, before: Plan | None = None) -> nn.Module:
    found = copy.deepcopy(model)
    present = kept_channels(network, before or Plan.keeping(network, {}))
    compensate(found, network, batches(), present=present, stays=kept_channels(network, plan))
    return found


@torch.no_grad()
def change(model: nn.Module, other: nn.Module) -> float:
    """Of the outputs, over their own size."""
    x = images(seed=9)
    dense = model(x)
    return float((other(x) - dense).norm() / (dense - dense.mean(0)).norm())


@pytest.mark.parametrize("name", READERS)
def test_what_follows_from_the_channels_that_stay_is_not_missed(name: str) -> None:
    torch.manual_seed(0)
    model = READERS[name]()
    first = model[0]
    # The last two of each four are multiples of the first two, so that every group of a convolution has both.
    with torch.no_grad():
        for made, by in ((2, 0), (3, 1), (6, 4), (7, 5)):
            first.weight[made], first.bias[made] = 2 * first.weight[by], 2 * first.bias[by]
    network = network_of(model)
    plan = Plan.keeping(network, {"0": [0, 1] if name == "grouped" else [0, 1, 4, 5]})

    off = change(model, cut(model, plan, network))
    assert off > 0.2
    # Behind the pool there is one value for each of the 128 images, too few to be sure of what follows.
    assert change(model, cut(compensated(model, network, plan), plan, network)) < (
        off / 4 if name == "pooled" else 0.01
    )


def test_what_reads_a_depthwise_convolution_takes_over_for_it() -> None:
    torch.manual_seed(0)
    model = convolutions(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 5, 1)))
    with torch.no_grad():
        for layer in (model[0], model[2][0]):
            layer.weight[4:], layer.bias[4:] = layer.weight[:4], layer.bias[:4]
    network = network_of(model)
    plan = Plan.keeping(network, {"0": range(4)})
    found = compensated(model, network, plan)

    assert [block.module for block in blocks_of(model, network)] == ["2.2"]
    assert torch.equal(found[2][0].weight, model[2][0].weight)
    assert change(model, cut(found, plan, network)) < 0.01


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), kept=st.sets(st.integers(0, 7), min_size=1, max_size=7))
def test_weights_are_those_of_a_ridge_regression(seed: int, kept: set[int]) -> None:
    torch.manual_seed(seed)
    model = convolutions(nn.Conv2d(8, 5, 1)).double()
    network = network_of(model.float())
    plan = Plan.keeping(network, {"0": sorted(kept)})
    small = cut(compensated(model, network, plan), plan, network)
    x = torch.cat([inputs for inputs, _ in batches()])
    rows = model[:2](x).detach().movedim(1, -1).reshape(-1, 8).double().numpy()

    stay, gone = sorted(kept), [k for k in range(8) if k not in kept]
    centred = rows - rows.mean(0)
    # To shrink correlations is to add a share of every channel's own variance.
    share = share_of(rows.reshape(len(x), -1, 8), rows[: len(rows) // 2].mean(0))
    own = np.diag(np.sqrt(share / (1 - share) * centred.var(0)[stay] * len(rows)))
    ridge = RIDGE / (1 - share) * centred.var(0).mean() * len(rows)
    above = np.concatenate([centred[:, stay], own, np.sqrt(ridge) * np.eye(len(stay))])
    below = np.concatenate([centred[:, gone], np.zeros((2 * len(stay), len(gone)))])
    slopes = np.linalg.lstsq(above, below, rcond=None)[0]
    weight = model[2].weight.detach().double().numpy()[:, :, 0, 0]
    expected = weight[:, stay] + weight[:, gone] @ slopes.T
    shift = rows[:, gone].mean(0) - rows[:, stay].mean(0) @ slopes
    bias = model[2].bias.detach().double().numpy() + weight[:, gone] @ shift

    np.testing.assert_allclose(small[2].weight.detach().numpy()[:, :, 0, 0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(small[2].bias.detach().numpy(), bias, rtol=1e-3, atol=1e-4)


def test_a_layer_without_bias_gets_no_shift_unless_batch_norm_takes_it() -> None:
    torch.manual_seed(0)
    model = convolutions(nn.Conv2d(8, 5, 1, bias=False))
    normed = nn.Sequential(*copy.deepcopy(model), nn.BatchNorm2d(5))
    x = torch.cat([inputs for inputs, _ in batches()])
    rows = model[:2](x).detach().movedim(1, -1).reshape(-1, 8).double()
    network, other = network_of(model), network_of(normed)
    plan = Plan.keeping(network, {"0": range(7)})
    plain = compensated(model, network, plan)[2].weight[:, :7, 0, 0].double()
    shifted = compensated(normed, other, Plan.keeping(other, {"0": range(7)}))[2].weight[:, :7, 0, 0].double()

    covariance = torch.from_numpy(shrunk(rows.view(len(x), -1, 8).numpy(), rows[: len(rows) // 2].mean(0).numpy()))
    mean = rows.mean(0)
    for found, square in ((plain, covariance + torch.outer(mean, mean)), (shifted, covariance)):
        ridged = square[:7, :7] + RIDGE * square.diagonal().mean() * torch.eye(7)
        slopes = torch.linalg.solve(ridged, square[:7, 7])
        expected = model[2].weight[:, :7, 0, 0].double() + model[2].weight[:, 7, 0, 0].double()[:, None] * slopes
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-3, atol=1e-4)


def test_in_a_network_that_has_lost_channels_it_is_that_of_the_network_cut_before() -> None:
    torch.manual_seed(0)
    model = awake(resnet20(num_classes=5), images())
    network = analyze(model, (torch.zeros(1, *IMAGE),))
    half = {name: range(width - width // 4) for name, width in network.widths.items()}
    less = {name: range(width // 2) for name, width in network.widths.items()}
    before, after = Plan.keeping(network, half), Plan.keeping(network, less)

    first = cut(model, before, network)
    own = analyze(first, (torch.zeros(1, *IMAGE),))
    plan = Plan.keeping(own, less)
    direct = cut(compensated(first, own, plan), plan, own)
    masked = cut(compensated(model, network, after, before), after, network)

    for name, value in direct.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_residual_network_is_nearer_to_the_dense_one() -> None:
    torch.manual_seed(0)
    model = awake(resnet20(num_classes=5), images())
    network = analyze(model, (torch.zeros(1, *IMAGE),))
    plan = Plan.keeping(network, {name: range(width - width // 4) for name, width in network.widths.items()})
    plain, better = cut(model, plan, network), cut(compensated(model, network, plan), plan, network)
    for small in (plain, better):
        reestimate(small, Again(batches()))

    assert change(model, better) < 0.9 * change(model, plain)


class Again(list[tuple[Tensor, Tensor]]):
    def epoch(self, number: int) -> Sequence[tuple[Tensor, Tensor]]:
        return self


class Tied(nn.Module):
    """Two layers with one weight, and one whose weight is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 1)
        self.b.weight = self.a.weight
        self.computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.a(x) + self.b(-x) + self.computed(x)


def test_weights_of_several_layers_and_computed_ones_stay() -> None:
    torch.manual_seed(0)
    model = Tied().eval()
    network = network_of(model)
    plan = Plan.keeping(network, {"first": range(4)})

    for name, value in compensated(model, network, plan).state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_nothing_changes_where_nothing_goes() -> None:
    model = READERS["kernel"]()
    network = network_of(model)
    stays = kept_channels(network, Plan.keeping(network, {}))
    before = copy.deepcopy(model.state_dict())

    assert compensate(model, network, [], present=stays, stays=stays) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_moments_are_those_of_all_positions_and_passes() -> None:
    torch.manual_seed(0)
    model = READERS["grouped"]()
    network = network_of(model)
    blocks = blocks_of(model, network)
    gathering = Gathering(blocks)
    x = [inputs for inputs, _ in batches(3)]
    with gathering.watching():
        for inputs in x:
            model(inputs)
    rows = model[:2](torch.cat(x)).detach().movedim(1, -1).reshape(-1, 8).double().numpy()

    assert [(block.module, block.part) for block in blocks] == [("2.0", 0), ("2.0", 1), ("2.1", 0)]
    for block, moments in list(gathering.moments().items())[:2]:
        own = rows[:, 4 * block.part : 4 * block.part + 4]
        np.testing.assert_allclose(moments.mean.numpy(), own.mean(0), rtol=1e-5)
        samples = own.reshape(len(torch.cat(x)), -1, 4)
        expected = shrunk(samples, samples[:64].mean((0, 1)))
        np.testing.assert_allclose(moments.covariance.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert not model[2][0]._forward_pre_hooks
