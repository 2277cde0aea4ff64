"""New statistics for batch norm: the cheapest recovery, and a fair start for comparing candidates."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwprune.data.batches import Batch
from hwprune.errors import NumericsError
from hwprune.recovery.evaluate import evaluating
from hwprune.recovery.layout import channels_last


def reestimate(model: nn.Module, batches: Iterable[Batch], *, most_batches: int = 50) -> int:
    """Replace the running statistics by plain averages over batches; returns how many batches were used.

    Works in place, on the model's own device. Only batch norm runs in training mode: dropout is off, no weight
    changes, modes and momenta are as before afterwards. Without batch norm nothing is run, without batches nothing
    changes. Idea: Li et al. 2020 (EagleEye, arXiv:2007.02491), section 3.3. Raises `NumericsError` where statistics
    come out NaN or infinite.
    """
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not norms or most_batches < 1:
        return 0
    momenta = {name: norm.momentum for name, norm in norms.items()}
    used = 0
    with evaluating(model) as device, torch.no_grad(), ExitStack() as layout:
        try:
            for inputs, _ in islice(batches, most_batches):
                inputs = inputs.to(device, non_blocking=True)
                if not used:
                    layout.enter_context(channels_last(model, inputs[:1]))
                    _begin(norms.values())
                model(inputs)
                used += 1
        finally:
            for name, norm in norms.items():
                norm.momentum = momenta[name]
    _check(norms)
    return used


def _begin(norms: Iterable[_BatchNorm]) -> None:
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average
        norm.training = True


def _check(norms: dict[str, _BatchNorm]) -> None:
    for name, norm in norms.items():
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None and not torch.isfinite(statistic).all():
                raise NumericsError(
                    f"batch-norm statistics of {name!r} are NaN or infinite",
                    effect="every output of the network would be NaN",
                    fix="look for NaN or overflow in the weights or the images before this layer",
                )
