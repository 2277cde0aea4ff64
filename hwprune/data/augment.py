"""Random changes of whole batches, on tensors and seeded.

Each function takes images (n, c, h, w) with pixels in [0, 1] and returns new ones of the same shape. What
comes in from outside the image is black.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Augment = Callable[[Tensor, torch.Generator], Tensor]


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """The usual augmentation of CIFAR-10: a random crop after padding by 4 pixels, and a random flip."""
    return random_flip(random_crop(images, generator, padding=4), generator)


def random_crop(images: Tensor, generator: torch.Generator, *, padding: int) -> Tensor:
    """Each image shifted by up to ``padding`` pixels in both directions."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, :]
    return padded.movedim(1, -1)[torch.arange(count)[:, None, None], rows, columns].movedim(-1, 1)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def shift_and_rotate(images: Tensor, generator: torch.Generator) -> Tensor:
    """For signs that must not be mirrored: up to 12 degrees, 8 % of the image's size and 10 % of scale."""
    count = len(images)
    angle, scale, right, down = 2 * torch.rand(4, count, generator=generator) - 1
    angle, scale = angle * torch.pi * 12 / 180, 1 + 0.1 * scale
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = (torch.stack((cosine, -sine, 0.16 * right)), torch.stack((sine, cosine, 0.16 * down)))
    matrices = torch.stack(rows).permute(2, 0, 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
