"""Predictions from tables worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import NotMeasuredError, ProfileError
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency.predictor import Predictor
from hwprune.latency.table import LatencyTable
from hwprune.latency.wanted import wanted_layers
from hwprune.layer import Layer
from tests.latency.rows import FINGERPRINT, entry

CONV = Layer("conv", 8, 8, size=(4, 4), kernel=(3, 3), out_size=(4, 4))
ADD = Layer("add", 8, 8, size=(4, 4), out_size=(4, 4))
A, B = WidthOf(0, (("a", 1),)), WidthOf(0, (("b", 1),))
LAYERS = [
    NetworkLayer("stem", CONV.at(3, 8), WidthOf(3), A),
    NetworkLayer("stem.relu", Layer("activation", 8, 8, variant="relu"), A, A, fused=True),
    NetworkLayer("body", CONV, A, B),
    NetworkLayer("join", ADD, B, B),
]
CHOICES = {"a": (2, 4, 6, 8), "b": (2, 4, 6, 8)}
widths = st.fixed_dictionaries({"a": st.sampled_from(CHOICES["a"]), "b": st.sampled_from(CHOICES["b"])})


def by_hand(layer: Layer) -> float:
    """A device that takes c_in * c_out units, an addition half of that; one unit is one reference of 2 ms."""
    return layer.c_in * layer.c_out * (0.5 if layer.kind == "add" else 1.0)


TABLE = LatencyTable(FINGERPRINT).add(
    entry(layer, by_hand(layer), reference_ms=2.0, activation_bytes=100 * layer.c_out)
    for layer in wanted_layers(LAYERS, CHOICES)
)
PREDICTOR = Predictor(TABLE, LAYERS)


@given(widths=widths)
def test_a_prediction_is_the_sum_of_the_layers_that_are_not_fused(widths: dict[str, int]) -> None:
    a, b = widths["a"], widths["b"]
    expected = {"stem": 2.0 * 3 * a, "body": 2.0 * a * b, "join": 1.0 * b * b}

    assert PREDICTOR.layer_ms(widths) == pytest.approx(expected)
    assert PREDICTOR.predict_ms(widths) == pytest.approx(sum(expected.values()))
    assert PREDICTOR.activation_bytes(widths) == 100 * max(a, b)


@given(one=widths, other=widths)
def test_predictions_are_monotone_where_the_table_is(one: dict[str, int], other: dict[str, int]) -> None:
    wider = {name: max(one[name], other[name]) for name in one}

    assert PREDICTOR.predict_ms(wider) >= PREDICTOR.predict_ms(one)


@given(constant=st.floats(0, 50), main=st.floats(0.5, 2), other=st.floats(0.2, 2), widths=widths)
def test_calibration_recovers_an_affine_distortion(
    constant: float, main: float, other: float, widths: dict[str, int]
) -> None:
    def truth(widths: dict[str, int]) -> float:
        ms = PREDICTOR.layer_ms(widths)
        return constant + main * (ms["stem"] + ms["body"]) + other * ms["join"]

    settings = [{"a": a, "b": b} for a in CHOICES["a"] for b in CHOICES["b"]]
    calibrated = PREDICTOR.calibrate([(setting, truth(setting)) for setting in settings])

    assert calibrated.predict_ms(widths) == pytest.approx(truth(widths), rel=0.03)
    assert calibrated.error([(setting, truth(setting)) for setting in settings]).p95 < 0.03


@given(widths=widths, ms=st.floats(1e-3, 1e3))
def test_the_parts_of_a_calibrated_prediction_add_up(widths: dict[str, int], ms: float) -> None:
    settings = [{"a": 2, "b": 2}, {"a": 4, "b": 8}, {"a": 8, "b": 4}]
    calibrated = PREDICTOR.calibrate([(setting, ms * (i + 1)) for i, setting in enumerate(settings)])
    parts = sum(calibrated.cost(layer, widths) for layer in LAYERS)

    assert calibrated.predict_ms(widths) == pytest.approx(calibrated.constant_ms + parts)
    assert calibrated.predict_ms(widths) > 0


def test_a_grid_of_costs_is_the_cost_at_each_point() -> None:
    body = LAYERS[2]
    grid = PREDICTOR.costs(body, CHOICES["a"], CHOICES["b"])
    slow = [[PREDICTOR.cost(body, {"a": a, "b": b}) for b in CHOICES["b"]] for a in CHOICES["a"]]

    np.testing.assert_allclose(grid, slow)
    assert not PREDICTOR.costs(LAYERS[1], [2], [2]).any()


def test_a_missing_layer_is_named_in_the_network() -> None:
    with pytest.raises(NotMeasuredError, match=r"conv 4→5 3×3 on 4×4 \('body'\) was never measured"):
        PREDICTOR.predict_ms({"a": 4, "b": 5})


def test_a_table_that_told_no_memory_says_so() -> None:
    table = LatencyTable(FINGERPRINT).add(entry(layer, 1.0) for layer in wanted_layers(LAYERS, CHOICES))

    with pytest.raises(ProfileError, match="told none for 3 of 3 layers"):
        Predictor(table, LAYERS).activation_bytes({"a": 2, "b": 2})


def test_a_table_full_of_nothing_still_predicts_something_positive() -> None:
    table = LatencyTable(FINGERPRINT).add(
        entry(layer, 1.0, frame_ratio=2.0) for layer in wanted_layers(LAYERS, CHOICES)
    )

    assert Predictor(table, LAYERS).predict_ms({"a": 2, "b": 2}) > 0


def test_sums_over_groups_are_interpolated_between_their_measured_neighbours_only() -> None:
    both = WidthOf(0, (("a", 1), ("b", 1)))
    layers = [NetworkLayer("fusion", CONV.at(16, 8), both, WidthOf(8)), NetworkLayer("cat", ADD.at(16, 16), both, both)]
    wanted = wanted_layers(layers, CHOICES, most_sums=3)
    table = LatencyTable(FINGERPRINT).add(entry(layer, by_hand(layer), reference_ms=1.0) for layer in wanted)
    predictor = Predictor(table, layers)

    assert [layer.c_in for layer in wanted] == [4, 10, 16, 4, 10, 16]
    assert predictor.layer_ms({"a": 4, "b": 4}) == pytest.approx(
        {"fusion": 8 * 8, "cat": 0.5 * (16 * (2 / 6) + 100 * (4 / 6))}
    )
    with pytest.raises(NotMeasuredError, match="18→8"):
        predictor.cost(layers[0], {"a": 10, "b": 8})


def test_sums_over_groups_are_interpolated_where_convolution_groups_keep_their_number() -> None:
    dense = Layer("conv", 32, 32, size=(4, 4), kernel=(3, 3), group_width=8, out_size=(4, 4))
    both = WidthOf(0, (("a", 4), ("b", 4)))
    layer = NetworkLayer("grouped", dense, both, WidthOf(32), fixed_groups=4)
    measured = [entry(layer.sized(c_in, 32), float(c_in)) for c_in in (8, 16, 32)]
    predictor = Predictor(LatencyTable(FINGERPRINT).add(measured), [layer])

    assert layer.sized(24, 32).group_width == 6
    assert predictor.layer_ms({"a": 3, "b": 3}) == {"grouped": pytest.approx(24.0)}
    assert predictor.layer_ms({"a": 1, "b": 2}) == {"grouped": pytest.approx(12.0)}
