"""Importance of the channels of a network that is on its way down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from safetensors.numpy import load_file, save
from safetensors.torch import load_file as load_tensors
from torch import nn

from hwprune import methods
from hwprune.cost.normalisation import Normalisation, price
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.importance.criterion import Costed, Criterion, Saved, Scores, cross_entropy
from hwprune.loop.aim import Aims
from hwprune.loop.job import Job
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.search.problem import Op

PRICED: Final[Mapping[str, Normalisation]] = {
    "macs": "flops",
    "params": "params",
    "memory": "memory",
    "latency": "latency",
}


def importance(job: Job, aims: Aims, plan: Plan, milestone: int, weights: Path | None) -> Scores:
    """Importance of the channels that ``plan`` still keeps, judged in the network that it has made."""
    criterion: Criterion = methods.make("importance", job.settings.criterion)
    file = job.run.path / f"importance-{milestone}.safetensors"
    if file.exists():
        return dict(load_file(file))
    job.reporter.stage(f"milestone {milestone}: importance ({criterion.name})")
    small, network = judged(job, plan, weights, milestone)
    if isinstance(criterion, Costed):
        criterion = criterion.priced(_saved(job, aims, plan, criterion.costs))
    found = criterion.scores(small, network, job.importance_batches(milestone), cross_entropy)
    # A grouped convolution that is down to one offset is depthwise in the smaller network, where its groups go whole.
    scores = {name: score for name, score in found.items() if len(score) == len(plan.kept.get(name, ()))}
    write_atomically(file, save(scores))
    return scores


def _saved(job: Job, aims: Aims, plan: Plan, costs: Sequence[str]) -> Saved:
    """What one channel fewer saves of these costs, on the run's own device, by group.

    The mean on the way down to the group's narrowest width: latency falls in steps, so that most single channels save
    nothing and a few a lot.
    """
    subject, widths = job.subject, plan.kept_widths

    def slopes(ops: Sequence[Op]) -> dict[str, float]:
        found = {}
        for name, width in widths.items():
            own, least = [op for op in ops if name in op.groups], subject.choices[name][0]
            saved = sum(op.at(widths) - op.at({**widths, name: least}) for op in own)
            found[name] = saved / (width - least) if least < width else 0.0
        return found

    return {
        cost: slopes(price(subject.network, PRICED[cost], parameters=subject.parameters, measured=aims[0].predictor))
        for cost in costs
    }


def judged(job: Job, plan: Plan, weights: Path | None, milestone: int | None = None) -> tuple[nn.Module, Network]:
    """The network that channels are judged in, see `recovered_statistics`, and its analysis."""
    small = recovered_statistics(job, plan, weights, milestone)
    inputs = tuple(x.to(job.subject.trainer) for x in job.subject.inputs)
    return small, analyze(small, inputs, exclude=job.settings.exclude, choices=job.settings.choices)


def recovered_statistics(job: Job, plan: Plan, weights: Path | None, milestone: int | None = None) -> nn.Module:
    """The network cut to ``plan``, with batch-norm statistics that fit it.

    They are kept in the run where a ``milestone`` is named, at which just this network is judged: it is needed again
    when layers take over what the next channels to go tell.
    """
    small = job.small(plan, weights).to(job.subject.trainer)
    if not plan.removed:
        return small
    file = None if milestone is None else job.run.path / f"statistics-{milestone}.safetensors"
    if file is not None and file.exists():
        small.load_state_dict(load_tensors(file), strict=False)
        return small
    reestimate(small, job.data.calibration)
    if file is not None:
        write_safetensors(file, dict(small.named_buffers()), {"format": "pt"})
    return small
