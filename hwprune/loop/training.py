"""Training on the way down, for so many steps by the run's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from hwprune.loop.job import Job
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
