"""Whether batches and a network go together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprune.data.batches import Data
from hwprune.errors import DataError

_MOST_IMAGES = 8


def check_fits(data: Data, model: nn.Module) -> None:
    """Run the network once on a few validation images and compare its outputs with the labels.

    Raises `DataError` where the network refuses the images, its outputs are not (n, classes), or labels lie
    outside of them. The model is left as it was.
    """
    inputs, labels = next(iter(data.validation))
    inputs, labels = inputs[:_MOST_IMAGES], labels[:_MOST_IMAGES]
    outputs = _outputs(model, inputs, name=data.name)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(inputs):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"the network makes {shape} of inputs {tuple(inputs.shape)}, wanted is (n, classes)",
            where=data.name,
            fix="pass a classifier that returns one tensor",
        )
    classes = outputs.shape[1]
    check_labels(labels, classes, where=data.name)
    if data.num_classes is None or data.num_classes == classes:
        return
    # Class folders are numbered in order of their names: with another count the numbers mean other classes.
    if data.num_classes > classes or data.name.startswith("imagefolder:"):
        raise DataError(
            f"the network has {classes} outputs, the data {data.num_classes} classes",
            where=data.name,
            effect="labels and outputs would not mean the same classes",
            fix=f"load the network with {data.num_classes} classes, or pass the data it was trained on",
        )


def check_labels(labels: Tensor, classes: int, *, where: str) -> None:
    """Raise `DataError` where a label is not one of 0 ... classes - 1."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        raise DataError(
            f"label {least if least < 0 else most} is outside of the network's {classes} outputs",
            where=where,
            fix=f"labels are class indices from 0 to {classes - 1}",
        )


def _outputs(model: nn.Module, inputs: Tensor, *, name: str) -> object:
    first = next(model.parameters(), None)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model(inputs if first is None else inputs.to(first.device))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        raise DataError(
            f"the network does not take inputs of shape {tuple(inputs.shape)}",
            where=name,
            effect=str(error).partition("\n")[0],
            fix="set the input shape to what the network was made for, or pass other data",
        ) from error
    finally:
        for module, training in modes:
            module.training = training
