"""The way down to the target: refresh importance, search, build and measure a candidate, correct, repeat.

Every search chooses among all channels that the way began with: what a milestone takes may come back further down, as
other channels go. Not where weights train on the way: they have been trained without the channels that went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hwprune.graph.surgery import embedded
from hwprune.importance.criterion import Scores
from hwprune.loop.aim import STEP, Aims
from hwprune.loop.candidates import ledger_of, tried
from hwprune.loop.compensated import compensated
from hwprune.loop.goal import milestones_of
from hwprune.loop.job import Job
from hwprune.loop.judging import importance, recovered_statistics
from hwprune.loop.place import Place
from hwprune.loop.searching import searched
from hwprune.loop.training import train_for
from hwprune.loop.trying import Try, confirmed, fullest, meets, mended, never_met, tell
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.validation.ledger import Candidate

CLOSE = 0.98  # a candidate that is at most this share of a target, or more up to the target, is taken


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
    found: str = job.run.once(name, partial(_approach, job, aims, place, scores, last, name))
    candidate = next(one for one in ledger_of(job).candidates if one.id == found)
    taught = _taught(aims, candidate, place)
    plan, number = plan_of(job, found), place.milestones + 1
    return Place(plan, last, number, taught, found, _compensated(job, start, place, plan, name))


def plan_of(job: Job, candidate: str) -> Plan:
    """Which channels a candidate keeps."""
    return Plan.load(job.run.path / "candidates" / candidate / "plan.json")


def _taught(aims: Aims, candidate: Candidate, place: Place) -> tuple[int, ...]:
    return tuple(aim.taught(candidate, before) for aim, before in zip(aims, place.corrections, strict=True))


def _lower(ratios: Sequence[float], corrections: Sequence[int]) -> list[float]:
    """What to aim at, so that these ratios are measured."""
    return [ratio / STEP**steps for ratio, steps in zip(ratios, corrections, strict=True)]


def _judged(job: Job, aims: Aims, place: Place) -> tuple[Scores, Place]:
    """Importance of the channels at a place, and the place that knows of it where they may come back."""
    scores = importance(job, aims, place.plan, place.milestones + 1, place.weights)
    if job.settings.milestone_steps or job.settings.allocation:
        return scores, place
    return scores, replace(place, known=place.learnt(scores))


def _compensated(job: Job, start: Place, place: Place, plan: Plan, name: str) -> Path | None:
    """Weights for ``plan``: those at ``place``, or at the start where the plan has channels that are not there."""
    before = start if plan.widens(place.plan) else place
    return compensated(job, before.plan, plan, before.weights, place.milestones + 1, name)


def _milestone(job: Job, aims: Aims, start: Place, place: Place, ratios: tuple[float, ...], share: float) -> Place:
    """The next milestone on the way, where one candidate is tried and teaches the corrections."""
    number = place.milestones + 1
    name = f"milestone-{number}"
    scores, place = _judged(job, aims, place)

    def pruned() -> list[int]:
        memory = aims[0].goal.memory
        budget = None if memory is None else memory.budget(share, _memory_factor(job, aims, place, []))
        narrower = searched(job, aims, place, scores, _lower(ratios, place.corrections), budget)
        candidate = tried(job, name, number, narrower, aims[0].predicted_ms(narrower.kept_widths))
        tell(aims, candidate)
        return list(_taught(aims, candidate, place))

    corrections = tuple(job.run.once(name, pruned))
    plan = plan_of(job, name)
    weights = _trained(job, plan, _compensated(job, start, place, plan, name), name)
    return Place(plan, ratios, number, corrections, name, weights, place.known)


def _trained(job: Job, plan: Plan, weights: Path | None, name: str) -> Path | None:
    """Train the network at a milestone, where that is asked for; returns the file of its weights."""
    steps = job.settings.milestone_steps
    file = job.run.path / f"trained-{name}.safetensors"
    if not steps:
        return weights

    def train() -> bool:
        job.reporter.stage(f"{name}: training")
        small = recovered_statistics(job, plan, weights)
        train_for(job, small, steps)
        state = embedded(job.source(weights), small, plan, job.subject.network)
        write_safetensors(file, state, {"format": "pt"})
        return True

    job.run.once(f"{name} trained", train)
    return file


def _approach(job: Job, aims: Aims, place: Place, scores: Scores, ratios: Sequence[float], name: str) -> str:
    """Candidates at the last milestone until one is measured at or just under all targets; the best one's name."""
    number, corrections = place.milestones + 1, place.corrections
    bound = aims[0].goal.memory
    tries: list[Try] = []
    while len({one.candidate.id for one in tries}) < job.settings.tries:
        factor = _memory_factor(job, aims, place, [one.candidate for one in tries])
        if any((corrections, factor) == (one.corrections, one.factor) for one in tries):
            break
        memory = None if bound is None else bound.budget(1.0, factor)
        narrower = searched(job, aims, place, scores, _lower(ratios, corrections), memory)
        widths = narrower.kept_widths
        again = [one for one in tries if dict(one.candidate.widths) == widths]
        if again and memory is not None:
            break  # its engine would take as much again
        if again:
            tries.append(replace(again[0], corrections=corrections))
        else:
            candidate = tried(job, f"{name}-{len(tries) + 1}", number, narrower, aims[0].predicted_ms(widths))
            tell(aims, candidate)
            fits = bound is None or bound.met_by(candidate)
            measured = confirmed(aims, candidate, narrower, fits=fits)
            tries.append(Try(candidate, corrections, factor, measured, fits, meets(aims, measured) and fits))
        if tries[-1].met and (not any(aim.goal.measured for aim in aims) or fullest(aims, tries[-1].measured) >= CLOSE):
            break
        corrections = tuple(mended(aim, tries) for aim in aims)
    met = [one for one in tries if one.met]
    if not met:
        raise never_met(job, aims, tries)
    return max(met, key=lambda one: fullest(aims, one.measured)).candidate.id


def _memory_factor(job: Job, aims: Aims, place: Place, tries: Sequence[Candidate]) -> float:
    """Measured over predicted memory, as the candidate at ``place`` and the ``tries`` since have taught it."""
    memory = aims[0].goal.memory
    last = [one for one in ledger_of(job).candidates if one.id == place.candidate]
    return 1.0 if memory is None else memory.factor([*last, *tries])
