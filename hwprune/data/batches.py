"""What a source of batches is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hwprune.errors import DataError

Batch = tuple[Tensor, Tensor]

# ImageNet's, which the common networks for CIFAR-10 use as well; for pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Batches(Protocol):
    """Batches of (inputs, labels) on the CPU: inputs as the network takes them, labels int64 (n,)."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass. Order and augmentation depend on the seed and ``number`` alone."""

    def __iter__(self) -> Iterator[Batch]:
        """The same as ``epoch(0)``."""

    def __len__(self) -> int:
        """Batches in one pass."""


@dataclass(frozen=True)
class Data:
    """All that pruning needs of a data set.

    Attributes:
        train: shuffled and augmented, anew in every epoch.
        validation: never trained on, every image once, in a fixed order.
        calibration: training images as validation would see them, shuffled: for importance scores and
            batch-norm statistics.
        num_classes: None where the source does not tell.
        input_shape: of one input, without the batch.
        name: for messages and reports.
    """

    train: Batches
    validation: Batches
    calibration: Batches
    num_classes: int | None
    input_shape: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Loading:
    """How images become batches; the options that all readers share.

    Attributes:
        batch_size: images per batch.
        input_shape: (channels, height, width) that the network wants; None keeps what the images have.
        seed: of the order, the augmentation and the split, where there is one to make.
        workers: processes that read image files; 0 reads in this one.
        holdout: share of the images kept for validation where the source has one part only.
        mean, std: per channel, of pixels in [0, 1]; None takes the data set's own.
    """

    batch_size: int = 128
    input_shape: tuple[int, int, int] | None = None
    seed: int = 0
    workers: int = 0
    holdout: float = 0.2
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def form(self, shape: tuple[int, int, int]) -> Form:
        """What one input is like, where the images themselves have ``shape``. Raises `DataError`."""
        shape = self.input_shape or shape
        usual = (IMAGENET_MEAN, IMAGENET_STD) if shape[0] == 3 else ((0.5,) * shape[0],) * 2
        form = Form(shape, self.mean or usual[0], self.std or usual[1])
        for name, values in (("mean", form.mean), ("std", form.std)):
            if len(values) != shape[0]:
                raise DataError(f"{name} has {len(values)} numbers for {shape[0]} channels")
        return form


@dataclass(frozen=True, slots=True)
class Form:
    """What one input is like: (channels, height, width), and what its pixels in [0, 1] are normalised by."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, pixels: Tensor) -> Tensor:
        """(..., channels, height, width) with the mean taken out and the deviation made one."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers >= 0; numpy keeps ``SeedSequence`` the same in every version.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by ``numbers``."""
    return torch.Generator().manual_seed(mix(*numbers))


def batches_in(count: int, batch_size: int, *, complete: bool) -> int:
    """Batches that ``count`` images make; ``complete`` leaves out a smaller last one, unless it is alone.

    >>> batches_in(10, 4, complete=False), batches_in(10, 4, complete=True), batches_in(3, 4, complete=True)
    (3, 2, 1)
    """
    whole, rest = divmod(count, batch_size)
    return whole if complete and whole else whole + bool(rest)
