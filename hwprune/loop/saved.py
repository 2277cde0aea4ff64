"""A finished run, read again: the network without pickle, and what the run found."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from hwprune.errors import RunError
from hwprune.graph.choices import Choices
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.loop.transforming import Written
from hwprune.models.resolve import load_model
from hwprune.plan import Plan
from hwprune.run import Run


def load(directory: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The pruned network of a run directory, in eval mode.

    Args:
        directory: where `prune` put ``run.json``, ``plan.json`` and ``model.safetensors``.
        model: the dense network's structure, where the run's model reference cannot be loaded by name.

    Raises:
        RunError: the run is not finished, or its files are damaged.
        PlanError: the plan does not fit the network.
    """
    path = Path(directory)
    run = Run.resume(path)
    for name in ("plan.json", "model.safetensors"):
        if not (path / name).exists():
            raise RunError(f"the run in {path} has no {name}: it is not finished", fix=f"hwprune prune --resume {path}")
    plan = Plan.load(path / "plan.json")
    dense = load_model(plan.model) if model is None else model
    inputs = tuple(torch.zeros(shape) for shape in plan.input_shapes)
    network = analyze(
        dense,
        inputs,
        exclude=run.settings.get("exclude", ()),
        choices=Choices(**run.settings.get("choices", {})),
        model_reference=plan.model,
    )
    small = Written.load(path).of(cut(dense, plan, network))
    try:
        state = safetensors.torch.load_file(path / "model.safetensors")
        small.load_state_dict(state)
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(
            f"model.safetensors does not fit: {str(error).splitlines()[0]}",
            where=path,
            fix="restore the file, or prune again",
        ) from error
    return small.eval()
