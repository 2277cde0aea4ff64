"""How well a network classifies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprune import modes
from hwprune.data.batches import Batch
from hwprune.data.fits import check_labels
from hwprune.errors import DataError, ModelError, NumericsError
from hwprune.modes import device_of
from hwprune.recovery.layout import channels_last


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy over ``count`` images.

    Attributes:
        top1, top5: share of images whose label is the highest, or among the five highest outputs.
        loss: mean cross entropy in nats.
    """

    top1: float
    top5: float
    loss: float
    count: int


def evaluate(model: nn.Module, batches: Iterable[Batch], *, device: torch.device | str | None = None) -> Evaluation:
    """Classify every image once, in eval mode and full precision, on the model's own device or ``device``.

    The model's modes and place are as before afterwards. With fewer than five classes top5 is 1. Raises
    `NumericsError` where an output is NaN or infinite, `DataError` where there is no image or a label does not
    exist.
    """
    top1 = top5 = count = 0
    loss = 0.0
    with evaluating(model, device) as place, torch.no_grad(), ExitStack() as layout:
        for inputs, labels in batches:
            inputs = inputs.to(place, non_blocking=True)
            if not count:
                layout.enter_context(channels_last(model, inputs[:1]))
            outputs = classify(model, inputs)
            check_labels(labels, outputs.shape[1], where="validation")
            labels = labels.to(place)
            if not torch.isfinite(outputs).all():
                raise NumericsError(
                    f"the network's outputs are NaN or infinite for images {count} to {count + len(labels)}",
                    effect="accuracy cannot be told",
                    fix="look for NaN in the weights; batch norm without statistics does this too",
                )
            best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
            top1 += int(best[:, 0].sum())
            top5 += int(best.sum())
            loss += float(functional.cross_entropy(outputs, labels, reduction="sum"))
            count += len(labels)
    if not count:
        raise DataError("there are no images to evaluate on", fix="pass data with validation images")
    return Evaluation(top1 / count, top5 / count, loss / count, count)


def classify(model: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs (n, classes) as float32. Raises `ModelError` where they are something else."""
    outputs = model(inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        kind = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(
            f"the network returns {kind}, wanted is one tensor (n, classes)",
            fix="wrap it in a module that returns the logits only",
        )
    return outputs.float()


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """The model in eval mode on ``device``; its modes and its place are restored."""
    own = device_of(model)
    place = own if device is None else torch.device(device)
    with modes.evaluating(model):
        model.to(place)
        try:
            yield place
        finally:
            model.to(own)
