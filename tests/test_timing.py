"""A fake clock whose machine drifts shows what pairing is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.timing import (
    Paired,
    Timing,
    TimingWarning,
    interleave,
    measure_paired,
    robust_cv,
)


class Machine:
    """A clock that drifts: every engine on it slows down and speeds up together, and each run is noisy."""

    def __init__(self, *, drift: float = 0.4, noise: float = 0.02, period_ms: float = 500.0) -> None:
        self.now_ms = 0.0
        self.drift, self.noise, self.period_ms = drift, noise, period_ms
        self.rng = np.random.default_rng(0)

    def slowness(self) -> float:
        return 1 + self.drift * math.sin(2 * math.pi * self.now_ms / self.period_ms)

    def engine(self, true_ms: float) -> FakeEngine:
        return FakeEngine(self, true_ms)


class FakeEngine:
    """Takes ``true_ms`` on a quiet machine."""

    def __init__(self, machine: Machine, true_ms: float) -> None:
        self.machine, self.true_ms, self.runs = machine, true_ms, 0

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        machine = self.machine
        samples = []
        for _ in range(warmup + repeats):
            took = self.true_ms * machine.slowness() * math.exp(machine.noise * machine.rng.standard_normal())
            machine.now_ms += took
            samples.append(took)
        self.runs += warmup + repeats
        return tuple(samples[warmup:])


@pytest.mark.parametrize("true_ms", [0.05, 0.7, 9.0])
def test_the_paired_ratio_is_right_on_a_machine_that_drifts_by_forty_percent(true_ms: float) -> None:
    machine = Machine()
    machine.now_ms = 60.0

    paired = measure_paired(machine.engine(true_ms), machine.engine(0.2))

    assert paired.ratio == pytest.approx(true_ms / 0.2, rel=0.04)
    assert paired.at_reference(0.2) == pytest.approx(true_ms, rel=0.04)


def test_two_moments_of_a_drifting_machine_agree_as_pairs_and_disagree_as_plain_medians() -> None:
    machine = Machine(noise=0.005)
    engine, reference = machine.engine(0.3), machine.engine(0.2)
    machine.now_ms = 125.0
    slow = measure_paired(engine, reference)
    machine.now_ms = 375.0
    fast = measure_paired(engine, reference)

    assert slow.median_ms > 1.8 * fast.median_ms
    assert slow.ratio == pytest.approx(fast.ratio, rel=0.02)


def test_a_small_layer_costs_about_twenty_milliseconds_to_measure() -> None:
    machine = Machine(drift=0.0)

    measure_paired(machine.engine(0.05), machine.engine(0.2))

    assert 12 < machine.now_ms < 25


def test_noise_makes_it_measure_more_blocks_and_quiet_makes_it_stop() -> None:
    quiet, noisy = Machine(drift=0.0, noise=0.001), Machine(drift=0.0, noise=0.8)

    few = measure_paired(quiet.engine(1.0), quiet.engine(1.0))
    many = measure_paired(noisy.engine(1.0), noisy.engine(1.0), gate=0.01, most_blocks=9)

    assert len(few.samples_ms) == 5
    assert len(many.samples_ms) == 9


def test_each_block_is_compared_with_the_reference_on_both_sides() -> None:
    class Counting:
        def __init__(self, clock: list[float], step: float) -> None:
            self.clock, self.step = clock, step

        def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
            self.clock[0] += 1.0
            return (self.clock[0] * self.step,) * repeats

    clock = [0.0]
    paired = measure_paired(Counting(clock, 3.0), Counting(clock, 1.0), blocks=4, most_blocks=4)

    assert paired.ratios == pytest.approx([3.0] * 4)


def test_interleaving_cancels_a_drift_that_plain_order_would_show_as_a_difference() -> None:
    machine = Machine(drift=0.5, period_ms=3000.0, noise=0.01)

    first, second = interleave([machine.engine(1.0), machine.engine(0.8)], blocks=20, block_ms=5.0)

    assert len(first) == len(second) == 20
    assert np.median(np.array(second) / np.array(first)) == pytest.approx(0.8, rel=0.02)


def test_warnings_name_what_speaks_against_the_samples() -> None:
    assert Timing((1.0,) * 10).warnings == ()
    assert Timing((1.0,) * 9).warnings == (TimingWarning.FEW_SAMPLES,)
    assert Timing((2.0, *(1.0,) * 10)).warnings == (TimingWarning.SLOW_START,)
    assert Timing((1.0, 1.3) * 6).warnings == (TimingWarning.NOISY,)


def test_empty_timings_are_refused() -> None:
    with pytest.raises(ValueError):
        Timing(())
    with pytest.raises(ValueError):
        Paired((1.0,), ())


positive = st.floats(0.01, 100.0)


@settings(max_examples=50)
@given(st.lists(positive, min_size=1, max_size=20), st.floats(0.1, 10.0))
def test_ratios_do_not_change_when_the_whole_machine_slows(samples: list[float], slowness: float) -> None:
    reference = tuple(1.0 + i / 10 for i in range(len(samples)))
    calm = Paired(tuple(samples), reference)
    slow = Paired(tuple(s * slowness for s in samples), tuple(r * slowness for r in reference))

    assert slow.ratio == pytest.approx(calm.ratio)
    assert slow.cv == pytest.approx(calm.cv, abs=1e-9)


@settings(max_examples=50)
@given(st.lists(positive, min_size=1, max_size=30))
def test_percentiles_are_ordered_and_spread_is_free_of_the_unit(samples: list[float]) -> None:
    timing = Timing(tuple(samples))

    assert min(samples) <= timing.median_ms <= timing.p95_ms <= max(samples) + 1e-9
    assert robust_cv([1000 * s for s in samples]) == pytest.approx(timing.cv, abs=1e-9)
