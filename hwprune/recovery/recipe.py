"""How to fine-tune, and what is told about it while it runs and when it is done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.recovery.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train a pruned network that starts from inherited weights.

    A warm-up to a rate well below that of training from scratch, then half a cosine down to nothing: Le and Hua
    2021 (arXiv:2105.03193) found such a rise and fall better than a constant small rate at every length.

    Attributes:
        epochs: passes over the training images.
        lr: highest learning rate, for batches of 128 with SGD; 1e-3 suits AdamW.
        optimizer: SGD has Nesterov momentum.
        momentum: of SGD.
        weight_decay: not applied to biases and norms.
        warmup: share of all steps in which the rate rises to ``lr``.
        label_smoothing: of the cross entropy with the labels.
        distill: share of the loss that is the distance to a teacher; 0 is none, 1 is only that.
        temperature: of that distance.
        clip_norm: largest norm of the gradient; 0 does not clip.
        amp: bfloat16 where it is safe; None means on CUDA devices that have it.
        max_steps: stops there, whatever ``epochs`` says; the schedule knows.
        seed: of everything random.
    """

    epochs: int = 20
    lr: float = 0.02
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.1
    label_smoothing: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    clip_norm: float = 0.0
    amp: bool | None = None
    max_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = {
            "epochs": self.epochs < 0,
            "lr": not 0 < self.lr < math.inf,
            "optimizer": self.optimizer not in ("sgd", "adamw"),
            "momentum": not 0 <= self.momentum < 1,
            "weight_decay": not 0 <= self.weight_decay < math.inf,
            "warmup": not 0 <= self.warmup < 1,
            "label_smoothing": not 0 <= self.label_smoothing < 1,
            "distill": not 0 <= self.distill <= 1,
            "temperature": not 0 < self.temperature < math.inf,
            "clip_norm": not 0 <= self.clip_norm < math.inf,
            "max_steps": self.max_steps is not None and self.max_steps < 0,
            "seed": self.seed < 0,
        }
        for name, bad in wrong.items():
            if bad:
                raise HwpruneError(
                    f"{name} of the fine-tuning cannot be {getattr(self, name)}", fix=f"choose another {name}"
                )

    def steps(self, per_epoch: int) -> int:
        """All steps of the training."""
        steps = self.epochs * per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of step ``step`` of ``steps``, the first of which is 0.

        >>> [round(Recipe(lr=1.0, warmup=0.5).lr_at(step, 6), 3) for step in range(6)]
        [0.333, 0.667, 1.0, 1.0, 0.75, 0.25]
        """
        rising = round(self.warmup * steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One finished epoch.

    Attributes:
        number: from 1.
        loss: mean training loss.
        validation: after it.
    """

    number: int
    loss: float
    validation: Evaluation


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fine-tuning is, after every step and every epoch.

    Attributes:
        step, steps: done, and in all.
        epoch, epochs: the present one from 1, and in all.
        finished: the epoch that this step has finished, with its validation, else None.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    finished: Epoch | None = None


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, with weight decay on matrices and kernels only."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)
