"""Widths by another way than importance over cost, and channels by another rule than the search's."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from torch import nn

from hwprune import methods
from hwprune.allocation.base import Allocator, Kept, Situation
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.importance.criterion import Scores
from hwprune.inheritance.base import Inheritance
from hwprune.loop.compensated import compensated
from hwprune.loop.job import Job
from hwprune.loop.judging import judged
from hwprune.loop.place import Place
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.evaluate import evaluate
from hwprune.search.problem import Problem

TAKEN = 12  # batches of training data
HELD_BACK = 3  # one in so many of them is for judging networks, the others for what the networks are judged by


def allocated(job: Job, plan: Plan, weights: Path | None, problem: Problem, scores: Scores) -> Kept:
    """The channels of ``plan`` that the run's allocator keeps, as indices into those."""
    allocator: Allocator = methods.make("allocation", job.settings.allocation)
    model, network = judged(job, plan, weights)
    return allocator.kept(_situation(job, model, network, problem, scores))


def inherited(job: Job, plan: Plan, weights: Path | None, start: Path | None) -> tuple[Plan, Path | None]:
    """A plan of the same widths whose channels the run's rule of inheritance chose in the network at the start.

    Args:
        plan, weights: where the search has come to; returned where there is no rule.
        start: file of the weights that the way down began with; None for the dense network's.

    Returns the plan, and the file of its weights: those of the start, compensated if the run compensates.
    """
    if not job.settings.inheritance:
        return plan, weights
    file = job.run.path / "plan-inherited.json"

    def choose() -> bool:
        rule: Inheritance = methods.make("inheritance", job.settings.inheritance)
        job.reporter.stage(f"inheritance ({rule.name})")
        model = job.small(everything, start).to(job.subject.trainer)
        situation = _situation(job, model, job.subject.network, Problem((), ()), {})
        Plan.keeping(job.subject.network, rule.kept(situation, plan.kept_widths)).save(file)
        return True

    everything = Plan.keeping(job.subject.network, {})
    job.run.once("inherited", choose)
    chosen = Plan.load(file)
    return chosen, compensated(job, Place(everything, (1.0,), weights=start), chosen, 0, "inherited")


def _situation(job: Job, model: nn.Module, network: Network, problem: Problem, scores: Scores) -> Situation:
    batches = list(islice(job.data.calibration.epoch(0), TAKEN))
    held_back = batches[: max(1, len(batches) // HELD_BACK)]
    others = batches[len(held_back) :] or held_back

    def judge(kept: Kept) -> float:
        small = cut(model, Plan.keeping(network, kept), network)
        reestimate(small, others)
        return evaluate(small, held_back).top1

    return Situation(model, network, problem, scores, others, judge, job.settings.seed)
