"""A layer's latency between measured widths, against functions that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.latency.surface import Kernel, Points, Surface, fit

WIDTHS = np.arange(4, 65, 4)


def sampled(function: object, count: int, seed: int, *, noise: float = 0.0) -> Points:
    """Points of a function of (c_in, c_out) at random widths, the ends among them."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([[4, 64], rng.choice(WIDTHS, count - 2)])
    b = np.concatenate([[4, 64], rng.choice(WIDTHS, count - 2)])
    values = function(a, b) * np.exp(rng.normal(0, noise, count))  # type: ignore[operator]
    return Points.of(a.tolist(), b.tolist(), values)


def relative_errors(surface: Surface, function: object) -> np.ndarray:
    truth = np.array([[function(a, b) for b in WIDTHS] for a in WIDTHS])  # type: ignore[operator]
    found: np.ndarray = np.abs(surface.grid(WIDTHS.tolist(), WIDTHS.tolist()) / truth - 1)
    return found


@settings(max_examples=15)
@given(base=st.floats(0.5, 50), slope=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_a_bilinear_layer_is_told_everywhere_from_a_few_widths(base: float, slope: float, seed: int) -> None:
    def function(a, b):  # type: ignore[no-untyped-def]
        return base + slope * a * b / 16

    assert np.median(relative_errors(fit(sampled(function, 48, seed)), function)) < 0.03


@settings(max_examples=10)
@given(block=st.sampled_from([8, 16, 32]), seed=st.integers(0, 100))
def test_plateaus_of_blocks_are_found_and_not_smoothed_over(block: int, seed: int) -> None:
    def function(a, b):  # type: ignore[no-untyped-def]
        return 1.0 + np.ceil(a / 16) * np.ceil(b / block)

    surface = fit(sampled(function, 64, seed))
    edge, past = surface.at([64, 64], [32, 36])

    assert np.median(relative_errors(surface, function)) < 0.03
    if block == 32:  # a cliff between 32 and 36 channels: 5 and 9
        assert past / edge > 1.6


@settings(max_examples=10)
@given(seed=st.integers(0, 100))
def test_a_left_out_prediction_is_what_a_fit_without_that_point_says(seed: int) -> None:
    points = sampled(lambda a, b: 5.0 + a * b / 100, 30, seed, noise=0.02)
    kernel = Kernel(noise=0.05)
    surface = fit(points, kernel)

    for place in range(2, 30, 7):
        keep = np.arange(30) != place
        fewer = Points(*(x[keep] for x in (points.c_in, points.c_out, points.values, points.doubt)), points.square)
        slow = fit(fewer, kernel).at([points.c_in[place]], [points.c_out[place]])[0]
        assert surface.left_out[place] == pytest.approx(slow, rel=0.02)


def test_a_measured_width_is_what_was_measured_there_however_odd() -> None:
    """Widths of 20 channels cost three times as much as any other: many samples, the others tell nothing of them."""
    a = np.tile(WIDTHS, 4)
    values = np.where(a == 20, 6.0, 1.0 + a / 64)

    surface = fit(Points.of(a.tolist(), a.tolist(), values))

    assert surface.at([20], [20])[0] == pytest.approx(6.0, rel=0.05)
    assert surface.at([24], [24])[0] == pytest.approx(1.375, rel=0.1)


def test_uncertainty_grows_away_from_what_was_measured_and_with_doubt() -> None:
    near = Points.of([8, 16, 24, 64], [8, 16, 24, 64], np.array([1.0, 2.0, 3.0, 8.0]))
    surface = fit(near, Kernel())
    doubted = Points(near.c_in, near.c_out, near.values, np.array([1.0, 30.0, 1.0, 1.0]), near.square)

    at_point, between = surface.deviation([16, 44], [16, 44])

    assert at_point < between
    assert fit(doubted, Kernel()).deviation([16], [16])[0] > at_point * fit(doubted, Kernel()).spread / surface.spread
    assert surface.covers([8, 4, 8], [64, 8, 65]).tolist() == [True, False, False]


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99), st.floats(0, 10)), min_size=1, max_size=12))
def test_a_latency_is_positive_and_finite_whatever_was_measured(rows: list[tuple[int, int, float]]) -> None:
    a, b, values = zip(*rows, strict=True)
    surface = fit(Points.of(a, b, np.array(values)))

    assert np.isfinite(surface.grid(sorted(set(a)), sorted(set(b)))).all()
    assert (surface.grid(sorted(set(a)), sorted(set(b))) > 0).all()
