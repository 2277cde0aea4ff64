"""Errors of predictions, and how they are kept."""

from __future__ import annotations

import json
from math import isnan

import pytest
from hypothesis import given

from hwprune.latency.held_out import HeldOut, PredictionError
from tests.latency.strategies import held_outs


def test_errors_are_those_worked_out_by_hand() -> None:
    error = PredictionError.of([1.02, 1.8, 3.21, 4.8], [1.0, 2.0, 3.0, 4.0])

    assert error.median == pytest.approx((0.07 + 0.10) / 2)
    assert (error.within5, error.within10) == (0.25, 0.75)
    assert error.spearman == pytest.approx(1.0)
    assert error.count == 4


def test_one_network_has_no_rank() -> None:
    assert isnan(PredictionError.of([1.0], [2.0]).spearman)


def test_an_error_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        PredictionError.of([], [])


def test_noise_is_told_by_the_settings_that_were_measured_twice() -> None:
    held = HeldOut("net", ({"a": 1}, {"a": 2}), (1.0, 1.0), (2.0, 4.0), again_ms=(2.1,))

    assert held.noise is not None
    assert (held.noise.median, held.noise.count) == (pytest.approx(0.05), 1)
    assert HeldOut("net", ({"a": 1},), (1.0,), (2.0,)).noise is None


@given(held=held_outs())
def test_a_check_survives_json(held: HeldOut) -> None:
    assert HeldOut.from_json(json.loads(json.dumps(held.as_json()))) == held
