"""What a run aims at, and its milestones on the way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

from hwprune.cost.normalisation import MEASURED
from hwprune.cost.work import Work
from hwprune.errors import TargetError
from hwprune.loop.job import Job
from hwprune.loop.memory import MemoryGoal
from hwprune.loop.settings import Spacing
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


def goal_of(job: Job, target: Target, dense_ms: float | None) -> Goal:
    """The goal, where the dense network's latency is ``dense_ms``: measured where the device is here, else predicted.

    Raises:
        TargetError: the target is not below the dense network's cost.
    """
    if target.quantity != "latency":
        dense = float(amount_of(job.subject.work(), target))
        return Goal(target, target.ratio(dense), dense, False)
    if dense_ms is None:
        raise TargetError("a latency target needs the dense network's latency")
    measured, correlated = job.subject.runtime.can_time, has_stand_in(job)
    return Goal(target, target.ratio(dense_ms), dense_ms, measured, correlated)


def needs_table(subject: Subject) -> bool:
    """Whether a run looks into a latency table: for latency, for what layers take, or for importance that counts it.

    A bound on memory alone does not ask for the table of a device that is not here: counted sizes guide it then.
    """
    settings = subject.settings
    latency = Target.parse_all(settings.target)[0].quantity == "latency" or "latency" in settings.counted
    return latency or settings.normalisation in MEASURED or bool(settings.max_memory and subject.runtime.can_time)


def amount_of(work: Work, target: Target) -> int:
    """What a target that is not a latency bounds."""
    return {"macs": work.macs, "params": work.parameters, "memory": work.activation_elements}[target.quantity]


def milestones_of(
    ends: Sequence[float], count: int, starts: Sequence[float], spacing: Spacing = "proportion"
) -> list[tuple[float, ...]]:
    """Ratios of all goals from the first milestone after ``starts`` to ``ends``.

    Each step keeps the same share of what is left ("proportion"), takes as much as the others ("amount"), or takes most
    at first ("orthoreg": round k of n to a total p takes p / (k p + n (1 - p)) of what is left, as OrthoReg's code has
    it, arXiv:2009.05014).

    >>> [round(r, 2) for (r,) in milestones_of([0.5], 0, [1.0])]
    [0.84, 0.71, 0.59, 0.5]
    >>> [tuple(round(r, 2) for r in all_) for all_ in milestones_of([0.5, 0.8], 2, [0.75, 1.0])]
    [(0.61, 0.89), (0.5, 0.8)]
    """
    left = [end / start for end, start in zip(ends, starts, strict=True)]
    steps = count or max(1, ceil(log(min(left)) / log(MILESTONE)))
    return [
        tuple(start * _reached(share, step / steps, spacing) for start, share in zip(starts, left, strict=True))
        for step in range(1, steps + 1)
    ]


def _reached(share: float, way: float, spacing: Spacing) -> float:
    """What is left at a share of the way down to ``share``."""
    if spacing == "amount":
        return 1 - (1 - share) * way
    if spacing == "orthoreg":
        return 1 / (1 + (1 / share - 1) * way)
    return float(share**way)
