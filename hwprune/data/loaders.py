"""The user's own loaders of (inputs, labels)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hwprune.data.batches import Batch, Data, mix
from hwprune.errors import DataError


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """Any iterable of (inputs, labels) batches, such as a ``DataLoader``.

    Order and augmentation repeat for the same epoch as far as they come from PyTorch's random numbers (the
    loader's own generator included); the caller's random state is left as it was.

    Attributes:
        loader: can be iterated as often as needed.
        seed: of its random numbers.
        length: batches in one pass.
    """

    loader: Iterable[Any]
    seed: int
    length: int

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        seed = mix(self.seed, number)
        own: Any = getattr(self.loader, "generator", None)
        sampler: Any = getattr(self.loader, "sampler", None)
        for generator in (own, getattr(sampler, "generator", None)):
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(number)
        state = torch.Generator().manual_seed(seed).get_state()
        batches = None
        for _ in range(self.length):
            # The loader draws from the global generator as it goes; so does the network between two batches.
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(state)
                batches = iter(self.loader) if batches is None else batches
                batch = next(batches, None)
                state = torch.get_rng_state()
            if batch is None:
                return
            yield _checked(batch)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return self.length


def from_loaders(train: Iterable[Any], validation: Iterable[Any], *, seed: int = 0, name: str = "") -> Data:
    """`Data` from two loaders of (inputs, labels) batches; calibration takes batches of the first.

    Raises `DataError` where a loader is empty, has no length, or gives something else than such batches.
    """
    parts = [LoaderBatches(loader, seed, _length(loader)) for loader in (train, validation)]
    first = [next(iter(part), None) for part in parts]
    if first[0] is None or first[1] is None:
        raise DataError("a loader gives no batches", where=name, fix="both loaders need at least one batch")
    classes = getattr(getattr(train, "dataset", None), "classes", None)
    return Data(
        train=parts[0],
        validation=parts[1],
        calibration=parts[0],
        num_classes=len(classes) if isinstance(classes, Sized) else None,
        input_shape=tuple(first[0][0].shape[1:]),
        name=name or "loaders",
    )


def _length(loader: Iterable[Any]) -> int:
    """Batches in one pass; an iterable without a length is counted, and has to allow a second pass."""
    if isinstance(loader, Iterator):
        raise DataError(
            "a loader that can be used once is not enough",
            effect="importance, fine-tuning and validation each need their own pass",
            fix="pass a DataLoader or a list of batches",
        )
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:  # no length, or an iterable dataset
        return sum(1 for _ in loader)


def _checked(batch: Any) -> Batch:
    """(inputs, labels) with labels int64 (n,)."""
    pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not pair or not all(isinstance(part, Tensor) for part in batch):
        raise DataError(
            f"a loader gives {type(batch).__name__}, wanted are two tensors (inputs, labels)",
            fix="return batches as (inputs, labels)",
        )
    inputs, labels = batch
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) != len(inputs):
        raise DataError(
            f"labels are {labels.dtype} {tuple(labels.shape)} for {len(inputs)} inputs, wanted is one class index each",
            fix="classification with class indices is what can be fine-tuned and validated",
        )
    return inputs, labels.long()
