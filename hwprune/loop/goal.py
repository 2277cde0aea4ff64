"""What a run aims at, and its milestones on the way there."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

from hwprune.cost.normalisation import MEASURED
from hwprune.cost.work import Work
from hwprune.errors import TargetError
from hwprune.loop.job import Job
from hwprune.loop.memory import MemoryGoal
from hwprune.loop.subject import Subject
from hwprune.loop.unmeasured import has_stand_in
from hwprune.target import Target

MILESTONE = 0.8  # of the cost is kept from one milestone to the next, unless the user says how many there are


@dataclass(frozen=True)
class Goal:
    """The target as a share of the dense network, and how to budget for it.

    Attributes:
        target: what was asked.
        ratio: bound as a share of the dense network's.
        dense: what the dense network has, in the target's unit.
        measured: whether only a measured candidate can meet it.
        correlated: whether its "latency" is the correlated cost, because nobody has measured the device.
        memory: the second bound, on the engine's measured activation memory; None where none was asked.
    """

    target: Target
    ratio: float
    dense: float
    measured: bool
    correlated: bool = False
    memory: MemoryGoal | None = None

    @property
    def bounded(self) -> str:
        """What is bounded, for messages."""
        return "correlated cost" if self.correlated else self.target.title


def goal_of(job: Job, dense_ms: float | None) -> Goal:
    """The goal, where the dense network's latency is ``dense_ms``: measured where the device is here, else predicted.

    Raises:
        TargetError: the target is not below the dense network's cost.
    """
    target = Target.parse(job.settings.target)
    if target.quantity != "latency":
        dense = float(amount_of(job.subject.work(), target))
        return Goal(target, target.ratio(dense), dense, False)
    if dense_ms is None:
        raise TargetError("a latency target needs the dense network's latency")
    measured, correlated = job.subject.runtime.can_time, has_stand_in(job.run)
    return Goal(target, target.ratio(dense_ms), dense_ms, measured, correlated)


def needs_table(subject: Subject) -> bool:
    """Whether the search looks into a latency table: for latency, for what layers take, or to divide by either.

    A bound on memory alone does not ask for the table of a device that is not here: counted sizes guide it then.
    """
    settings = subject.settings
    latency = Target.parse(settings.target).quantity == "latency"
    return latency or settings.normalisation in MEASURED or bool(settings.max_memory and subject.runtime.can_time)


def amount_of(work: Work, target: Target) -> int:
    """What a target that is not a latency bounds."""
    return {"macs": work.macs, "params": work.parameters, "memory": work.activation_elements}[target.quantity]


def milestones_of(goal: Goal, count: int) -> list[float]:
    """Ratios from the first milestone down to the goal, evenly spaced in proportion.

    >>> from hwprune.target import Target
    >>> [round(r, 2) for r in milestones_of(Goal(Target.parse("50%"), 0.5, 1.0, True), 0)]
    [0.84, 0.71, 0.59, 0.5]
    """
    steps = count or max(1, ceil(log(goal.ratio) / log(MILESTONE)))
    return [goal.ratio ** (step / steps) for step in range(1, steps + 1)]
