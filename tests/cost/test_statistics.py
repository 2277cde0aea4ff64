"""Coefficients against the slow obvious way, intervals against what they promise, fits against what made the data."""

from __future__ import annotations

from itertools import combinations, product
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hwprune.cost.statistics import Correlation, Fit, held_out, kendall, log_pearson, mape, pearson, spearman

_VALUES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=4, max_size=25)


@given(_VALUES)
def test_kendall_counts_the_pairs_that_both_figures_order_alike(pairs: list[tuple[int, int]]) -> None:
    alike = ties_x = ties_y = 0
    for (a, b), (c, d) in combinations(pairs, 2):
        alike += (np.sign(a - c) * np.sign(b - d)).item()
        ties_x, ties_y = ties_x + (a == c), ties_y + (b == d)
    count = len(pairs) * (len(pairs) - 1) // 2
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = kendall(x, y)

    if ties_x == count or ties_y == count:
        assert isnan(found)
    else:
        assert found == pytest.approx(alike / np.sqrt((count - ties_x) * (count - ties_y)))


@given(_VALUES, st.floats(0.1, 10), st.floats(-5, 5))
def test_coefficients_do_not_depend_on_units(pairs: list[tuple[int, int]], factor: float, offset: float) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))

    for measure in (pearson, spearman, kendall):
        assert measure(x * factor + offset, y) == pytest.approx(measure(x, y), abs=1e-6, nan_ok=True)
    assert log_pearson(x**2 * factor, y) == pytest.approx(log_pearson(x, y), abs=1e-6, nan_ok=True)


@given(_VALUES)
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if np.ptp(x) and np.ptp(y):
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_figure_that_is_the_same_for_all_networks_has_no_signal() -> None:
    found = Correlation.of([0.5] * 6, [1, 2, 3, 4, 5, 6])

    assert isnan(found.pearson.value)
    assert isnan(found.kendall.low)
    assert str(found.spearman) == "undefined"


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rho, held = 0.8, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=60)
        found = Correlation.of(x, y, resamples=100, seed=seed).pearson
        held += found.low <= rho <= found.high

    assert 50 <= held <= 60


def test_families_that_are_alike_make_the_interval_wider() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 2)) @ np.array([[1.0, 0.7], [0.0, 0.7]])
    points = np.repeat(centres, 10, axis=0) + 0.05 * rng.normal(size=(120, 2))
    families = np.repeat(np.arange(12), 10).tolist()
    alone = Correlation.of(points[:, 0], points[:, 1]).pearson
    together = Correlation.of(points[:, 0], points[:, 1], clusters=families).pearson

    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


@given(st.lists(st.just(0.0) | st.floats(0.1, 5), min_size=3, max_size=3).filter(any), st.integers(0, 1000))
def test_a_fit_finds_the_mixture_that_made_the_data(truth: list[float], seed: int) -> None:
    terms = np.random.default_rng(seed).uniform(0.1, 1, (20, 3)) * [1e9, 1e6, 1]
    measured = terms @ (np.array(truth) / [1e9, 1e6, 1])
    found = Fit.of(terms, measured)

    assert found.at(terms) == pytest.approx(measured, rel=1e-6)
    assert found.mape < 1e-6


def test_a_fit_has_no_negative_coefficients_and_the_least_relative_error_of_those() -> None:
    rng = np.random.default_rng(1)
    terms = rng.uniform(0.1, 1, (30, 2))
    measured = np.maximum(terms @ [1.0, -0.3], 0.05)
    found = Fit.of(terms, measured)

    def squares(coefficients: tuple[float, ...]) -> float:
        return float(np.sum((terms @ coefficients / measured - 1) ** 2))

    grid = np.linspace(0, 1.5, 151)
    assert min(found.coefficients) >= 0
    assert squares(found.coefficients) <= min(squares(pair) for pair in product(grid, grid)) + 1e-9


def test_a_held_out_prediction_is_that_of_a_fit_on_the_other_families() -> None:
    rng = np.random.default_rng(2)
    terms, families = rng.uniform(0.1, 1, (12, 2)), ["a", "b", "c"] * 4
    measured = terms @ [1.0, 2.0] * rng.uniform(0.8, 1.2, 12)
    others = [i for i, family in enumerate(families) if family != "b"]
    expected = Fit.of(terms[others], measured[others]).at(terms[1::3])

    assert held_out(terms, measured, families)[1::3] == pytest.approx(expected)
    with pytest.raises(ValueError, match="another one to fit on"):
        held_out(terms, measured, ["a"] * 12)


def test_the_mean_error_is_relative() -> None:
    assert mape([90, 2.2], [100, 2]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="positive"):
        Fit.of([[1.0]], [0.0])
    with pytest.raises(ValueError, match="do not go with"):
        Fit.of([[1.0]], [1.0, 2.0])
