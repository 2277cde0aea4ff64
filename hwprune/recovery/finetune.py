"""Training a pruned network until its accuracy is back."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprune.data.batches import Batch, Data, mix
from hwprune.data.fits import check_labels
from hwprune.errors import DataError, HwpruneError, NumericsError
from hwprune.models.weights import check_finite
from hwprune.modes import device_of
from hwprune.recovery.checkpoint import load_checkpoint, save_checkpoint
from hwprune.recovery.distillation import distillation_loss
from hwprune.recovery.evaluate import Evaluation, classify, evaluate, evaluating
from hwprune.recovery.layout import channels_last
from hwprune.recovery.recipe import Epoch, Progress, Recipe, make_optimizer

# Looking at a loss makes the processor wait for the GPU, so they are looked at in bunches.
_LOOK_EVERY = 16


class Hook(Protocol):
    """What a training does besides following the loss of its labels."""

    def loss(self) -> Tensor | None:
        """A term of the loss, asked for before every backward pass; None for nothing."""

    def gradients(self) -> None:
        """Add to the gradients of the weights; called between backward pass and step."""

    def stepped(self, step: int) -> None:
        """After the optimizer's ``step``-th step, from 1."""


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What a fine-tuning did.

    Attributes:
        history: every epoch, oldest first; empty when there was nothing to do.
        resumed_after: epochs that a checkpoint had already.
    """

    history: tuple[Epoch, ...]
    resumed_after: int

    @property
    def final(self) -> Evaluation | None:
        """Validation after the last epoch."""
        return self.history[-1].validation if self.history else None


def finetune(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    hook: Hook | None = None,
) -> FinetuneResult:
    """Train ``model`` in place, on its own device; it is in eval mode afterwards.

    ``hook`` takes part in every step. What it remembers is not in the checkpoint.

    With ``checkpoint`` the state is written there after every epoch, and a file that is there is gone on from: a
    killed training repeats at most one epoch, and on the CPU with the same number of threads it ends in the same
    bits. Random numbers depend on (seed, epoch) alone and the caller's random state is left as it was.

    Raises `NumericsError` at the first NaN or infinite loss, `RunError` where the checkpoint belongs to something
    else, `StorageError` where it cannot be written, `DataError` where labels do not fit.
    """
    if recipe.distill and teacher is None:
        raise HwpruneError("distillation needs a teacher", fix="pass teacher=, or a recipe with distill=0")
    device = device_of(model)
    steps = recipe.steps(len(data.train))
    optimizer = make_optimizer(model.parameters(), recipe)
    history = load_checkpoint(checkpoint, model, optimizer, recipe) if checkpoint is not None else []
    resumed_after = len(history)
    training = _Training(model, data, recipe, optimizer, _Teacher.of(teacher, recipe, device), steps, hook)
    with _own_random_numbers(device), _laid_out(model, data, steps):
        while len(history) * len(data.train) < steps:
            number = len(history)
            torch.manual_seed(mix(recipe.seed, number))
            loss = training.epoch(number, _where(checkpoint, number), on_progress)
            history.append(Epoch(number + 1, loss, evaluate(model, data.validation)))
            if checkpoint is not None:
                save_checkpoint(checkpoint, model, optimizer, recipe, history)
            if on_progress is not None:
                on_progress(training.progress(number, history[-1]))
    model.eval()
    return FinetuneResult(tuple(history), resumed_after)


@dataclass(frozen=True, eq=False)
class _Teacher:
    """A network that answers, and is not changed."""

    network: nn.Module
    recipe: Recipe

    @classmethod
    def of(cls, network: nn.Module | None, recipe: Recipe, device: torch.device) -> _Teacher | None:
        if network is None or not recipe.distill:
            return None
        if device_of(network) != device:
            network = copy.deepcopy(network).to(device)
        return cls(network, recipe)

    def blend(self, loss: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The loss with the labels and the distance to the teacher, in the recipe's shares."""
        with evaluating(self.network), torch.no_grad():
            answers = classify(self.network, inputs)
        distance = distillation_loss(outputs, answers, temperature=self.recipe.temperature)
        return (1 - self.recipe.distill) * loss + self.recipe.distill * distance


@dataclass(frozen=True, eq=False)
class _Training:
    """Everything that one epoch needs."""

    model: nn.Module
    data: Data
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    teacher: _Teacher | None
    steps: int
    hook: Hook | None

    def epoch(self, number: int, good: str, on_progress: Callable[[Progress], None] | None) -> float:
        """One pass over the training images; returns the mean loss. ``good`` says where the last state is."""
        self.model.train()
        first = number * len(self.data.train)
        losses: list[Tensor] = []
        for step, batch in enumerate(
            islice(self.data.train.epoch(number), min(len(self.data.train), self.steps - first)), start=first
        ):
            losses.append(self._step(batch, step))
            if (step + 1) % _LOOK_EVERY == 0:
                _check_losses(losses, number, first, good)
            if on_progress is not None:
                on_progress(self.progress(number, None, step + 1))
        if not losses:
            raise DataError("there is nothing to train on", where=self.data.name, fix="pass data with training images")
        _check_losses(losses, number, first, good)
        check_finite(self.model.state_dict(), where=f"after epoch {number + 1}; {good}")
        return float(torch.stack(losses).mean())

    def progress(self, number: int, finished: Epoch | None, step: int | None = None) -> Progress:
        """Where the training is."""
        done = min(self.steps, (number + 1) * len(self.data.train)) if step is None else step
        epochs = -(-self.steps // len(self.data.train))
        return Progress(done, self.steps, number + 1, epochs, finished)

    def _step(self, batch: Batch, step: int) -> Tensor:
        device = device_of(self.model)
        labels = batch[1].to(device, non_blocking=True)
        inputs = batch[0].to(device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(step, self.steps)
        with _autocast(self.recipe, device):
            outputs = classify(self.model, inputs)
            check_labels(batch[1], outputs.shape[1], where=self.data.name)
            loss = functional.cross_entropy(outputs, labels, label_smoothing=self.recipe.label_smoothing)
            if self.teacher is not None:
                loss = self.teacher.blend(loss, outputs, inputs)
        term = None if self.hook is None else self.hook.loss()
        self.optimizer.zero_grad(set_to_none=True)
        total = loss if term is None else loss + term
        total.backward()  # type: ignore[no-untyped-call]
        if self.hook is not None:
            self.hook.gradients()
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.hook is not None:
            self.hook.stepped(step + 1)
        return loss.detach()


def _check_losses(losses: list[Tensor], number: int, first: int, good: str) -> None:
    finite = torch.isfinite(torch.stack(losses))
    if finite.all():
        return
    step = first + int((~finite).nonzero()[0])
    raise NumericsError(
        f"the training loss is NaN or infinite at step {step + 1} in epoch {number + 1}",
        where=good,
        effect="the weights of this epoch are lost",
        fix="use a smaller learning rate, a longer warm-up, or clip_norm",
    )


def _where(checkpoint: Path | None, number: int) -> str:
    """Where the last good weights are."""
    if checkpoint is None or not number:
        return "no epoch was finished before" if not number else "without a checkpoint nothing was kept"
    return f"the last good weights, of epoch {number}, are in {checkpoint}"


def _autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 needs no loss scaling. Cards that would emulate it train in full precision."""
    wanted = recipe.amp
    if wanted is None:
        wanted = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@contextlib.contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    """Seeding inside does not touch the caller's random state."""
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=list(devices)):
        yield


def _laid_out(model: nn.Module, data: Data, steps: int) -> AbstractContextManager[None]:
    """The faster memory layout, where there is anything to train on."""
    first = next(iter(data.train.epoch(0)), None) if steps else None
    return contextlib.nullcontext() if first is None else channels_last(model, first[0][:1].to(device_of(model)))
