"""The memory layout in which networks on images are trained and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hwprune import modes


@contextmanager
def channels_last(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Kernels with channels as their last dimension in memory, which is faster (`benchmarks/channels_last.py`).

    The usual layout stays where the network does not run in the other one, as a pass over ``images`` (n, ...) in eval
    mode tells: a feature map that ``view`` turns into rows has to be in the usual order. So it does where parameters
    have five dimensions and more. Afterwards all are laid out as before, with the values that they have then.
    """
    parameters = list(model.parameters())
    usual = [p for p in parameters if p.ndim == 4 and not p.is_contiguous(memory_format=torch.channels_last)]
    if any(p.ndim > 4 for p in parameters):
        usual = []
    try:
        _lay_out(usual, torch.channels_last)
        if usual and not _runs(model, images):
            _lay_out(usual, torch.contiguous_format)
        yield
    finally:
        _lay_out(usual, torch.contiguous_format)


def _lay_out(parameters: list[nn.Parameter], layout: torch.memory_format) -> None:
    for parameter in parameters:
        parameter.data = parameter.data.contiguous(memory_format=layout)


def _runs(model: nn.Module, images: Tensor) -> bool:
    with modes.evaluating(model), torch.no_grad():
        try:
            model(images)
        except Exception:  # what is wrong with the network in any layout comes up again
            return False
    return True
