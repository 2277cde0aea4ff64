"""Several networks at the target, of which a short training of each tells the best.

As NetAdapt chooses among its proposals (Yang et al. 2018, arXiv:1804.03230), by accuracy after a short-term fine-tuning
of each; there they differ by the layer that is narrowed next, here by widths all the way down to the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from hwprune.importance.criterion import Scores
from hwprune.loop.aim import Aims
from hwprune.loop.approach import lower, memory_budget
from hwprune.loop.job import Job
from hwprune.loop.judging import recovered_statistics
from hwprune.loop.place import Place
from hwprune.loop.searching import orders_at, problem_of
from hwprune.loop.training import trained
from hwprune.recovery.evaluate import evaluate
from hwprune.search.alternatives import Bounds, alternatives
from hwprune.units import format_percent

JUDGED_ON: Final = 5000  # training images, without augmentation, of which top-1 tells two proposals apart
JUDGED_EPOCH: Final = 10_000  # of their order: none that importance is estimated on


def all_searched(job: Job, name: str) -> bool:
    """Whether the run has the networks at the target of that name, all its proposals, and searches no more for it."""
    stages = job.run.stages
    if job.settings.proposals == 1 or name not in stages:
        return name in stages
    beside = stages.get(f"{name} others")
    return beside is not None and all(own in stages for own in _names(name, len(beside)))


def _names(name: str, count: int) -> list[str]:
    return [f"{name}-other-{number}" for number in range(1, count + 1)]


def others(job: Job, aims: Aims, place: Place, scores: Scores, end: Place, name: str) -> dict[str, Bounds]:
    """Bounds on the search from ``place``, by name, each for a proposal beside the one at ``end``."""

    def found() -> tuple[Bounds, ...]:
        job.reporter.stage(f"{name}: other proposals")
        orders, ratios = orders_at(place, scores), lower(end.ratios, end.corrections)
        problem = problem_of(job, aims, place, orders, ratios, memory_budget(job, aims, end))
        return alternatives(problem, end.plan.kept_widths, job.settings.proposals - 1)

    stored = job.run.once(f"{name} others", found)
    bounds = [{group: (least, most) for group, (least, most) in one.items()} for one in stored]
    return dict(zip(_names(name, len(bounds)), bounds, strict=True))


def best_of(job: Job, proposals: Mapping[str, Place], name: str) -> Place:
    """The place of the proposal that is best after `Settings.proposal_steps` of training each, with those weights."""
    files = {
        own: trained(job, end.plan, end.weights, own, job.settings.proposal_steps) for own, end in proposals.items()
    }

    def judged() -> dict[str, float]:
        job.reporter.stage(f"{name}: the best proposal")
        return {own: _top1(job, end, files[own]) for own, end in proposals.items()}

    top1: dict[str, float] = job.run.once(f"{name} judged", judged)
    best = max(top1, key=lambda own: top1[own])  # of equal ones the first, which loses least importance
    told = ", ".join(f"{proposals[own].candidate} {format_percent(share)}" for own, share in top1.items())
    job.reporter.note(f"top-1 of the proposals on training images: {told}")
    return replace(proposals[best], weights=files[best])


def _top1(job: Job, end: Place, weights: Path) -> float:
    small = recovered_statistics(job, end.plan, weights)
    return evaluate(small, job.calibration_batches(JUDGED_EPOCH, JUDGED_ON)).top1
