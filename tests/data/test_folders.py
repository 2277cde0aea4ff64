"""Class folders of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwprune.data import load_data
from hwprune.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes: five red pictures and five blue ones of several sizes in each part."""
    for part in ("train", "val"):
        for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(5):
                picture = Image.new("RGB", (40 + 9 * number, 50), colour)
                picture.save(tmp_path / part / label / f"{number}.png")
    return tmp_path


def test_labels_follow_the_names_of_the_folders(pictures: Path) -> None:
    data = load_data(f"imagefolder:{pictures}", batch_size=4, mean=(0, 0, 0), std=(1, 1, 1))

    assert (data.num_classes, data.input_shape) == (2, (3, 224, 224))
    for part in (data.train, data.validation, data.calibration):
        for inputs, labels in part:
            assert torch.equal(labels, (inputs[:, 0].mean(dim=(1, 2)) > 0.5).long())
    assert [len(labels) for _, labels in data.validation] == [4, 4, 2]
    assert [len(labels) for _, labels in data.train] == [4, 4]


def test_validation_sees_the_middle_of_the_picture(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / part / "a" / "x.png")

    data = load_data(f"imagefolder:{tmp_path}", input_shape=(1, 56, 56), mean=(0,), std=(1,))
    inputs, _ = next(iter(data.validation))

    assert inputs.shape == (1, 1, 56, 56)
    assert inputs.min() > 0.99


# Python 3.12 warns of any fork in a process with threads; PyTorch's loader forks.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_any_number_of_workers_gives_the_same_batches(pictures: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    for path in pictures.glob("train/*/*.png"):
        Image.fromarray(noise).save(path)
    shape = (3, 16, 24)

    def batches(workers: int, epoch: int) -> list[torch.Tensor]:
        data = load_data(f"imagefolder:{pictures}", batch_size=5, input_shape=shape, workers=workers)
        return [inputs for inputs, _ in data.train.epoch(epoch)]

    alone, helped, later = torch.cat(batches(0, 2)), torch.cat(batches(1, 2)), torch.cat(batches(0, 3))
    assert torch.equal(alone, helped)
    assert not torch.equal(alone, later)
    assert len({image.numpy().tobytes() for image in alone}) == 10


def test_missing_parts_and_classes_are_said(pictures: Path) -> None:
    (pictures / "val" / "red").rename(pictures / "val" / "green")
    with pytest.raises(DataError, match="different classes: green, red"):
        load_data(f"imagefolder:{pictures}")

    (pictures / "train").rename(pictures / "other")
    with pytest.raises(DataError, match="no image classes"):
        load_data(f"imagefolder:{pictures}")


def test_a_damaged_picture_is_named(pictures: Path) -> None:
    (pictures / "val" / "red" / "3.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"red/3\.png"):
        list(load_data(f"imagefolder:{pictures}", input_shape=(3, 8, 8)).validation)
