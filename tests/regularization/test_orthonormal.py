"""OrthoReg's loss and gradient against loops over filters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.graph.coupling import analyze
from hwprune.regularization.orthonormal import OrthoReg, distance, form_of
from tests.regularization.layers import going, network, only_drawn


def slow_distance(rows: torch.Tensor) -> float:
    """Sum over pairs of vectors of |their product - (1 where they are the same)|."""
    return sum(
        abs(sum(float(a * b) for a, b in zip(one, other, strict=True)) - (i == j))
        for i, one in enumerate(rows)
        for j, other in enumerate(rows)
    )


@pytest.mark.parametrize(("filters", "weights"), [(3, 5), (4, 4), (5, 3)])
def test_the_distance_from_orthonormal_is_a_sum_over_pairs(filters: int, weights: int) -> None:
    matrix = torch.randn(filters, weights, dtype=torch.float64, generator=torch.Generator().manual_seed(filters))
    form = form_of(filters, weights)

    assert form == ("rows" if filters <= weights else "columns")
    assert float(distance(matrix, form)) == pytest.approx(slow_distance(matrix if form == "rows" else matrix.T))


@pytest.mark.parametrize(("filters", "weights"), [(3, 5), (5, 3)])
def test_its_gradient_is_that_of_differences(filters: int, weights: int) -> None:
    matrix = torch.randn(filters, weights, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    form = form_of(filters, weights)

    assert torch.autograd.gradcheck(lambda m: distance(m, form), matrix.requires_grad_())


def test_orthonormal_filters_cost_nothing() -> None:
    rows, _ = torch.linalg.qr(torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))

    assert float(distance(rows.T, "rows")) == pytest.approx(0, abs=1e-12)
    assert float(distance(rows, "columns")) == pytest.approx(0, abs=1e-12)


def test_the_loss_weighs_layers_by_the_root_of_their_size_and_sees_every_convolution_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 6, 3, groups=6), nn.Flatten()
    )
    found = analyze(model, torch.zeros(1, 2, 8, 8))
    loss = OrthoReg(0.1).begin(model, found, going(found, {}), 1).loss()
    assert loss is not None
    first, second = model[0].weight.flatten(1), model[1].weight.flatten(1)
    second = torch.cat([second, model[1].bias[:, None]], 1)
    roots = (math.sqrt(4), math.sqrt(3))  # 4 filters of 18 weights; 3 filters of 2 weights and a bias in each group
    halves = slow_distance(second[:3].detach()) + slow_distance(second[3:].detach())
    expected = 0.1 * (roots[0] * slow_distance(first.detach()) + roots[1] * halves) / sum(roots)

    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_training_under_it_makes_filters_more_orthonormal() -> None:
    model, found = network()
    before = [float(distance(model[i].weight.detach().flatten(1), "rows")) for i in (0, 3)]
    only_drawn(OrthoReg(1.0), model, found, going(found, {}), steps=50, lr=0.02)
    after = [float(distance(model[i].weight.detach().flatten(1), "rows")) for i in (0, 3)]

    assert all(new < 0.5 * old for new, old in zip(after, before, strict=True))


def test_nothing_is_drawn_where_there_is_no_convolution() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    found = analyze(model, torch.zeros(1, 3, 2, 2))

    assert OrthoReg().begin(model, found, going(found, {}), 1).loss() is None


def test_a_strength_of_nothing_is_refused() -> None:
    with pytest.raises(HwpruneError, match="cannot be 0"):
        OrthoReg(0)
