"""What is searched at a place: importance in the order of the channels, as the objective counts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hwprune.loop.aim import Aim
from hwprune.loop.goal import goal_of
from hwprune.loop.job import Job
from hwprune.loop.place import Place
from hwprune.loop.proposals import all_searched
from hwprune.loop.reporter import Silent
from hwprune.loop.searching import orders_at, problem_of
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.run import Run
from hwprune.search.objective import Objective, lost_at
from hwprune.target import Target
from tests import tiny
from tests.test_pruning import QUICK, data


def _job(folder: Path, settings: Settings) -> Job:
    subject = Subject(tiny.network(), (3, tiny.SIDE, tiny.SIDE), settings, folder / "run", Silent())
    run = Run.create(folder / "run", settings.as_json())
    return Job(subject, data(folder), run, folder / "table.parquet")


@pytest.mark.parametrize("objective", get_args(Objective))
def test_a_search_is_told_what_the_objective_makes_of_the_least_important_channels(
    tmp_path: Path, objective: Objective
) -> None:
    job = _job(tmp_path, replace(QUICK, multiple=4, target="macs:50%", objective=objective))
    place = Place.start(job)
    scores = {name: np.random.default_rng(0).random(width) for name, width in place.plan.kept_widths.items()}

    aims = [Aim(job, goal_of(job, Target.parse("macs:50%"), None), None)]
    problem = problem_of(job, aims, place, orders_at(place, scores), [0.5], None)
    groups = [group for group in problem.groups if len(group.choices) > 1]

    assert groups
    for group in groups:
        own, layers = np.sort(scores[group.name]), job.subject.producers[group.name]
        gone = [float(own[: len(own) - choice].sum()) for choice in group.choices]
        assert group.loss == pytest.approx([lost_at(one, float(own.sum()), layers, objective) for one in gone])


def test_a_run_searches_on_until_all_its_proposals_are_there(tmp_path: Path) -> None:
    job = _job(tmp_path, replace(QUICK, target="macs:50%", proposals=3))
    seen = []
    for stage, value in (
        ("milestone-1", [0]),
        ("target", "target-1"),
        ("target others", [{"3": [4, 8]}, {"6": [4, 8]}]),
        ("target-other-1", ""),
        ("target-other-2", "target-other-2-1"),
    ):
        seen.append(all_searched(job, "target"))
        job.run.once(stage, lambda value=value: value)  # type: ignore[misc]

    assert seen == [False] * 5
    assert all_searched(job, "target")


def test_without_proposals_the_network_at_the_target_is_all(tmp_path: Path) -> None:
    job = _job(tmp_path, replace(QUICK, target="macs:50%"))
    before = all_searched(job, "target")
    job.run.once("target", lambda: "target-1")

    assert not before
    assert all_searched(job, "target")
