"""What a run aims at: for each of its targets a bound on every deployment, with what predicts it."""

from __future__ import annotations

from dataclasses import replace

from hwprune.cost.normalisation import LayerCost
from hwprune.loop.aim import Aim
from hwprune.loop.goal import Goal, goal_of, needs_table
from hwprune.loop.job import Job
from hwprune.loop.memory import memory_goal
from hwprune.loop.prediction import calibrated, measured_table
from hwprune.loop.proposals import all_searched
from hwprune.loop.tables import begin_with_shipped, table_path
from hwprune.loop.unmeasured import correlated_of, has_stand_in
from hwprune.target import Target
from hwprune.validation.ledger import Candidate


def points_of(job: Job, dense: Candidate) -> list[list[Aim]]:
    """For every target of the run, from loose to tight, the aims on all deployments.

    A target that is not below the dense latency is refused before anything else is measured.
    """
    besides = [engine.beside for engine in dense.engines[: len(job.all)]]
    measured = [None if beside is None else beside.dense_ms for beside in besides]
    for own, dense_ms in zip(job.all, measured, strict=True):
        if dense_ms is not None:
            _goals(own, dense_ms)
    *_, last = targets = Target.parse_all(job.settings.target)
    done = all_searched(job, "target" if len(targets) == 1 else last.slug)
    aims = [_aims(own, ms, place, done=done) for place, (own, ms) in enumerate(zip(job.all, measured, strict=True))]
    memory = memory_goal(job, dense, aims[0][0].predictor)
    aims[0] = [replace(aim, goal=replace(aim.goal, memory=memory)) for aim in aims[0]]
    points = [list(point) for point in zip(*aims, strict=True)]
    if not done:  # what the tightest target allows, the looser ones allow too
        for aim in points[-1]:
            aim.check_reachable(aim.goal.ratio)
    return points


def _aims(job: Job, dense_ms: float | None, place: int, *, done: bool) -> list[Aim]:
    """What a deployment aims at, from loose to tight, with the predictor that the searches need unless they are done.

    Where the device is not here (``dense_ms`` is None), the table says what the dense network takes, or the mixture
    that stands in for it.
    """
    subject, run = job.subject, job.run
    predictor: LayerCost | None = None
    known = dense_ms is not None or Target.parse_all(job.settings.target)[0].quantity != "latency"
    dense = job.stage("correlated dense cost" if has_stand_in(job) else "predicted dense latency")
    if not done and needs_table(subject):
        if has_stand_in(job):
            predictor = correlated_of(job)
        else:
            if job.table == table_path(job.settings):
                begin_with_shipped(job.table, job.settings, job.reporter)
            predictor = calibrated(job, measured_table(subject, job.table), dense_ms)
        if not known and predictor is not None:
            run.keep(dense, predictor.predict_ms(subject.network.widths))
    goals = _goals(job, dense_ms if known else run.kept(dense))
    return [Aim(job, goal, predictor, place) for goal in goals]


def _goals(job: Job, dense_ms: float | None) -> list[Goal]:
    return [goal_of(job, target, dense_ms) for target in Target.parse_all(job.settings.target)]
