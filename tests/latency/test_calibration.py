"""Calibration: laws of the fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.latency.calibration import Calibration, fit

MAIN, OTHER = np.linspace(2.0, 10.0, 12), np.tile([0.4, 1.2, 0.8], 4)


@given(constant=st.floats(0, 2), main=st.floats(0.5, 2.5), other=st.floats(0.5, 2.5))
def test_an_affine_distortion_is_recovered(constant: float, main: float, other: float) -> None:
    measured = Calibration(constant, main, other)(MAIN, OTHER)  # type: ignore[arg-type]
    found = fit(list(MAIN), list(OTHER), list(measured))  # type: ignore[call-overload]

    np.testing.assert_allclose(found(MAIN, OTHER), measured, rtol=0.01)  # type: ignore[arg-type]


@given(
    measured=st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=15)
)
def test_no_coefficient_is_negative_and_predictions_stay_positive(measured: list[tuple[float, float, float]]) -> None:
    main, other, ms = (list(column) for column in zip(*measured, strict=True))
    found = fit(main, other, ms)

    assert min(found.constant_ms, found.main, found.other) >= 0
    assert all(found(a, b) > 0 for a, b in zip(main, other, strict=True))


def test_without_measurements_layers_simply_add_up() -> None:
    assert fit([], [], []) == Calibration()


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_measurements_scale(count: int) -> None:
    found = fit([2.0, 4.0][:count], [1.0, 1.0][:count], [1.5, 2.5][:count])

    assert found == Calibration(0.0, 0.5, 0.5)


def test_one_spoilt_measurement_in_twelve_hardly_matters() -> None:
    measured = Calibration(0.3, 1.2, 0.5)(MAIN, OTHER) * (1 + 0.01 * np.sin(np.arange(12)))  # type: ignore[arg-type]
    spoilt = measured.copy()
    spoilt[5] *= 3
    found = fit(list(MAIN), list(OTHER), list(spoilt))

    np.testing.assert_allclose(found(MAIN, OTHER), measured, rtol=0.04)  # type: ignore[arg-type]


def test_a_cost_that_no_measurement_tells_apart_keeps_the_common_scale() -> None:
    found = fit([1.0, 1.0, 1.0, 1.0], [0.0] * 4, [2.0] * 4)

    assert found.other == pytest.approx(2.0, rel=1e-3)
    assert found(1.0, 0.0) == pytest.approx(2.0, rel=1e-3)
