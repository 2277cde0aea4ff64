"""How well a network classifies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hwprune.data import Batches, from_loaders
from hwprune.errors import DataError, ModelError, NumericsError
from hwprune.recovery.evaluate import evaluate


def batches(inputs: Tensor, labels: Tensor, size: int) -> Batches:
    parts = list(zip(inputs.split(size), labels.split(size), strict=True))
    return from_loaders(parts, parts).validation


def test_counts_are_those_of_the_slow_way() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(37, 9, generator=generator), torch.randint(0, 9, (37,), generator=generator)
    ranks = [
        sorted(range(9), key=lambda c: -float(row[c])).index(int(label))
        for row, label in zip(logits, labels, strict=True)
    ]
    loss = sum(-math.log(torch.softmax(row, 0)[label]) for row, label in zip(logits, labels, strict=True)) / 37

    result = evaluate(nn.Identity(), batches(logits, labels, size=8))

    assert (result.count, result.top1, result.top5) == (
        37,
        ranks.count(0) / 37,
        sum(r < 5 for r in ranks) / 37,
    )
    assert result.loss == pytest.approx(loss, rel=1e-5)


def test_modes_are_restored_and_dropout_is_off() -> None:
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3).eval())

    result = evaluate(network, batches(torch.eye(3), torch.arange(3), size=3), device="cpu")

    assert result.top1 == 1.0
    assert [module.training for module in network] == [True, False]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = torch.zeros(6, 3)
    logits[4, 1] = bad

    with pytest.raises(NumericsError, match="images 4 to 6"):
        evaluate(nn.Identity(), batches(logits, torch.zeros(6).long(), size=2))


def test_labels_and_outputs_that_do_not_fit_are_said() -> None:
    with pytest.raises(DataError, match="label 3"):
        evaluate(nn.Identity(), batches(torch.zeros(2, 3), torch.tensor([0, 3]), size=2))
    with pytest.raises(ModelError, match="one tensor"):
        evaluate(nn.Identity(), batches(torch.zeros(2, 3, 4), torch.tensor([0, 1]), size=2))
