"""Importance of the channels of a network that is on its way down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import load_file, save
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.importance.criterion import Criterion, Scores, cross_entropy
from hwprune.importance.fisher import Fisher
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.obs import OptimalBrainSurgeon
from hwprune.importance.taylor import Taylor
from hwprune.loop.job import Job
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate

CRITERIA: Mapping[str, Criterion] = {c.name: c for c in (Fisher(), Magnitude(), Taylor(), OptimalBrainSurgeon())}


def check_importance(name: str) -> None:
    """Raises HwpruneError for a name that no criterion has."""
    if name not in CRITERIA:
        raise HwpruneError(f"unknown importance {name!r}", fix=f"choose one of {', '.join(sorted(CRITERIA))}")


def importance(job: Job, plan: Plan, milestone: int, weights: Path | None) -> Scores:
    """Importance of the channels that ``plan`` still keeps, judged in the network that it has made."""
    criterion = CRITERIA[job.settings.criterion]
    file = job.run.path / f"importance-{milestone}.safetensors"
    if file.exists():
        return dict(load_file(file))
    job.reporter.stage(f"milestone {milestone}: importance ({criterion.name})")
    small = recovered_statistics(job, plan, weights)
    inputs = tuple(x.to(job.subject.trainer) for x in job.subject.inputs)
    network = analyze(small, inputs, exclude=job.settings.exclude, choices=job.settings.choices)
    found = criterion.scores(small, network, job.importance_batches(milestone), cross_entropy)
    # A grouped convolution that is down to one offset is depthwise in the smaller network, where its groups go whole.
    scores = {name: score for name, score in found.items() if len(score) == len(plan.kept.get(name, ()))}
    write_atomically(file, save(scores))
    return scores


def recovered_statistics(job: Job, plan: Plan, weights: Path | None) -> nn.Module:
    """The network cut to ``plan``, with batch-norm statistics that fit it."""
    small = job.small(plan, weights).to(job.subject.trainer)
    if plan.removed:
        reestimate(small, job.data.calibration)
    return small
