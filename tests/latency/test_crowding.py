"""The power between a sum of layers and a latency: an inverse pair, found where it is and not where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.latency.crowding import LEAST, MOST, Crowding
from hwprune.latency.in_context import fitted
from tests.latency import made

positive = st.floats(1e-3, 1e3)


@given(positive, st.floats(LEAST, MOST), positive, positive)
def test_latency_and_sum_are_inverse_grow_together_and_meet_at_the_full_network(
    full: float, exponent: float, one: float, other: float
) -> None:
    crowding = Crowding(full, exponent)

    assert crowding.total(crowding.latency(one)) == pytest.approx(one)
    assert crowding.latency(full) == pytest.approx(full)
    assert (one < other) == (crowding.latency(one) < crowding.latency(other)) or one == pytest.approx(other)
    step = 1e-6 * one
    rise = (crowding.latency(one + step) - crowding.latency(one - step)) / (2 * step)
    assert crowding.slope(one) == pytest.approx(rise, rel=1e-3)


@given(st.floats(0.9, 1.2), st.integers(0, 1000))
def test_an_exponent_is_found_in_spite_of_noise_and_chance_alone_makes_none(exponent: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.uniform(1, 10, 64)
    noise = np.exp(0.02 * rng.normal(size=64))
    found = Crowding(10.0).refitted(sums**exponent * noise, sums, np.ones(64)).exponent

    assert found == pytest.approx(exponent, abs=0.02)


def test_networks_whose_layers_take_longer_in_company_are_told_at_unseen_widths() -> None:
    truth = Crowding(max(made.latency(dict.fromkeys("abc", 64)), 1.0), 1.15)

    def crowded(latency: float) -> float:
        return truth.latency(latency) / latency

    samples = [
        replace(
            sample,
            samples_ms=tuple(ms * crowded(sample.ratio) for ms in sample.samples_ms),
            layer_ms={
                name: (ms - made.OVERHEAD_MS) * crowded(sample.ratio) + made.OVERHEAD_MS
                for name, ms in sample.layer_ms.items()
            },
        )
        for sample in made.samples(48)
    ]
    context = fitted(samples, made.LAYERS)

    assert context.crowding.exponent == pytest.approx(1.15, abs=0.05)  # surfaces take a little of it
    for widths in made.unseen(10):
        assert context.latency(widths) == pytest.approx(truth.latency(made.latency(widths)), rel=0.03)


def test_layers_that_add_up_stay_a_sum() -> None:
    assert fitted(made.samples(48), made.LAYERS).crowding.exponent == pytest.approx(1.0, abs=0.01)
