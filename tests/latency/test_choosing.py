"""Predictors made of samples of whole networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwprune.errors import NotMeasuredError
from hwprune.latency.choosing import band_of, predictor_of
from hwprune.latency.held_out import HeldOut
from hwprune.latency.predictor import Predictor
from hwprune.latency.table import LatencyTable
from tests.latency import made
from tests.latency.rows import entry


def predictor(table: LatencyTable, layers: tuple = made.LAYERS, structure: str = made.STRUCTURE) -> Predictor:  # type: ignore[type-arg]
    return predictor_of(table, layers, structure=structure, network="made", method="in-context")


def test_a_prediction_is_the_sum_of_its_layers_in_ms_at_the_tables_reference() -> None:
    found = predictor(made.table(made.samples(48)))

    for widths in made.unseen(10):
        assert found.predict_ms(widths) == pytest.approx(made.latency(widths) * made.REFERENCE_MS, rel=0.03)
        total = sum(found.layer_ms(widths).values()) + found.constant_ms
        assert found.predict_ms(widths) == pytest.approx(found.crowding.latency(total))
        assert found.summed_ms(found.predict_ms(widths)) == pytest.approx(total)
    assert found.cost(made.LAYERS[1], made.unseen(1)[0]) == 0.0


def test_a_grid_of_costs_is_the_costs_one_by_one() -> None:
    table = made.table(made.samples(30))
    wide, high = (8, 24, 64), (16, 64)

    grid = predictor(table).costs(made.LAYERS[2], wide, high)
    single = [[predictor(table).cost(made.LAYERS[2], {"a": a, "b": b, "c": 8}) for b in high] for a in wide]

    assert grid == pytest.approx(np.array(single))


def test_an_equal_layer_of_another_network_serves_and_an_unequal_one_is_an_error_that_names_layer_and_command() -> None:
    table = made.table(made.samples(30))
    twin = (replace(made.LAYERS[2], name="elsewhere"),)
    strange = (replace(twin[0], dense=replace(twin[0].dense, size=(99, 99))),)
    widths = {"a": 32, "b": 32, "c": 32}

    own = predictor(table).cost(made.LAYERS[2], widths)

    assert predictor(table, twin, "another").predict_ms(widths) == pytest.approx(own)
    with pytest.raises(NotMeasuredError, match=r"99×99 \('elsewhere'\)[\s\S]*hwprune profile"):
        predictor(table, strange, "another").predict_ms(widths)


def test_beyond_the_sampled_widths_nothing_is_guessed_but_the_isolated_shape_is_scaled() -> None:
    layer, widths = made.LAYERS[2], {"a": 128, "b": 64, "c": 64}
    table = made.table(made.samples(30))
    alone = [entry(layer.sized(a, 64), 2 * made.ratio(layer, {"a": a, "b": 64})) for a in (64, 128)]

    with pytest.raises(NotMeasuredError, match="128→64"):
        predictor(table).cost(layer, widths)
    found = predictor(table.add(alone))

    assert found.cost(layer, widths) / found.table.reference_ms == pytest.approx(made.ratio(layer, widths), rel=0.05)


def test_the_band_is_the_held_out_checks_where_there_is_one_and_of_the_same_method() -> None:
    predicted, measured = (1.0,) * 20, tuple(1.0 + n / 100 for n in range(20))
    check = HeldOut("made", ({"a": 8},) * 20, predicted, measured, method="in-context")
    table = made.table(made.samples(30)).with_held_out(check)

    assert predictor(table).band == pytest.approx(0.18)  # the 19th of 20: ceil(21 * 0.9)
    assert band_of(table, "made", "isolated", None) == 0.0
    assert predictor(made.table(made.samples(30))).band < 0.05


def test_the_isolated_method_asks_no_samples() -> None:
    table = made.table(made.samples(30))
    found = predictor_of(table, made.LAYERS, structure=made.STRUCTURE, network="made", method="isolated")

    with pytest.raises(NotMeasuredError):
        found.predict_ms(made.unseen(1)[0])


def test_settings_that_nothing_was_measured_near_are_less_sure() -> None:
    narrow = [s for s in made.samples(60) if s.widths["b"] <= 16 or s.widths["b"] == 64]
    found = predictor(made.table(narrow))

    assert found.deviation_ms({"a": 32, "b": 40, "c": 32}) > found.deviation_ms({"a": 32, "b": 16, "c": 32})
