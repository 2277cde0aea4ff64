"""The interval of a certificate keeps its word over engines whose true ratio is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hwprune.comparison import Comparison, compare

Blocks = list[list[float]]


def rebuilds(truth: float, *, count: int, blocks: int, seed: int, differ: float = 0.01) -> tuple[Blocks, Blocks]:
    """Block medians of two engines whose true ratio is ``truth``; rebuilds differ by ``differ``."""
    rng = np.random.default_rng(seed)
    dense, pruned = [], []
    for _ in range(count):
        drift = 1 + 0.3 * rng.random(blocks)
        build = math.exp(differ * rng.standard_normal())
        dense.append(list(drift * np.exp(0.02 * rng.standard_normal(blocks))))
        pruned.append(list(truth * build * drift * np.exp(0.02 * rng.standard_normal(blocks))))
    return dense, pruned


@pytest.mark.parametrize(("count", "differ"), [(3, 0.0), (3, 0.01), (3, 0.03), (5, 0.01), (10, 0.03)])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(count: int, differ: float) -> None:
    covered = 0
    for seed in range(200):
        found = compare(*rebuilds(0.8, count=count, blocks=10, seed=seed, differ=differ), resamples=100)
        covered += found.low <= 0.8 <= found.high

    assert covered >= 182, "95 % of 200 is 190; 182 is three standard errors below"


@pytest.mark.parametrize("differ", [0.0, 0.03])
def test_identical_engines_are_not_called_faster(differ: float) -> None:
    claims = 0
    for seed in range(200):
        claims += compare(*rebuilds(1.0, count=3, blocks=10, seed=seed, differ=differ), resamples=100).faster

    assert claims <= 11, "2.5 % of 200 is 5; 11 is three standard errors above"


def test_rebuilds_that_agree_by_chance_claim_no_more_than_their_blocks_can() -> None:
    scattered = [0.9, 0.95, 1.0, 1.05, 1.1]
    found = compare([[1.0] * 5] * 3, [scattered] * 3)

    assert found.ratio == pytest.approx(1.0)
    assert found.low < 0.95 and found.high > 1.05


def test_a_real_gain_is_called_faster_and_a_loss_is_not() -> None:
    gain = compare(*rebuilds(0.9, count=3, blocks=15, seed=1))
    loss = compare(*rebuilds(1.1, count=3, blocks=15, seed=1))

    assert gain.faster and gain.low < gain.ratio < gain.high
    assert not loss.faster and loss.low > 1.0


def test_the_same_samples_give_the_same_interval() -> None:
    samples = rebuilds(0.9, count=3, blocks=8, seed=4)

    assert compare(*samples) == compare(*samples)


def test_touching_one_is_not_faster() -> None:
    assert not Comparison(0.98, 0.95, 1.0).faster


@pytest.mark.parametrize(("dense", "pruned"), [([], []), ([[1.0]], [[]]), ([[1.0]], [[1.0], [1.0]])])
def test_blocks_without_a_neighbour_are_refused(dense: list[list[float]], pruned: list[list[float]]) -> None:
    with pytest.raises(ValueError):
        compare(dense, pruned)
