"""Filter groups against the optimal error, and the layers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.transform.base import Rewriting, applied
from hwprune.transform.filter_group import FilterGroups, halved

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 14), st.integers(0, 1000))


@given(SHAPES)
@settings(max_examples=50)
def test_the_halves_are_as_near_as_a_matrix_of_that_rank_can_be(shape: tuple[int, int, int, int]) -> None:
    rows, columns, rank, seed = shape
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    left, right = halved(matrix, rank)
    error = float((left @ right - matrix).square().sum())
    optimal = float((np.linalg.svd(matrix.numpy(), compute_uv=False)[rank:] ** 2).sum())  # Eckart and Young 1936

    assert left.shape == (rows, rank) and right.shape == (rank, columns)
    assert error == pytest.approx(optimal, abs=1e-9 * max(1.0, float(matrix.square().sum())))


@pytest.mark.parametrize("size", [4, 8])
def test_the_pair_computes_what_its_product_of_weights_says(size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 10, 3, stride=2, padding=1, dilation=1)
    pair = FilterGroups().rewritten(layer, {"size": size, "rank": size})
    grouped, pointwise = pair
    merged = nn.Conv2d(16, 10, 3, stride=2, padding=1)
    with torch.no_grad():
        merged.bias.copy_(layer.bias)
        for number in range(16 // size):
            left = pointwise.weight[:, number * size :][:, :size, 0, 0]
            right = grouped.weight[number * size :][:size].flatten(1)
            merged.weight[:, number * size :][:, :size] = (left @ right).view(10, size, 3, 3)
    x = torch.randn(2, 16, 9, 9)
    parts = zip(layer.weight.detach().split(size, 1), merged.weight.detach().split(size, 1), strict=True)
    error = sum(float((own - new).square().sum()) for own, new in parts)
    optimal = sum(
        float(torch.linalg.svdvals(own.flatten(1))[size:].square().sum())
        for own in layer.weight.detach().split(size, 1)
    )

    torch.testing.assert_close(pair(x), merged(x), atol=1e-5, rtol=1e-5)
    assert error == pytest.approx(optimal, rel=1e-4)


def test_groups_of_full_rank_are_the_layer_itself() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 5, (3, 1), padding=(1, 0))
    pair = FilterGroups().rewritten(layer, {"size": 2, "rank": 5})
    x = torch.randn(2, 6, 7, 7)

    torch.testing.assert_close(pair(x), layer(x), atol=1e-5, rtol=1e-5)


def test_the_most_faithful_proposals_come_first_and_all_take_less_work() -> None:
    layer = nn.Conv2d(32, 64, 3, bias=False)
    found = FilterGroups().proposals(layer)

    assert [one["size"] for one in found] == [16, 8, 4]
    for one in found:
        grouped, pointwise = FilterGroups().rewritten(layer, one)
        weights = grouped.weight.numel() + pointwise.weight.numel()
        assert weights < layer.weight.numel()
        assert weights / layer.weight.numel() == pytest.approx(one["size"] / 64 + 1 / 9)  # the paper's ratio


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Linear(4, 4), nn.Conv2d(3, 8, 3)], ids=str
)
def test_what_cannot_be_written_so_has_no_proposals(layer: nn.Module) -> None:
    assert not FilterGroups().proposals(layer)


def test_a_network_keeps_its_other_layers_and_the_one_given_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(16, 8, 3)), nn.Flatten()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = applied(model, FilterGroups(), [Rewriting("1.1", {"size": 8, "rank": 8})])

    assert isinstance(found[1][1], nn.Sequential) and isinstance(model[1][1], nn.Conv2d)
    assert not any(module.training for module in found.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found(torch.zeros(1, 3, 9, 9)).shape == model(torch.zeros(1, 3, 9, 9)).shape


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(HwpruneError, match="rank of the transform"):
        FilterGroups(rank=-1)
    with pytest.raises(TypeError, match="a convolution is wanted"):
        FilterGroups().rewritten(nn.Linear(2, 2), {"size": 1, "rank": 1})
