"""Where a way down to the targets has come to, and what may come back on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hwprune.importance.criterion import Scores
from hwprune.loop.job import Job
from hwprune.plan import Plan
from hwprune.search.order import Order


@dataclass(frozen=True)
class Place:
    """Where the way down has come to.

    Attributes:
        plan: which channels are left.
        ratios: of the goals that were met last, one for each deployment; 1 at the dense network.
        milestones: taken so far.
        corrections: steps of `STEP` by which each latency is aimed lower, as the last candidate taught.
        candidate: its name; "" at the dense network.
        weights: file of weights that were compensated or trained on the way, of the dense network's shapes; None for
            its own.
        known: by group, (dense width,) what each channel cost when it was judged last on the way to the present target;
            nan for those that were not. Empty where nothing may come back.
    """

    plan: Plan
    ratios: tuple[float, ...]
    milestones: int = 0
    corrections: tuple[int, ...] = ()
    candidate: str = ""
    weights: Path | None = None
    known: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def start(cls, job: Job) -> Place:
        """The dense network."""
        return cls(Plan.keeping(job.subject.network, {}), (1.0,) * len(job.all))

    def learnt(self, scores: Scores) -> dict[str, np.ndarray]:
        """What is known after the channels that are left were judged."""
        found = dict(self.known)
        for name, own in scores.items():
            known = np.array(found.get(name, np.full(self.plan.widths[name], np.nan)))
            known[list(self.plan.kept[name])] = own
            found[name] = known
        return found

    def order(self, name: str, scores: Scores) -> Order | None:
        """The order in which a group's channels go, of those left and those that may come back.

        None where it stays as it is. A group that is down to one channel is pinned in the smaller network and has no
        scores there; what that channel is known to cost counts then.
        """
        present, known = self.plan.kept[name], self.known.get(name)
        own = scores.get(name)
        if own is None and known is not None and len(present) == 1:
            own = known[list(present)]
        return None if own is None else Order.of(present, own, known)
