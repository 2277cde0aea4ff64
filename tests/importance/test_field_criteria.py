"""Each criterion of the field against the slow obvious computation, on filters that are coupled in several ways."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprune.errors import HwpruneError, ModelError
from hwprune.graph.coupling import analyze
from hwprune.graph.makers import makers, rows_of
from hwprune.graph.network import Network
from hwprune.importance.bn_scale import BnScale
from hwprune.importance.cpmc import SMALLEST, CpmcStyle
from hwprune.importance.criterion import Criterion, cross_entropy
from hwprune.importance.fpgm import Fpgm
from hwprune.importance.greg2 import Greg2Response
from hwprune.importance.hessian import Hessian, probe
from hwprune.importance.orthoreg import FilterTaylor
from hwprune.importance.tfo import ScaleTaylor


class Residual(nn.Module):
    """A stem and a block that add up, so that two filters and two norms make one channel; a grouped reader."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.inner, self.inner_norm = nn.Conv2d(4, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.outer, self.outer_norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem_norm(self.stem(x)))  # smooth, so that the Hessian sees more than the loss
        x = x + self.outer_norm(self.outer(torch.tanh(self.inner_norm(self.inner(x)))))
        return self.head(x.mean((2, 3)))


STREAM = ("stem", "outer")  # convolutions that make the channels of the residual stream


def example() -> tuple[Residual, Network, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    model = Residual()
    for norm in (model.stem_norm, model.inner_norm, model.outer_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    batches = [(torch.randn(3, 2, 5, 5), torch.tensor([0, 1, 2])), (torch.randn(2, 2, 5, 5), torch.tensor([2, 0]))]
    return model.eval(), analyze(model, torch.zeros(1, 2, 5, 5)), batches


def number(value: Tensor) -> float:
    return float(value.detach())


def mean_loss(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    outputs = torch.cat([model(x) for x, _ in batches])
    return functional.cross_entropy(outputs, torch.cat([y for _, y in batches]))


def test_bn_scale_is_the_mean_size_of_the_scales() -> None:
    model, network, _ = example()
    scores = BnScale().scores(model, network, [], cross_entropy)
    expected = [
        (abs(number(model.stem_norm.weight[i])) + abs(number(model.outer_norm.weight[i]))) / 2 for i in range(4)
    ]

    np.testing.assert_allclose(scores["stem"], expected, rtol=1e-6)
    np.testing.assert_allclose(scores["inner"], model.inner_norm.weight.detach().abs(), rtol=1e-6)


def test_tfo_is_the_squared_scale_times_gradient_of_the_mean_loss() -> None:
    model, network, batches = example()
    scores = ScaleTaylor().scores(model, network, batches, cross_entropy)
    mean_loss(model, batches).backward()
    expected = [
        sum(number(norm.weight[i] * norm.weight.grad[i]) ** 2 for norm in (model.stem_norm, model.outer_norm))
        for i in range(4)
    ]

    np.testing.assert_allclose(scores["stem"], expected, rtol=1e-4)


def test_orthoreg_squares_filter_by_filter_with_its_bias() -> None:
    model, network, batches = example()
    scores = FilterTaylor().scores(model, network, batches, cross_entropy)
    mean_loss(model, batches).backward()
    expected = []
    for i in range(4):
        total = 0.0
        for name in STREAM:
            layer = getattr(model, name)
            change = (layer.weight[i] * layer.weight.grad[i]).sum() + layer.bias[i] * layer.bias.grad[i]
            total += number(change) ** 2
        expected.append(total)
    inner = [number((model.inner.weight[i] * model.inner.weight.grad[i]).sum()) ** 2 for i in range(3)]

    np.testing.assert_allclose(scores["stem"], expected, rtol=1e-4)
    np.testing.assert_allclose(scores["inner"], inner, rtol=1e-4)


def test_fpgm_is_the_sum_of_distances_to_all_other_filters() -> None:
    model, network, _ = example()
    scores = Fpgm().scores(model, network, [], cross_entropy)
    filters = [torch.cat([getattr(model, name).weight[i].flatten() for name in STREAM]) for i in range(4)]
    sums = np.array([sum(number((one - other).norm()) for other in filters) for one in filters])

    np.testing.assert_allclose(scores["stem"], sums / sums.mean(), rtol=1e-6)


def test_fpgm_finds_the_filter_that_the_others_stand_in_for() -> None:
    model, network, _ = example()
    with torch.no_grad():
        for name in STREAM:
            weight = getattr(model, name).weight
            weight[2] = weight[[0, 1, 3]].mean(0)  # in the middle of the others, not the smallest of them
    scores = Fpgm().scores(model, network, [], cross_entropy)

    assert int(scores["stem"].argmin()) == 2


def test_hessian_is_on_average_over_all_signs_the_quadratic_form_of_the_explicit_hessian() -> None:
    model, network, batches = example()
    used = [model.stem.weight, model.inner.weight, model.outer.weight]

    def loss_of(*weights: Tensor) -> Tensor:
        named = dict(zip(("stem.weight", "inner.weight", "outer.weight"), weights, strict=True))
        outputs = torch.cat([torch.func.functional_call(model, named, (x,)) for x, _ in batches])
        return functional.cross_entropy(outputs, torch.cat([y for _, y in batches]))

    blocks = torch.autograd.functional.hessian(loss_of, tuple(weight.detach() for weight in used))

    def form(parts: list[tuple[int, int]]) -> float:
        total = 0.0
        for (i, row), (j, column) in product(parts, parts):
            block = blocks[i][j][row].movedim(used[i].dim() - 1, 0)[column]  # (.., ..) of one filter and another one
            size = used[i][row].numel()
            total += number(used[i][row].flatten() @ block.reshape(size, -1) @ used[j][column].flatten())
        return total / 2

    expected = {
        "stem": [form([(0, k), (2, k)]) for k in range(4)],
        "inner": [form([(1, k)]) for k in range(3)],
    }
    for parameter in used:
        parameter.requires_grad_(True)
    filters = rows_of(makers(model, network), network)
    gradients = torch.autograd.grad(
        5 * mean_loss(model, batches), [rows.parameter for rows in filters], create_graph=True
    )
    count = sum(group.width for group in network.groups)
    numbers = np.concatenate([network.group("stem").numbers, network.group("inner").numbers])
    total = torch.zeros(count, dtype=torch.float64)
    choices = list(product((-1.0, 1.0), repeat=len(numbers)))
    for choice in choices:
        signs = torch.zeros(count, dtype=torch.float64)
        signs[torch.from_numpy(numbers)] = torch.tensor(choice, dtype=torch.float64)
        total += probe(filters, gradients, signs)
    for name, values in expected.items():
        found = total[torch.from_numpy(network.group(name).numbers)] / (2 * 5 * len(choices))
        np.testing.assert_allclose(found.numpy(), values, rtol=2e-3, atol=1e-6)


def test_more_probes_bring_the_hessian_nearer_to_its_mean_and_nothing_is_negative() -> None:
    model, network, batches = example()
    few, many, most = (Hessian(probes).scores(model, network, batches, cross_entropy) for probes in (1, 64, 512))

    assert all((scores >= 0).all() for scores in few.values())
    assert np.abs(many["stem"] - most["stem"]).sum() < np.abs(few["stem"] - most["stem"]).sum()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_greg2_halves_what_nothing_holds_and_keeps_what_the_loss_holds() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.Flatten(), nn.Linear(3, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight[:] = 1.0
        model[2].weight[:] = torch.tensor([[3.0, 1.0, 0.0]])  # the loss holds the last not at all
    network = analyze(model, torch.zeros(1, 1, 1, 1))
    batches = [(torch.ones(4, 1, 1, 1), torch.full((4, 1), 4.0))]
    held = Greg2Response(steps=400, lr=1e-3)
    scores = held.scores(model, network, batches, lambda outputs, targets: (outputs - targets).square().sum())["0"]

    assert scores[0] > scores[1] > scores[2]
    assert 0.45 < scores[2] / scores[0] < 0.65
    assert torch.equal(model[0].weight, torch.ones(3, 1, 1, 1)), "the network itself does not train"


def test_cpmc_counts_what_dies_with_a_channel_over_its_costs() -> None:
    model, network, _ = example()
    saved = {"macs": {"stem": 8.0, "inner": 4.0}, "params": {"stem": 5.0, "inner": 10.0}}
    scores = CpmcStyle(macs=3, params=1, latency=0).priced(saved).scores(model, network, [], cross_entropy)
    stem = [
        sum(number(w[i].abs().sum()) for w in (model.stem.weight, model.outer.weight))
        + sum(number(w[:, i].abs().sum()) for w in (model.inner.weight, model.head.weight))
        for i in range(4)
    ]
    inner = [number(model.inner.weight[i].abs().sum() + model.outer.weight[:, i].abs().sum()) for i in range(3)]
    largest = max(*stem, *inner)

    np.testing.assert_allclose(scores["stem"], np.array(stem) / largest / (0.75 * 1 + 0.25 * 0.5), rtol=1e-5)
    np.testing.assert_allclose(scores["inner"], np.array(inner) / largest / (0.75 * 0.5 + 0.25 * 1), rtol=1e-5)


def test_cpmc_without_costs_ranks_by_weights_and_a_free_channel_is_not_infinitely_important() -> None:
    model, network, _ = example()
    plain = CpmcStyle(macs=0, params=0, latency=0).scores(model, network, [], cross_entropy)
    free = CpmcStyle(macs=0, params=0, latency=1).priced({"latency": {"stem": 2.0, "inner": -0.1}})
    scores = free.scores(model, network, [], cross_entropy)

    assert max(float(values.max()) for values in plain.values()) == 1
    np.testing.assert_allclose(scores["inner"], plain["inner"] / SMALLEST)


@pytest.mark.parametrize("criterion", [BnScale(), ScaleTaylor()], ids=lambda criterion: criterion.name)
def test_without_a_norm_the_criteria_of_norms_refuse(criterion: Criterion) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)).eval()
    network = analyze(model, torch.zeros(1, 2, 5, 5))
    with pytest.raises(ModelError, match="go through none"):
        criterion.scores(model, network, [(torch.zeros(1, 2, 5, 5), torch.zeros(1, dtype=torch.long))], cross_entropy)


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(HwpruneError, match="cannot be 0"):
        Hessian(probes=0)
    with pytest.raises(HwpruneError, match="latency of the importance"):
        CpmcStyle(latency=-1)
