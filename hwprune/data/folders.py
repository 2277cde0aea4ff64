"""Class folders of image files: PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg, read as they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwprune.data.batches import Batch, Data, Form, Loading, batches_in, generator_for
from hwprune.errors import DataError, listed

_VALIDATION = ("val", "validation", "valid", "test")
# Of the shorter side, as torchvision's reference evaluates: 256 pixels for a crop of 224.
_RESIZE = 256 / 224
# Smaller crops than a quarter of the image pay off in long training only.
_LEAST_AREA = 0.25
_LARGEST_RATIO = 4 / 3


@dataclass(frozen=True, eq=False)
class FolderBatches:
    """Batches of image files.

    Attributes:
        files: (path, label) of every image.
        loading: batch size, seed and workers.
        form: what one input is like.
        shuffle: a new order in every epoch; drops a smaller last batch.
        augment: random crop of 25 to 100 % of the image and a flip of every other, instead of the middle.
    """

    files: list[tuple[str, int]]
    loading: Loading
    form: Form
    shuffle: bool = False
    augment: bool = False

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass; the same for any number of workers."""
        generator = generator_for(self.loading.seed, number)
        count = len(self.files)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        loader = DataLoader(
            _Epoch(self.files, self.form, self.loading.seed, number if self.augment else None),
            sampler=order.tolist(),
            batch_size=self.loading.batch_size,
            drop_last=len(self) * self.loading.batch_size <= count,
            num_workers=self.loading.workers,
            generator=generator,
        )
        for batch in loader:
            yield batch[0], batch[1]

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return batches_in(len(self.files), self.loading.batch_size, complete=self.shuffle)


class _Epoch(Dataset[tuple[Tensor, int]]):
    """The images of one epoch by index; each image's augmentation has its own seed."""

    def __init__(self, files: list[tuple[str, int]], form: Form, seed: int, number: int | None) -> None:
        self.files, self.form, self.seed, self.number = files, form, seed, number

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        size = self.form.shape[1:]
        image = _opened(path)
        if self.number is None:
            image = _middle(image, size)
        else:
            image = _random_part(image, size, generator_for(self.seed, self.number, index))
        return _tensor(image, self.form), label


def read_imagefolder(path: Path, loading: Loading) -> Data:
    """PATH/train and PATH/val (or validation, test), each with one folder per class, at 224 × 224 by default.

    Raises `DataError` where a part or its classes are missing, or the two parts have different classes.
    """
    validation = next((path / name for name in _VALIDATION if (path / name).is_dir()), path / "val")
    parts = [_scan(folder) for folder in (path / "train", validation)]
    if parts[0].classes != parts[1].classes:
        differing = set(parts[0].classes) ^ set(parts[1].classes)
        raise DataError(
            f"training and validation have different classes: {listed(sorted(differing))}",
            where=path,
            fix="give both parts the same class folders",
        )
    form = loading.form((3, 224, 224))
    if form.shape[0] not in (1, 3):
        raise DataError(f"image files have 1 or 3 channels, wanted are {form.shape[0]}", where=path)
    train, held = (part.samples for part in parts)
    return Data(
        train=FolderBatches(train, loading, form, shuffle=True, augment=True),
        validation=FolderBatches(held, loading, form),
        calibration=FolderBatches(train, loading, form, shuffle=True),
        num_classes=len(parts[0].classes),
        input_shape=form.shape,
        name=f"imagefolder:{path.name}",
    )


def _scan(folder: Path) -> Any:
    from torchvision.datasets import ImageFolder  # here, because its import takes a second

    try:
        return ImageFolder(folder)
    except FileNotFoundError as error:
        raise DataError(
            f"no image classes: {error}",
            where=folder,
            fix="PATH/train and PATH/val each need one folder per class with images in it",
        ) from None


def _opened(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DataError(f"an image cannot be read: {error}", where=path, fix="remove or repair it") from None


def _middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of ``size`` (height, width), after the shorter side became 8/7 of the longer of these."""
    height, width = size
    factor = _RESIZE * max(size) / min(image.size)
    image = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _random_part(image: Image.Image, size: tuple[int, int], generator: torch.Generator) -> Image.Image:
    """A random part of random aspect ratio resized to ``size``, mirrored with probability one half."""
    area, ratio, x, y, mirror = torch.rand(5, generator=generator).tolist()
    wanted = image.width * image.height * (_LEAST_AREA + (1 - _LEAST_AREA) * area)
    stretch = math.exp((2 * ratio - 1) * math.log(_LARGEST_RATIO) / 2)
    width = min(image.width, max(1, round(math.sqrt(wanted) * stretch)))
    height = min(image.height, max(1, round(math.sqrt(wanted) / stretch)))
    left, top = round(x * (image.width - width)), round(y * (image.height - height))
    box = (left, top, left + width, top + height)
    part = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror < 0.5 else part


def _tensor(image: Image.Image, form: Form) -> Tensor:
    """(channels, height, width), normalised."""
    from torchvision.transforms.functional import pil_to_tensor

    pixels: Tensor = pil_to_tensor(image if form.shape[0] == 3 else image.convert("L")).float() / 255
    return form.normalise(pixels)
