"""Weights of a network that has lost channels and whose layers have taken over what those told."""

from __future__ import annotations

from pathlib import Path

from hwprune.graph.surgery import embedded, kept_channels
from hwprune.importance.compensation import compensate
from hwprune.loop.job import Job
from hwprune.loop.judging import recovered_statistics
from hwprune.loop.place import Place
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors


def compensated(job: Job, before: Place, plan: Plan, milestone: int, name: str) -> Path | None:
    """The file of the weights with which the network at ``before`` loses what ``plan`` takes from it.

    They have the dense network's shapes. Where channels fade instead of being cut (`Settings.fades`) nothing is
    taken over, or it would be there twice; then, and where it is not asked for, its own weights are returned.
    """
    if not job.settings.compensate or job.settings.fades:
        return before.weights
    file, network = job.run.path / f"compensated-{name}.safetensors", job.subject.network

    def take_over() -> int:
        job.reporter.stage(f"{name}: compensation")
        model = job.trainee(before.weights)
        present, stays = kept_channels(network, before.plan), kept_channels(network, plan)
        if before.plan.removed:  # statistics of the cut network, which runs sooner than the masked one and has the same
            small = recovered_statistics(job, before.plan, before.weights, before.milestones + 1)
            model.load_state_dict(embedded(model, small, before.plan, network))
        layers = compensate(model, network, job.importance_batches(milestone), present=present, stays=stays)
        write_safetensors(file, model.state_dict(), {"format": "pt"})
        return layers

    job.run.once(f"{name} compensated", take_over)
    return file
