"""Training under a regulariser: before anything is searched, or once the widths are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hwprune import methods
from hwprune.graph.network import Network
from hwprune.graph.surgery import kept_channels
from hwprune.importance.compensation import compensate
from hwprune.loop.job import Job
from hwprune.loop.training import train_for
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.regularization.base import Regularizer


def drawn_before(job: Job) -> Path | None:
    """Train the dense network under the run's regulariser, where that acts before the search.

    Returns the file of its weights; None where there is nothing to do.
    """
    regularizer = _of(job)
    if regularizer is None or regularizer.when != "before":
        return None
    file = job.run.path / "trained-regularized.safetensors"
    everything = Plan.keeping(job.subject.network, {})
    job.run.once("regularized", lambda: _trained(job, regularizer, everything, None, file))
    return file


def drawn_after(job: Job, plan: Plan, weights: Path | None) -> tuple[Plan, Path | None]:
    """Train the whole network while what ``plan`` removes fades, where the run's regulariser acts then.

    Returns the plan of what went in the end, with the same widths, and the file of the weights, in which the layers
    that read those channels have taken over what they still told; else what was given.
    """
    regularizer = _of(job)
    if regularizer is None or regularizer.when != "after":
        return plan, weights
    file, chosen = job.run.path / "trained-regularized.safetensors", job.run.path / "plan-regularized.json"
    job.run.once("regularized", lambda: _trained(job, regularizer, plan, weights, file, chosen))
    return Plan.load(chosen), file


def _of(job: Job) -> Regularizer | None:
    text = job.settings.regularizer
    found: Regularizer | None = methods.make("regularizer", text) if text else None
    return found


def _trained(
    job: Job, regularizer: Regularizer, plan: Plan, weights: Path | None, file: Path, chosen: Path | None = None
) -> int:
    """Train, and write the weights, and what goes; returns the steps."""
    steps, network = job.settings.regularizer_steps or len(job.data.train), job.subject.network
    job.reporter.stage(f"training under {regularizer.name}")
    model = job.trainee(weights)
    goes = torch.from_numpy(~kept_channels(network, plan)).to(job.subject.trainer)
    session = regularizer.begin(model, network, goes, steps)
    train_for(job, model, steps, hook=session)
    if chosen is not None:
        found = session.goes.cpu().numpy()
        # Behind a norm with a shift a channel without weights is a constant, which its readers' biases can hold.
        compensate(model, network, job.importance_batches(0), present=np.ones_like(found), stays=~found)
        _without(network, found).save(chosen)
    write_safetensors(file, model.state_dict(), {"format": "pt"})
    return steps


def _without(network: Network, goes: np.ndarray) -> Plan:
    """The plan that removes these coupled channels."""
    return Plan.keeping(network, {group.name: np.flatnonzero(~goes[group.numbers]).tolist() for group in network.free})
