"""Random changes of whole batches."""

from __future__ import annotations

import pytest
import torch

from hwprune.data.augment import Augment, crop_and_flip, random_crop, random_flip, shift_and_rotate
from hwprune.data.batches import generator_for

IMAGES = torch.rand(64, 3, 9, 7, generator=generator_for(1))


@pytest.mark.parametrize("augment", [crop_and_flip, shift_and_rotate])
def test_the_same_seed_changes_the_same_way_and_keeps_the_shape(augment: Augment) -> None:
    first, second = augment(IMAGES, generator_for(2)), augment(IMAGES, generator_for(2))

    assert first.shape == IMAGES.shape
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(IMAGES, generator_for(3)))
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6


def test_every_crop_is_a_window_of_the_padded_image() -> None:
    padded = torch.nn.functional.pad(IMAGES, (2,) * 4)
    windows = [padded[:, :, top : top + 9, left : left + 7] for top in range(5) for left in range(5)]

    crops = random_crop(IMAGES, generator_for(4), padding=2)

    found = torch.stack([(window == crops).all(dim=(1, 2, 3)) for window in windows])
    assert found.any(dim=0).all()
    assert found.any(dim=1).sum() > 10


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_rest() -> None:
    flipped = random_flip(IMAGES, generator_for(5))

    same = (flipped == IMAGES).all(dim=(1, 2, 3))
    mirrored = (flipped == IMAGES.flip(-1)).all(dim=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 < same.sum() < 48


def test_a_small_rotation_keeps_a_centred_spot_in_the_middle() -> None:
    images = torch.zeros(32, 1, 33, 33)
    images[:, :, 14:19, 14:19] = 1

    changed = shift_and_rotate(images, generator_for(6))

    assert changed[:, :, 8:25, 8:25].sum() > 0.99 * changed.sum()
    assert (changed.sum(dim=(1, 2, 3)) > 15).all()
