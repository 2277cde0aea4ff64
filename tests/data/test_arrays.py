"""Images that fit in memory."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from hwprune.data import Batches, load_data
from hwprune.errors import DataError


def write(path: Path, count: int = 40, *, size: tuple[int, ...] = (6, 5, 3), first: int = 0) -> None:
    """An npz file whose image i is all i, of class i modulo 4."""
    numbers = np.arange(first, first + count)
    images = np.broadcast_to(numbers.reshape(-1, *(1 for _ in size)), (count, *size)).astype(np.uint8)
    np.savez(path, images=images, labels=numbers % 4)


def numbers(batches: Batches, epoch: int = 0) -> list[int]:
    """Which images of `write` come, by their first pixel."""
    mean, std = 0.485, 0.229
    return [int(value) for x, _ in batches.epoch(epoch) for value in (x[:, 0, 0, 0] * std + mean).mul(255).round()]


def test_a_folder_keeps_training_and_test_apart(tmp_path: Path) -> None:
    write(tmp_path / "x_train.npz", 40)
    write(tmp_path / "x_test.npz", 10, first=100)

    data = load_data(f"npz:{tmp_path}", batch_size=8)

    assert (data.num_classes, data.input_shape) == (4, (3, 6, 5))
    assert numbers(data.validation) == list(range(100, 110))
    assert sorted(numbers(data.calibration)) == list(range(40))


def test_one_file_is_split_into_disjoint_parts_by_the_seed(tmp_path: Path) -> None:
    write(tmp_path / "all.npz", 40)

    held = [set(numbers(load_data(f"npz:{tmp_path}/all.npz", seed=s, holdout=0.25).validation)) for s in (0, 0, 1)]
    trained = set(numbers(load_data(f"npz:{tmp_path}/all.npz", batch_size=5, holdout=0.25).calibration))

    assert held[0] == held[1] != held[2]
    assert len(held[0]) == 10
    assert trained == set(range(40)) - held[0]


def test_keras_names_are_understood(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([[0], [1], [2], [1]], np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    data = load_data(f"npz:{tmp_path}/mnist.npz", batch_size=2)

    assert (data.num_classes, data.input_shape, data.name) == (3, (1, 8, 8), "mnist")


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    write(tmp_path / "all.npz", 40)
    first, second, other = (load_data(f"npz:{tmp_path}/all.npz", batch_size=8, seed=s).train for s in (0, 0, 1))
    list(first.epoch(0))

    batches = [list(part.epoch(number)) for part, number in ((first, 3), (second, 3), (second, 4), (other, 3))]

    same = [all(torch.equal(a[0], b[0]) for a, b in zip(batches[0], part, strict=True)) for part in batches[1:]]
    assert same == [True, False, False]


def test_training_leaves_out_an_incomplete_batch_and_validation_does_not(tmp_path: Path) -> None:
    write(tmp_path / "x_train.npz", 20)
    write(tmp_path / "x_test.npz", 20)

    data = load_data(f"npz:{tmp_path}", batch_size=8)

    assert [len(y) for _, y in data.train] == [8, 8]
    assert [len(y) for _, y in data.validation] == [8, 8, 4]
    assert (len(data.train), len(data.validation)) == (2, 3)


def test_images_are_resized_and_grey_ones_repeated(tmp_path: Path) -> None:
    write(tmp_path / "all.npz", 20, size=(6, 6))

    data = load_data(f"npz:{tmp_path}/all.npz", input_shape=(3, 12, 10))
    inputs, _ = next(iter(data.validation))

    assert inputs.shape[1:] == (3, 12, 10)
    pixels = inputs[0] * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    pixels += torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    torch.testing.assert_close(pixels, pixels[0, 0, 0].expand(3, 12, 10))


def test_colours_are_not_made_grey(tmp_path: Path) -> None:
    write(tmp_path / "all.npz", 20)

    with pytest.raises(DataError, match=r"images are \(3, 6, 5\)"):
        load_data(f"npz:{tmp_path}/all.npz", input_shape=(1, 6, 5))


GOOD, LABELS = np.zeros((4, 5, 5, 3), np.uint8), np.array([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": GOOD}, "wanted are images and labels"),
        ({"images": GOOD.astype(float), "labels": LABELS}, "wanted is uint8"),
        ({"images": GOOD[0, 0], "labels": LABELS}, "wanted is uint8"),
        ({"images": GOOD, "labels": LABELS.astype(float)}, "wanted are integers"),
        ({"images": GOOD, "labels": LABELS[:3]}, "4 images have 3 labels"),
        ({"images": GOOD[:0], "labels": LABELS[:0]}, "0 images"),
        ({"images": GOOD, "labels": LABELS - 1}, "label -1 is negative"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path: Path, content: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "x.npz", **content)  # type: ignore[arg-type]

    with pytest.raises(DataError, match=words):
        load_data(f"npz:{tmp_path}/x.npz")


def test_damaged_files_and_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "pickled.npz", images=np.array([{}], object), labels=LABELS)
    np.save(tmp_path / "single.npy", LABELS)

    for name in ("damaged.npz", "pickled.npz", "single.npy"):
        with pytest.raises(DataError, match="not a readable npz file"):
            load_data(f"npz:{tmp_path}/{name}")


def test_a_folder_without_a_test_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x_train.npz")

    with pytest.raises(DataError, match="0 npz files have test or val in their name"):
        load_data(f"cifar10:{tmp_path}")


def test_cifar_reads_the_python_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder, sums = tmp_path / "cifar-10-batches-py", {}
    folder.mkdir()
    for name in ["data_batch_1", "test_batch", "batches.meta"]:
        content = {
            "data": np.full((4, 3072), len(name), np.uint8),
            "labels": [3, 1, 0, 2],
            "label_names": list("abcd"),
        }
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})

    for path in (tmp_path, folder):
        data = load_data(f"cifar10:{path}", batch_size=4)
        assert numbers(data.validation) == [10] * 4
        assert [y.tolist() for _, y in data.validation] == [[3, 1, 0, 2]]

    (folder / "test_batch").write_bytes(b"cut off")
    with pytest.raises(DataError, match="CIFAR-10 cannot be read"):
        load_data(f"cifar10:{tmp_path}")


def test_a_quarter_of_the_digits_is_held_back_whatever_the_seed() -> None:
    held = [torch.cat([x for x, _ in load_data("digits", seed=seed).validation]) for seed in (0, 5)]
    trained = torch.cat([x for x, _ in load_data("digits", batch_size=1).calibration])
    labels = torch.cat([y for _, y in load_data("digits").validation])

    assert torch.equal(held[0], held[1])
    assert len(held[0]) == 445
    assert len(trained) == 1797 - 445
    assert torch.bincount(labels).min() >= 43
    known = {image.numpy().tobytes() for image in trained}
    assert not any(image.numpy().tobytes() in known for image in held[0])


def test_digits_come_in_the_networks_shape() -> None:
    inputs, _ = next(iter(load_data("digits", input_shape=(1, 28, 28)).train))

    assert inputs.shape == (128, 1, 28, 28)
    assert inputs.min() >= -1 and inputs.max() <= 1
