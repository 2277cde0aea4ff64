"""The way down to the target: refresh importance, search, build and measure a candidate, correct, repeat.

Every search chooses among all channels that the way began with: what a milestone takes may come back further down, as
other channels go. Not where weights train on the way: they have been trained without the channels that went.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from hwprune.errors import TargetError
from hwprune.importance.criterion import Scores
from hwprune.loop.aim import Aims
from hwprune.loop.approach import approach, lower, memory_budget
from hwprune.loop.candidates import ledger_of, tried
from hwprune.loop.compensated import compensated
from hwprune.loop.goal import milestones_of
from hwprune.loop.job import Job
from hwprune.loop.judging import importance
from hwprune.loop.place import Place
from hwprune.loop.proposals import best_of, others
from hwprune.loop.searching import searched
from hwprune.loop.training import trained
from hwprune.loop.trying import tell
from hwprune.plan import Plan
from hwprune.search.alternatives import Bounds
from hwprune.validation.ledger import Candidate


def search_down(job: Job, aims: Aims, start: Place, name: str = "target") -> Place:
    """From ``start`` to the goals of all deployments: its plan meets them, as measured where the device is here.

    ``name`` is that of the stage, and of the candidates at the goals.

    Raises:
        TargetError: out of reach; says the best that can be reached.
    """
    settings = job.settings
    ends = [aim.goal.ratio for aim in aims]
    *on_the_way, last = milestones_of(ends, settings.usual_milestones, start.ratios, settings.spacing)
    place = start = replace(start, known={})
    if not start.milestones:
        margins = [
            int(job.run.once(aim.job.stage("margin"), partial(aim.margin, ratio)))
            for aim, ratio in zip(aims, last, strict=True)
        ]
        place = replace(start, corrections=tuple(margins))
    for number, ratios in enumerate(on_the_way, start=start.milestones + 1):
        share = 1.0 if start.milestones else number / (1 + len(on_the_way))
        place = _milestone(job, aims, start, place, ratios, share)
    scores, place = _judged(job, aims, place)
    found: str = job.run.once(name, partial(approach, job, aims, place, scores, last, name, {}))
    end = _end(job, aims, start, place, last, found, name)
    if settings.proposals == 1:
        return end
    proposals = {name: end}
    for own, bounds in others(job, aims, place, scores, end, name).items():
        found = job.run.once(own, partial(_reached, job, aims, place, scores, last, own, bounds))
        if found:
            proposals[own] = _end(job, aims, start, place, last, found, own)
    return best_of(job, proposals, name) if len(proposals) > 1 else end


def _reached(
    job: Job, aims: Aims, place: Place, scores: Scores, last: tuple[float, ...], name: str, bounds: Bounds
) -> str:
    """The candidate within bounds that meets the targets; "" where there is none."""
    try:
        return approach(job, aims, place, scores, last, name, bounds)
    except TargetError as error:
        job.reporter.note(f"{name} is no proposal: {error.what}")
        return ""


def _end(job: Job, aims: Aims, start: Place, place: Place, last: tuple[float, ...], found: str, name: str) -> Place:
    """The place where the candidate ``found`` is all there is, with its weights."""
    candidate = next(one for one in ledger_of(job).candidates if one.id == found)
    taught, plan = _taught(aims, candidate, place), plan_of(job, found)
    return Place(plan, last, place.milestones + 1, taught, found, _compensated(job, start, place, plan, name))


def plan_of(job: Job, candidate: str) -> Plan:
    """Which channels a candidate keeps."""
    return Plan.load(job.run.path / "candidates" / candidate / "plan.json")


def _taught(aims: Aims, candidate: Candidate, place: Place) -> tuple[int, ...]:
    return tuple(aim.taught(candidate, before) for aim, before in zip(aims, place.corrections, strict=True))


def _judged(job: Job, aims: Aims, place: Place) -> tuple[Scores, Place]:
    """Importance of the channels at a place, and the place that knows of it where they may come back."""
    scores = importance(job, aims, place.plan, place.milestones + 1, place.weights)
    if job.settings.milestone_steps or job.settings.allocation:
        return scores, place
    return scores, replace(place, known=place.learnt(scores))


def _compensated(job: Job, start: Place, place: Place, plan: Plan, name: str) -> Path | None:
    """Weights for ``plan``: those at ``place``, or at the start where the plan has channels that are not there."""
    before = start if plan.widens(place.plan) else place
    return compensated(job, before, plan, place.milestones + 1, name)


def _milestone(job: Job, aims: Aims, start: Place, place: Place, ratios: tuple[float, ...], share: float) -> Place:
    """The next milestone on the way, where one candidate is tried and teaches the corrections."""
    number = place.milestones + 1
    name = f"milestone-{number}"
    scores, place = _judged(job, aims, place)

    def pruned() -> list[int]:
        budget = memory_budget(job, aims, place, share)
        narrower = searched(job, aims, place, scores, lower(ratios, place.corrections), budget, {})
        candidate = tried(job, name, number, narrower, aims[0].predicted_ms(narrower.kept_widths))
        tell(aims, candidate)
        return list(_taught(aims, candidate, place))

    corrections = tuple(job.run.once(name, pruned))
    plan = plan_of(job, name)
    weights = _compensated(job, start, place, plan, name)
    if job.settings.milestone_steps:
        weights = trained(job, plan, weights, name, job.settings.milestone_steps)
    return Place(plan, ratios, number, corrections, name, weights, place.known)
