"""Running training data through a network for its loss; detectors compute their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hwprune.errors import DataError
from hwprune.graph.network import Network
from hwprune.graph.trace import running
from hwprune.importance.criterion import Batches, Loss
from hwprune.models.detection import forward_of, returning_losses
from hwprune.modes import device_of, evaluating

Pass = tuple[int, Callable[[], Tensor]]


def passes(model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Iterator[Pass]:
    """For every pass how many samples it holds, and what runs it and gives their summed loss; all in eval mode.

    A batch whose inputs are a tensor is one pass, by the forward that the network was analysed with. For a torchvision
    detector the inputs may also be a list of images and the targets its list of dictionaries: then every image is a
    pass of its own through the whole detector, and ``loss`` gets the dictionary of the detector's losses. Regions of
    several images share one batch inside of a detector, so that one image at a time is the way to know whose they are.

    Raises:
        DataError: there is no batch, or a list of images for a network that is no detector.
    """
    empty, device = True, device_of(model)
    for inputs, targets in batches:
        empty = False
        if isinstance(inputs, Tensor):
            yield len(inputs), _by_forward(model, network, _leaf(inputs, device), _moved(targets, device), loss)
            continue
        if not isinstance(inputs, Sequence) or forward_of(model) is None:
            raise DataError(
                f"batches of {type(inputs).__name__} do not fit {type(model).__name__}",
                fix="give (inputs, targets) with inputs a tensor; lists of images are for torchvision's detectors",
            )
        for image, target in zip(inputs, targets, strict=True):
            yield 1, _by_detector(model, _leaf(image, device), _moved(target, device), loss)
    if empty:
        raise DataError("no batches to estimate importance from", fix="give at least one batch of training data")


def _by_forward(model: nn.Module, network: Network, inputs: Tensor, targets: Any, loss: Loss) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.enable_grad(), evaluating(model), running(model, network.forward):
            return loss(model(inputs), targets)

    return run


def _by_detector(model: nn.Module, image: Tensor, target: Any, loss: Loss) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.enable_grad(), evaluating(model), running(model, None), returning_losses(model):
            return loss(model([image], [target]), [target])

    return run


def _leaf(inputs: Tensor, device: torch.device) -> Tensor:
    """Where gradients end: they reach the first layer's input also when no weight needs any."""
    return inputs.to(device).detach().requires_grad_(inputs.is_floating_point())


def _moved(targets: Any, device: torch.device) -> Any:
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, targets)


def mean_gradients(
    model: nn.Module, network: Network, batches: Batches, loss: Loss, parameters: Sequence[nn.Parameter]
) -> list[Tensor]:
    """Gradient of the mean loss over all samples with respect to each parameter; zero where it has no part in it."""
    totals, seen = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters], 0
    with needing_gradients(model, parameters):
        for samples, run in passes(model, network, batches, loss):
            gradients = torch.autograd.grad(run(), parameters, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient
            seen += samples
    return [total / seen for total in totals]


@contextmanager
def needing_gradients(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """These parameters need gradients; the others as they did. Every flag is restored."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def only_inputs_need_gradients(model: nn.Module) -> Iterator[None]:
    """Weights frozen: a third of the backward pass is saved. Every flag is restored."""
    with needing_gradients(model, ()):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield
