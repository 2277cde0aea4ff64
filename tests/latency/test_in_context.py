"""Layers as they run in whole engines, from samples whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.latency.attribution import REST
from hwprune.latency.in_context import added_up, conformal, fitted
from tests.latency import made


def test_the_profilers_overhead_is_found_and_layers_add_up_to_the_latency() -> None:
    overhead_ms, parts, agreement = added_up(made.samples(20), [*(layer.name for layer in made.LAYERS), REST])

    assert overhead_ms == pytest.approx(made.OVERHEAD_MS)
    assert parts.sum(axis=1) == pytest.approx([sample.ratio for sample in made.samples(20)])
    assert agreement == pytest.approx(1.0)


@settings(max_examples=10)
@given(overhead_ms=st.floats(-0.01, 0.05), drift=st.lists(st.floats(0.5, 2), min_size=12, max_size=12))
def test_layers_add_up_whatever_the_overhead_and_the_drift(overhead_ms: float, drift: list[float]) -> None:
    found = [
        replace(s, layer_ms={name: d * ms + overhead_ms for name, ms in s.layer_ms.items()})
        for s, d in zip(made.samples(12), drift, strict=True)
    ]
    _, parts, _ = added_up(found, [*(layer.name for layer in made.LAYERS), REST])

    assert parts.sum(axis=1) == pytest.approx([sample.ratio for sample in found])
    assert (parts >= 0).all()


def test_a_network_of_bilinear_layers_is_told_at_widths_that_were_not_sampled() -> None:
    context = fitted(made.samples(48), made.LAYERS)

    for widths in made.unseen(20):
        assert context.latency(widths) == pytest.approx(made.latency(widths), rel=0.03)
    assert context.error.median < 0.01
    assert set(context.surfaces) == {"stem", "one", "two", "head"}


def test_disturbed_samples_are_doubted_and_do_not_move_the_others() -> None:
    clean, settings_ = made.samples(48), [s.widths for s in made.samples(48)]
    disturbed = [made.sample(w, number=n, disturbed=3.0) if n in (7, 20) else clean[n] for n, w in enumerate(settings_)]

    context = fitted(disturbed, made.LAYERS)

    assert set(np.argsort(context.doubt)[-2:]) == {7, 20}
    assert max(abs(context.latency(w) / made.latency(w) - 1) for w in made.unseen(20)) < 0.06


def test_a_sample_that_scattered_counts_less() -> None:
    steady = made.samples(20)
    blocks = tuple(steady[5].samples_ms[0] * factor for factor in (0.6, 1.0, 1.4))
    scattered = [replace(s, samples_ms=blocks) if n == 5 else s for n, s in enumerate(steady)]

    assert fitted(scattered, made.LAYERS).doubt[5] > 10 * fitted(steady, made.LAYERS).doubt[5]


def test_a_runtime_without_a_profiler_leaves_all_in_the_rest() -> None:
    found = fitted([made.sample(w, number=n, profile=False) for n, w in enumerate(made.unseen(10))], made.LAYERS)

    assert (found.overhead_ms, dict(found.surfaces)) == (0.0, {})
    assert found.rest == pytest.approx(np.median([made.latency(w) for w in made.unseen(10)]))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 samples are too few"):
        fitted(made.samples(3), made.LAYERS)


@given(
    residuals=st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    coverage=st.floats(0.5, 0.99),
)
def test_a_conformal_bound_covers_at_least_its_share_of_itself_and_one_more(
    residuals: list[float], coverage: float
) -> None:
    bound = conformal(residuals, coverage)

    covered = sum(r <= bound for r in residuals)
    assert covered >= coverage * (len(residuals) + 1) - 1e-6 or bound == np.inf
    assert bound == np.inf or bound in residuals


def test_a_conformal_bound_holds_on_new_draws_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [rng.exponential() <= conformal(rng.exponential(size=19).tolist(), 0.9) for _ in range(3000)]

    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
