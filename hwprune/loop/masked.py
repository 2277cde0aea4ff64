"""The way down of Group Fisher Pruning in a run: channel by channel, until the targets are met as measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from hwprune.cost.normalisation import price
from hwprune.graph.surgery import cut
from hwprune.loop.aim import STEP, Aims
from hwprune.loop.candidates import tried
from hwprune.loop.goal import amount_of
from hwprune.loop.group_fisher import Removed, group_fisher
from hwprune.loop.job import Job
from hwprune.loop.milestones import plan_of
from hwprune.loop.place import Place
from hwprune.loop.trying import Try, confirmed, meets, mended, never_met, tell
from hwprune.loop.unmeasured import correlated_of
from hwprune.recovery.checkpoint import write_safetensors


def masked_down(job: Job, aims: Aims, start: Place, name: str = "target") -> Place:
    """From ``start`` to the goals of all deployments, with weights that train on the way; see `search_down`.

    A counted goal is met as soon as it is counted. For latency a network is built and measured as soon as it is
    predicted to meet the goals; where it does not, channels go on to leave until one is predicted to be that much
    below.

    Raises:
        TargetError: out of reach.
    """
    found: str = job.run.once(name, lambda: _Descent(job, aims, start, name).run())
    ratios = tuple(aim.goal.ratio for aim in aims)
    weights = _trained_file(job, name)
    return Place(plan_of(job, found), ratios, start.milestones + 1, (0,) * len(aims), found, weights)


@dataclass(eq=False)
class _Descent:
    """One run of `group_fisher` down to the goals, and what it has tried."""

    job: Job
    aims: Aims
    start: Place
    name: str
    corrections: tuple[int, ...] = ()
    tries: list[Try] = field(default_factory=list)
    model: nn.Module = field(init=False)

    def run(self) -> str:
        """Prune; returns the name of the candidate that met the goals. The weights are on the disk then."""
        job, subject = self.job, self.job.subject
        job.reporter.stage(f"Group Fisher pruning to {' and '.join(str(aim.goal.target) for aim in self.aims)}")
        self.model = copy.deepcopy(subject.model).to(subject.trainer)
        self.corrections = (0,) * len(self.aims)
        divisor = price(
            subject.network,
            job.settings.normalisation,
            parameters=subject.parameters,
            measured=None,
            correlated=correlated_of(job),
        )
        group_fisher(
            self.model,
            subject.network,
            job.data.train,
            options=job.settings.group_fisher,
            price=divisor,
            done=self.done,
            checkpoint=job.run.path / "group-fisher.safetensors",
            seed=job.settings.seed,
        )
        write_safetensors(_trained_file(job, self.name), self.model.state_dict(), {"format": "pt"})
        return self.tries[-1].candidate.id

    def done(self, removed: Removed) -> bool:
        """Whether the goals are met; measures where they are predicted to be."""
        job = self.job
        dense, now = job.subject.work().macs, job.subject.work(removed.widths).macs
        job.reporter.advance(dense - now, dense)
        if not self._is_near(removed.widths):
            return False
        name, plan = f"{self.name}-{len(self.tries) + 1}", removed.plan()
        clean = copy.deepcopy(job.subject.model)  # without the hooks of the training
        clean.load_state_dict(self.model.state_dict())
        small = cut(clean, plan, job.subject.network)
        candidate = tried(
            job, name, self.start.milestones + 1, plan, self.aims[0].predicted_ms(removed.widths), network=small
        )
        tell(self.aims, candidate)
        measured = confirmed(self.aims, candidate, plan, fits=True)
        self.tries.append(Try(candidate, self.corrections, 1.0, measured, True, meets(self.aims, measured)))
        if self.tries[-1].met:
            return True
        if len(self.tries) >= job.settings.tries:
            raise never_met(job, self.aims, self.tries)
        self.corrections = tuple(mended(aim, self.tries) for aim in self.aims)
        return False

    def _is_near(self, widths: Mapping[str, int]) -> bool:
        for aim, correction in zip(self.aims, self.corrections, strict=True):
            goal = aim.goal
            if goal.target.quantity != "latency":
                now = float(amount_of(self.job.subject.work(widths), goal.target))
            elif (cost := aim.cost_ms(widths)) is not None:
                now = cost * STEP**correction
            else:
                continue
            if now > goal.ratio * goal.dense:
                return False
        return True


def _trained_file(job: Job, name: str) -> Path:
    """Where the weights of the network that met this stage's goals lie."""
    return job.run.path / f"trained-{name}.safetensors"
