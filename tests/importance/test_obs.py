from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwprune.errors import ModelError
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut, kept_channels
from hwprune.importance.compensation import compensate
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.measured import MOST_IMAGES, convex, through
from hwprune.importance.obs import OptimalBrainSurgeon, Reader, eliminated
from hwprune.models.cifar_resnet import resnet20
from hwprune.modes import hooked
from hwprune.plan import Plan
from tests.graph.networks import awake

Layer = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer(rng: np.random.Generator, width: int) -> Layer:
    """Which of its inputs are the group's channels, its weights and the covariance of its inputs."""
    others = int(rng.integers(0, 4))
    channels = rng.permutation(np.concatenate([np.arange(width), np.full(others, -1)]))
    rows = rng.normal(size=(4 * len(channels), len(channels))) @ rng.normal(size=(len(channels), len(channels)))
    return channels, rng.normal(size=(len(channels), 5)), rows.T @ rows / len(rows)


def reader(channels: np.ndarray, weights: np.ndarray, covariance: np.ndarray) -> Reader:
    own = channels >= 0
    return Reader(channels[own], weights[own].copy(), np.linalg.inv(covariance)[np.ix_(own, own)].copy())


def error(one: Layer, gone: list[int]) -> float:
    """Least mean square error of the layer's outputs without these channels."""
    channels, weights, covariance = one
    r = np.isin(channels, gone) & (channels >= 0)
    left = covariance[np.ix_(r, r)]
    if not r.all():
        left = left - covariance[np.ix_(r, ~r)] @ np.linalg.solve(covariance[np.ix_(~r, ~r)], covariance[np.ix_(~r, r)])
    return float(np.trace(weights[r].T @ left @ weights[r]))


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000), width=st.integers(1, 7), layers=st.integers(1, 3))
def test_channels_go_as_trying_every_one_of_them_at_every_step_would_have_it(
    seed: int, width: int, layers: int
) -> None:
    rng = np.random.default_rng(seed)
    own = [layer(rng, width) for _ in range(layers)]
    order, costs = eliminated([reader(*one) for one in own], width)

    gone: list[int] = []
    for place, channel in enumerate(order):
        tried = {k: sum(error(one, [*gone, k]) for one in own) for k in range(width) if k not in gone}
        assert tried[int(channel)] == pytest.approx(min(tried.values()), rel=1e-6, abs=1e-9)
        gone.append(int(channel))
        assert costs[: place + 1].sum() == pytest.approx(tried[int(channel)], rel=1e-6, abs=1e-9)


def test_a_channel_that_is_read_twice_by_a_layer_goes_from_both_places() -> None:
    rng = np.random.default_rng(0)
    channels, weights, covariance = np.array([0, 1, 0, 1]), rng.normal(size=(4, 3)), np.diag([1.0, 2.0, 3.0, 4.0])
    order, costs = eliminated([reader(channels, weights, covariance)], 2)
    each = np.square(weights).sum(1) * np.diag(covariance)

    assert sorted(order.tolist()) == [0, 1]
    np.testing.assert_allclose(costs, np.sort([each[0] + each[2], each[1] + each[3]]))


def test_wide_groups_lose_several_channels_at_once() -> None:
    rng = np.random.default_rng(0)
    one = layer(rng, 300)
    order, costs = eliminated([reader(*one)], 300)

    assert sorted(order.tolist()) == list(range(300))
    # What goes together is judged as if each went alone: near the exact sum, not equal to it.
    assert costs.sum() == pytest.approx(error(one, list(range(300))), rel=0.5)


CURVES = st.lists(st.floats(0, 1e3), min_size=2, max_size=30).map(lambda s: np.concatenate([[0.0], np.cumsum(s)]))


@given(curve=CURVES, data=st.data())
def test_the_measured_curve_meets_the_points_and_never_falls(curve: np.ndarray, data: st.DataObject) -> None:
    counts = data.draw(st.sets(st.integers(1, len(curve) - 1), min_size=1, max_size=4))
    costs = data.draw(st.lists(st.floats(0, 1e4), min_size=len(counts), max_size=len(counts)))
    points = list(zip(sorted(counts), sorted(costs), strict=True))
    found = through(curve, points)

    assert found[0] == 0 and (np.diff(found) >= -1e-9 * found.max()).all()
    for count, cost in points:
        assert found[count] == pytest.approx(cost)


@given(curve=CURVES)
def test_scores_rise_in_the_order_in_which_channels_go_and_add_up(curve: np.ndarray) -> None:
    steps = convex(curve)

    assert (np.diff(steps) > 0).all() and (steps >= 0).all()
    assert steps.sum() == pytest.approx(curve[-1], rel=1e-6, abs=1e-9)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 5),
    ).eval()  # fmt: skip


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(MOST_IMAGES, 3, 10, 10, generator=generator), torch.zeros(MOST_IMAGES).long())
        for _ in range(count)
    ]


def test_the_sum_of_scores_is_what_the_cut_and_compensated_network_is_off_by() -> None:
    model, data = small(), batches()
    network = analyze(model, (torch.zeros(1, 3, 10, 10),))
    scores = OptimalBrainSurgeon().scores(model, network, data, cross_entropy)
    for group in network.free:
        order = np.argsort(scores[group.name])
        count = group.width // 2
        plan = Plan.keeping(network, {group.name: sorted(order[count:].tolist())})
        own, stays = copy.deepcopy(model), kept_channels(network, plan)
        compensate(own, network, data, present=np.ones_like(stays), stays=stays)
        x = data[0][0]
        with torch.no_grad():
            off = (cut(own, plan, network)(x) - model(x)).square().sum() / len(x)

        # Scores only rise, which may move a measured point; here it does not.
        assert scores[group.name][order[:count]].sum() == pytest.approx(float(off), rel=0.02)


@pytest.mark.parametrize("images", [32, 96])
def test_a_group_costs_what_it_costs_on_data_that_was_not_seen(images: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 5)).eval()
    network = analyze(model, (torch.zeros(1, 64),))
    data = [(torch.randn(images // 2, 64), torch.zeros(images // 2).long()) for _ in range(2)]
    (group,) = network.free
    scores = OptimalBrainSurgeon().scores(model, network, data, cross_entropy)[group.name]
    order = np.argsort(scores)
    plan = Plan.keeping(network, {group.name: sorted(order[24:].tolist())})
    own, stays = copy.deepcopy(model), kept_channels(network, plan)
    compensate(own, network, data, present=np.ones_like(stays), stays=stays)
    x = torch.randn(4096, 64)
    with torch.no_grad():
        off = (cut(own, plan, network)(x) - model(x)).square().sum() / len(x)

    # The scale is measured on images that the weights were fitted to, which may be that much too low.
    assert float(off) / 3 < scores[order[:24]].sum() < 1.5 * float(off)


def test_copies_are_the_first_to_go() -> None:
    model = small()
    with torch.no_grad():
        for made, by in ((5, 0), (6, 1)):
            model[0].weight[made], model[0].bias[made] = model[0].weight[by], model[0].bias[by]
    network = analyze(model, (torch.zeros(1, 3, 10, 10),))
    scores = OptimalBrainSurgeon().scores(model, network, batches(), cross_entropy)["0"]
    first = set(np.argsort(scores)[:2].tolist())

    assert len(first & {0, 5}) == 1 and len(first & {1, 6}) == 1
    assert np.sort(scores)[:2].max() < 0.05 * np.sort(scores)[2]


def test_residual_networks_are_scored_and_left_as_they_were() -> None:
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = awake(resnet20(num_classes=5), x)
    before = copy.deepcopy(model.state_dict())
    network = analyze(model, (x[:1],))
    scores = OptimalBrainSurgeon().scores(model, network, [(x, torch.zeros(16).long())], cross_entropy)
    again = OptimalBrainSurgeon().scores(model, network, [(x, torch.ones(16).long())], cross_entropy)

    assert {name: len(found) for name, found in scores.items()} == dict(network.widths)
    assert all((found > 0).any() for found in scores.values())
    for name, found in scores.items():
        np.testing.assert_array_equal(found, again[name])  # labels are not looked at
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_batch_is_used_before_the_next_one_is_asked_for() -> None:
    x = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = awake(resnet20(num_classes=5), x)
    network, labels = analyze(model, (x[:1],)), torch.zeros(4).long()
    runs, seen = [], []

    def drawn() -> Iterator[tuple[Tensor, Tensor]]:
        for part in x.split(4):
            seen.append(len(runs))
            yield part, labels

    with hooked([model.register_forward_hook(lambda *_: runs.append(1))]):
        found = OptimalBrainSurgeon().scores(model, network, drawn(), cross_entropy)
    known = OptimalBrainSurgeon().scores(model, network, [(part, labels) for part in x.split(4)], cross_entropy)

    assert seen == [0, 1, 2]
    assert all(np.array_equal(found[name], known[name]) for name in known)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Linear(6, 8), nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).relu() @ self.weight.T


def test_channels_that_only_a_plain_product_reads_are_refused() -> None:
    model = Product().eval()
    with pytest.raises(ModelError, match="cannot see every layer"):
        OptimalBrainSurgeon().scores(
            model, analyze(model, (torch.zeros(1, 6),)), [(torch.zeros(2, 6), torch.zeros(2).long())], cross_entropy
        )
