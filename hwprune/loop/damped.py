"""Channels that fade instead of being cut at once: the network trains while the mask of what goes falls to nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from hwprune.graph.masks import masking
from hwprune.graph.surgery import kept_channels
from hwprune.loop.job import Job
from hwprune.loop.training import train_for
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.recovery.recipe import Progress


def damped(job: Job, plan: Plan, weights: Path | None) -> Path | None:
    """Let what the plan removes fade over `Settings.damping_steps` steps; returns the file of the weights then.

    The network is trained whole, so a step costs what one of the dense network costs. ``weights`` are those that it
    starts from, None the dense network's; without steps they are returned.
    """
    steps, network = job.settings.damping_steps, job.subject.network
    if not steps:
        return weights
    file = job.run.path / "trained-damped.safetensors"

    def train() -> bool:
        job.reporter.stage("damping")
        model = job.trainee(weights)
        stays = torch.from_numpy(kept_channels(network, plan)).to(job.subject.trainer)
        mask = torch.ones(len(stays), device=job.subject.trainer)

        def fade(progress: Progress) -> None:
            mask[~stays] = 1 - progress.step / progress.steps

        with masking(model, network, mask):
            train_for(job, model, steps, fade)
        write_safetensors(file, model.state_dict(), {"format": "pt"})
        return True

    job.run.once("damped", train)
    return file
