"""Images that fit in memory: npz files, CIFAR-10 and the handwritten digits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hwprune.data.augment import Augment, crop_and_flip, shift_and_rotate
from hwprune.data.batches import Batch, Data, Form, Loading, batches_in, generator_for
from hwprune.errors import DataError


@dataclass(frozen=True, eq=False)
class Images:
    """Images uint8 (n, height, width, channels) and labels int64 (n,)."""

    images: Tensor
    labels: Tensor

    def at(self, indices: Tensor) -> Images:
        """Those images, in that order."""
        return Images(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Batches of images in memory.

    Attributes:
        source: the images.
        loading: batch size and seed.
        form: what one input is like.
        shuffle: a new order in every epoch; drops a smaller last batch, whose statistics would be noisy.
        augment: applied to pixels in [0, 1]; None leaves them.
    """

    source: Images
    loading: Loading
    form: Form
    shuffle: bool = False
    augment: Augment | None = None

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        count, size = len(self.source.labels), self.loading.batch_size
        generator = generator_for(self.loading.seed, number)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for start in range(0, len(self) * size, size):
            chosen = self.source.at(order[start : start + size])
            yield self._prepare(chosen.images, generator), chosen.labels

    def _prepare(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (n, height, width, channels) -> normalised float (n, *input_shape)."""
        pixels = images.movedim(-1, 1).float() / 255
        channels, *size = self.form.shape
        if list(pixels.shape[2:]) != size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        pixels = pixels.expand(-1, channels, -1, -1)  # grey ones; other counts were refused
        if self.augment is not None:
            pixels = self.augment(pixels, generator)
        return self.form.normalise(pixels).contiguous()

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return batches_in(len(self.source.labels), self.loading.batch_size, complete=self.shuffle)


def read_npz(path: Path, loading: Loading, *, augment: Augment | None = crop_and_flip) -> Data:
    """Images of one npz file, or of the two of a folder.

    A file has ``images`` and ``labels``, which are split by the seed, or ``x_train``, ``y_train``, ``x_test``
    and ``y_test``; a folder has a file with "train" and one with "test" or "val" in its name. Images are
    uint8 (n, height, width) or (n, height, width, channels), labels integers (n,).
    """
    if path.is_dir():
        train, validation = _npz_pair(path)
    else:
        content = _arrays(path)
        if {"x_train", "y_train", "x_test", "y_test"} <= content.keys():
            train = _images(content["x_train"], content["y_train"], where=path)
            validation = _images(content["x_test"], content["y_test"], where=path)
        else:
            train, validation = split(_only_images(content, path), loading)
    return as_data(train, validation, loading, augment=augment, name=path.stem)


def read_cifar10(path: Path, loading: Loading) -> Data:
    """CIFAR-10: two npz files, or the python version: its folder cifar-10-batches-py or the one around it."""
    name = "cifar-10-batches-py"
    around = path.parent if path.name == name else path
    if not (around / name).is_dir():
        return replace(read_npz(path, loading), name="cifar10")
    from torchvision.datasets import CIFAR10  # here, because its import takes a second

    try:
        parts = [CIFAR10(around, train=train, download=False) for train in (True, False)]
    except (RuntimeError, OSError) as error:  # it compares checksums before it unpickles
        fix = "unpack cifar-10-python.tar.gz there again"
        raise DataError(f"CIFAR-10 cannot be read: {error}", where=around / name, fix=fix) from None
    train, test = (_images(part.data, np.asarray(part.targets), where=path) for part in parts)
    return as_data(train, test, loading, augment=crop_and_flip, name="cifar10")


def read_digits(loading: Loading) -> Data:
    """The 1797 handwritten digits of scikit-learn (8 × 8, grey) at 32 × 32 with three equal channels.

    Every fourth image of each digit is held back for validation, whatever the seed. Both parts share writers.
    """
    from sklearn.datasets import load_digits  # here, because its import takes a second

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    every = _images(grey, digits.target, where="digits")
    shape = loading.input_shape or (3, 32, 32)
    halves = (0.5,) * shape[0]
    loading = replace(loading, input_shape=shape, mean=loading.mean or halves, std=loading.std or halves)
    held = torch.zeros(len(every.labels), dtype=torch.bool)
    for digit in range(10):
        held[torch.nonzero(every.labels == digit).flatten()[3::4]] = True
    train, validation = (every.at(torch.nonzero(part).flatten()) for part in (~held, held))
    return as_data(train, validation, loading, augment=shift_and_rotate, name="digits")


def split(images: Images, loading: Loading) -> tuple[Images, Images]:
    """Two disjoint parts by the seed, the second with the share ``holdout``."""
    count = len(images.labels)
    order = torch.randperm(count, generator=generator_for(loading.seed, 0, 1))
    held = round(count * loading.holdout)
    if not 0 < held < count:
        raise DataError(
            f"{count} images cannot be split with a holdout of {loading.holdout}",
            fix="pass more images, or x_train, y_train, x_test and y_test in one file",
        )
    return images.at(order[held:].sort().values), images.at(order[:held].sort().values)


def as_data(train: Images, validation: Images, loading: Loading, *, augment: Augment | None, name: str) -> Data:
    """Both parts as `Data`, after the channels and the image sizes are known to agree."""
    form = loading.form(_shape(train))
    for part in (train, validation):
        channels = _shape(part)[0]
        if channels not in (1, form.shape[0]) or (loading.input_shape is None and _shape(part) != form.shape):
            raise DataError(
                f"images are {_shape(part)} (channels, height, width), wanted are {form.shape}",
                where=name,
                fix="images of one size and of one channel, or of as many as the network takes",
            )
    return Data(
        train=ArrayBatches(train, loading, form, shuffle=True, augment=augment),
        validation=ArrayBatches(validation, loading, form),
        calibration=ArrayBatches(train, loading, form, shuffle=True),
        num_classes=1 + max(int(part.labels.max()) for part in (train, validation)),
        input_shape=form.shape,
        name=name,
    )


def _shape(images: Images) -> tuple[int, int, int]:
    _, height, width, channels = images.images.shape
    return channels, height, width


def _npz_pair(folder: Path) -> tuple[Images, Images]:
    files = sorted(folder.glob("*.npz"))
    parts = []
    for words in (("train",), ("test", "val")):
        found = [file for file in files if any(word in file.stem.lower() for word in words)]
        if len(found) != 1:
            raise DataError(
                f"{len(found)} npz files have {' or '.join(words)} in their name, wanted is one",
                where=folder,
                fix="a folder with NAME_train.npz and NAME_test.npz, or the path of one npz file",
            )
        parts.append(_only_images(_arrays(found[0]), found[0]))
    return parts[0], parts[1]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError("no such file or folder", where=path, fix="write npz:PATH with a path that exists")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return dict(content)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:  # TypeError: npy
        raise DataError(
            f"not a readable npz file: {str(error).partition('. ')[0]}",
            where=path,
            fix="write it with numpy.savez, without object arrays",
        ) from None


def _only_images(content: dict[str, np.ndarray], path: Path) -> Images:
    if not {"images", "labels"} <= content.keys():
        raise DataError(
            f"the file has {', '.join(sorted(content)) or 'nothing'}, wanted are images and labels",
            where=path,
            fix="numpy.savez(path, images=uint8 (n, height, width, channels), labels=integers (n,))",
        )
    return _images(content["images"], content["labels"], where=path)


def _images(images: np.ndarray, labels: np.ndarray, *, where: object) -> Images:
    """Checked: types, shapes, as many labels as images, at least one, no negative label."""
    labels = labels.reshape(len(labels), -1)[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim == 3:
        images = images[..., None]
    wrong = ""
    if images.dtype != np.uint8 or images.ndim != 4:
        wrong = f"images are {images.dtype} {images.shape}, wanted is uint8 (n, height, width, channels)"
    elif labels.ndim != 1 or labels.dtype.kind not in "iu":
        wrong = f"labels are {labels.dtype} {labels.shape}, wanted are integers (n,)"
    elif len(images) != len(labels) or not len(labels):
        wrong = f"{len(images)} images have {len(labels)} labels"
    elif labels.min() < 0:
        wrong = f"label {labels.min()} is negative"
    if wrong:
        raise DataError(wrong, where=where, fix="write the arrays again in that form with numpy.savez")
    return Images(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
