"""New statistics for batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwprune.data import Batches, from_loaders
from hwprune.errors import NumericsError
from hwprune.recovery.batchnorm import reestimate


def batches(*inputs: torch.Tensor) -> Batches:
    parts = [(x, torch.zeros(len(x)).long()) for x in inputs]
    return from_loaders(parts, parts).calibration


def test_statistics_are_the_averages_over_the_batches() -> None:
    inputs = [3 + torch.randn(8, 2, 4, 4) for _ in range(3)]
    norm = nn.BatchNorm2d(2, momentum=0.3).eval()

    used = reestimate(norm, batches(*inputs))

    assert used == 3
    assert norm.momentum == 0.3
    assert not norm.training
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))


def test_the_old_statistics_leave_no_trace() -> None:
    x, first, second = torch.randn(8, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    first(100 * torch.randn(8, 4))

    for norm in (first, second):
        reestimate(norm, batches(x, x + 1), most_batches=2)

    assert all(torch.equal(v, second.state_dict()[name]) for name, v in first.state_dict().items())


def test_dropout_is_off_and_no_weight_or_mode_changes() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in network.named_parameters()}
    x = torch.randn(16, 4)

    reestimate(network, batches(x))

    torch.testing.assert_close(network[2].running_mean, network[0](x).mean(0).detach())
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert all(module.training for module in network.modules())


def test_at_most_so_many_batches_are_used_and_none_without_batch_norm() -> None:
    source = batches(*torch.randn(5, 4, 3))

    assert reestimate(nn.BatchNorm1d(3), source, most_batches=2) == 2
    assert reestimate(nn.Linear(3, 2), source) == 0
    assert reestimate(nn.BatchNorm1d(3, track_running_stats=False), source) == 0


def test_statistics_that_are_not_finite_are_named() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    network[0].weight.data[0] = float("inf")

    with pytest.raises(NumericsError, match="'1'"):
        reestimate(network, batches(torch.randn(4, 3)))
