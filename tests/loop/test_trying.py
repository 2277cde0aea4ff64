"""What the next candidate aims at, and what is told of a delivered network that was certified above its target."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.comparison import Comparison
from hwprune.loop.aim import STEP, Aim
from hwprune.loop.goal import Goal
from hwprune.loop.trying import Try, mended, missed
from hwprune.target import Target
from tests.validation.test_certify import FOUND

RUN = Path("runs/one")


def aim(ratio: float, *, name: str = "", measured: bool = True) -> Aim:
    job: Any = SimpleNamespace(name=name)
    return Aim(job, Goal(Target("latency", ratio, True), ratio, 2.0, measured), None)


@pytest.mark.parametrize(("ratio", "said"), [(0.612, ()), (0.6, ("61.2 %", "hwprune certify runs/one"))])
def test_a_certificate_above_its_target_is_told_and_no_other(ratio: float, said: tuple[str, ...]) -> None:
    told = missed([aim(ratio)], [FOUND], RUN)

    assert len(told) == (1 if said else 0)
    assert all(words in told[0] for words in said)


def test_only_what_was_measured_can_be_missed() -> None:
    assert missed([aim(0.5), aim(0.5, measured=False)], [None, FOUND], RUN) == ()


def test_the_deployment_is_named_where_there_are_several() -> None:
    slow = replace(FOUND, comparison=Comparison(0.7, 0.69, 0.71))

    (told,) = missed([aim(0.65, name="one"), aim(0.65, name="two")], [FOUND, slow], RUN)

    assert "with two" in told and "70.0 %" in told


MOST = 20
GOAL = 0.7


def tries_of(shares: dict[int, float], first: int) -> list[Try]:
    """Tries until `mended` gives a correction that was tried; at correction c ``shares[c]`` of the goal is measured."""
    job: Any = SimpleNamespace(name="", subject=SimpleNamespace(choices={"c": tuple(range(-MOST, MOST + 1))}))
    predictor: Any = SimpleNamespace(predict_ms=lambda widths: 2.0 * GOAL / STEP ** widths["c"])
    one = Aim(job, Goal(Target("latency", GOAL, True), GOAL, 2.0, True), predictor)
    tries: list[Try] = []
    correction = first
    while all(correction != before.corrections[0] for before in tries):
        candidate: Any = SimpleNamespace(widths={"c": correction})
        measured = GOAL * shares[max(-MOST, min(MOST, correction))]
        tries.append(Try(candidate, (correction,), 1.0, (measured,), True, measured <= GOAL))
        correction = mended(one, tries)
    return tries


@given(
    st.lists(st.sampled_from([1.0, 0.999, 0.99, 0.96, 0.9]), min_size=2 * MOST, max_size=2 * MOST),
    st.floats(0.9, 1.3),
    st.integers(-MOST, MOST),
)
def test_corrections_close_in_on_the_last_candidate_that_is_too_slow(
    steps: list[float], slowest: float, first: int
) -> None:
    # Whatever cliffs there are: aiming lower is never slower.
    shares = dict(enumerate([slowest * prod(steps[:count]) for count in range(2 * MOST + 1)], start=-MOST))

    tries = tries_of(shares, first)

    slow = [one.corrections[0] for one in tries if not one.met]
    within = [one.corrections[0] for one in tries if one.met]
    if slow and within:
        assert max(slow) + 1 == min(within)
    if not within:
        assert min(shares.values()) > 1


def test_what_lies_between_a_candidate_too_slow_and_one_far_within_is_tried() -> None:
    # As measured: 2 % above the target without a correction, 4 % below with three steps, whose lesson is none.
    shares = {c: 1.02 if c <= 0 else 1.005 if c == 1 else 0.99 if c == 2 else 0.96 for c in range(-MOST, MOST + 1)}

    assert 2 in [one.corrections[0] for one in tries_of(shares, 0)]
