"""A model's modes and place, restored after use."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for reference cycles meanwhile: it looks at every object of every imported package each time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter is; the CPU for a network without parameters."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
