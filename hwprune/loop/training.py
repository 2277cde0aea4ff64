"""Training on the way down, for so many steps by the run's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from hwprune.graph.surgery import embedded
from hwprune.loop.job import Job
from hwprune.loop.judging import recovered_statistics
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.recovery.finetune import Hook, finetune
from hwprune.recovery.recipe import Progress


def train_for(
    job: Job,
    network: nn.Module,
    steps: int,
    on_progress: Callable[[Progress], None] | None = None,
    hook: Hook | None = None,
) -> None:
    """Train ``network`` in place; the reporter hears of every step, and then ``on_progress``."""
    recipe = replace(job.settings.recipe, epochs=-(-steps // len(job.data.train)), max_steps=steps)

    def heard(progress: Progress) -> None:
        job.reporter.advance(progress.step, progress.steps)
        if on_progress is not None:
            on_progress(progress)

    teacher = job.subject.model if recipe.distill else None
    finetune(network, job.data, recipe, teacher=teacher, on_progress=heard, hook=hook)


def trained(job: Job, plan: Plan, weights: Path | None, name: str, steps: int) -> Path:
    """Train the network that a plan makes, cut, once in a run.

    Returns the file of its weights, in the dense network's shapes.
    """
    file = job.run.path / f"trained-{name}.safetensors"

    def train() -> bool:
        job.reporter.stage(f"{name}: training")
        small = recovered_statistics(job, plan, weights)
        train_for(job, small, steps)
        state = embedded(job.source(weights), small, plan, job.subject.network)
        write_safetensors(file, state, {"format": "pt"})
        return True

    job.run.once(f"{name} trained", train)
    return file
