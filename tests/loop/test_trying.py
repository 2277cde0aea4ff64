"""What is told of a delivered network that was certified above its target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwprune.loop.aim import Aim
from hwprune.loop.goal import Goal
from hwprune.loop.trying import missed
from hwprune.target import Target
from hwprune.timing import Comparison
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
