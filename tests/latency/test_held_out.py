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


@given(held=held_outs())
def test_a_check_survives_json(held: HeldOut) -> None:
    assert HeldOut.from_json(json.loads(json.dumps(held.as_json()))) == held
