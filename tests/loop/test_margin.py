"""How far below the target the first candidate aims."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hwprune.latency.choosing import predictor_of
from hwprune.latency.predictor import Predictor
from hwprune.loop.aim import STEP, Aim
from hwprune.loop.goal import Goal
from hwprune.target import Target
from tests.latency import made

DENSE = {name: max(widths) for name, widths in made.CHOICES.items()}
NARROWEST = {name: min(widths) for name, widths in made.CHOICES.items()}
# All that a margin looks at of a job.
JOB: Any = SimpleNamespace(
    subject=SimpleNamespace(network=SimpleNamespace(layers=made.LAYERS), choices=made.CHOICES), name=""
)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    table = made.table(made.samples(30))
    return predictor_of(table, made.LAYERS, structure=made.STRUCTURE, network="made", method="in-context")


def goal(ratio: float, dense_ms: float) -> Goal:
    return Goal(Target("latency", ratio, True), ratio, dense_ms, True)


def test_the_margin_is_the_band_in_steps_rounded_up(predictor: Predictor) -> None:
    dense_ms = predictor.predict_ms(DENSE)

    for band, steps in ((0.0, 0), (STEP - 1, 1), (0.05, 5), (0.1, 10)):
        assert Aim(JOB, goal(0.7, dense_ms), replace(predictor, band=band)).margin(0.7) == steps


def test_the_margin_never_puts_a_target_out_of_reach(predictor: Predictor) -> None:
    dense_ms = predictor.predict_ms(DENSE)
    least = predictor.predict_ms(NARROWEST) / dense_ms

    aim = Aim(JOB, goal(least, dense_ms), replace(predictor, band=0.1))

    assert aim.margin(least * 1.001) == 0
    assert aim.margin(least * STEP**2 * 1.001) == 2


def test_other_targets_and_costs_without_a_band_have_no_margin(predictor: Predictor) -> None:
    macs = Goal(Target("macs", 0.5, True), 0.5, 1.0, False)

    assert Aim(JOB, macs, replace(predictor, band=0.1)).margin(0.5) == 0
    assert Aim(JOB, goal(0.5, 1.0), None).margin(0.5) == 0
