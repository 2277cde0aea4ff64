"""Knockoffs: images like the data's in distribution that know nothing of the labels (Candès et al. 2018, "Panning for
Gold: Model-X Knockoffs").

Exact knockoffs x~ of features x keep the joint distribution of (x, x~) when any set of features is swapped with its
knockoffs. Second-order ones keep mean and covariance: with cov(x) = C and a D that is zero but for blocks of features,

    cov(x, x~) = [[C, C - D], [C - D, C]],     x~ = mean + (I - D C^-1)(x - mean) + N(0, 2 D - D C^-1 D)

where features of one block are only swapped together. D = s * blocks(C) with the largest s <= 1 for which 2 C - D has
no negative eigenvalue (the equicorrelated choice). With one block for all of it s is 1, and x~ is drawn anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_factor, cho_solve, eigh
from torch import Tensor

Floats = NDArray[np.float64]
Generator = Callable[[Tensor], Tensor]
"""Images (n, channels, height, width) -> as many knockoffs of them, of the same shape and normalisation."""

NEVER_SINGULAR = 1e-6  # share of the mean variance that is added to each feature's
NEARLY = 1 - 1e-6  # of the largest D, so that rounding leaves no negative variance


@dataclass(frozen=True, eq=False)
class GaussianKnockoffs:
    """Second-order knockoffs of vectors.

    Attributes:
        mean: (features,).
        covariance: (features, features), positive definite.
        removed: D above.
    """

    mean: Floats
    covariance: Floats
    removed: Floats

    @classmethod
    def of(cls, samples: Floats, blocks: Sequence[int]) -> GaussianKnockoffs:
        """Estimated from (n, features), whose features are swapped in blocks of these sizes.

        The covariance is shrunk towards a multiple of the identity as Ledoit and Wolf 2004 found best, since there
        may be fewer samples than features.
        """
        from sklearn.covariance import ledoit_wolf

        covariance, _ = ledoit_wolf(samples)
        covariance += NEVER_SINGULAR * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return cls(samples.mean(0), covariance, largest(covariance, blocks))

    @property
    def joint(self) -> Floats:
        """Covariance of (x, x~)."""
        apart = self.covariance - self.removed
        found: Floats = np.block([[self.covariance, apart], [apart, self.covariance]])
        return found

    def draw(self, samples: Floats, random: np.random.Generator) -> Floats:
        """Knockoffs of (n, features)."""
        kept, spread = self._factors
        found: Floats = samples - (samples - self.mean) @ kept + random.standard_normal(samples.shape) @ spread
        return found

    @cached_property
    def _factors(self) -> tuple[Floats, Floats]:
        """C^-1 D, and what gives noise the covariance 2 D - D C^-1 D."""
        kept: Floats = cho_solve(cho_factor(self.covariance), self.removed)
        spread = 2 * self.removed - self.removed @ kept
        values, vectors = np.linalg.eigh((spread + spread.T) / 2)
        return kept, np.sqrt(values.clip(min=0))[:, None] * vectors.T


def largest(covariance: Floats, blocks: Sequence[int]) -> Floats:
    """D: the largest share of the covariance's blocks for which twice the covariance less D is no less than nothing."""
    edges = np.cumsum([0, *blocks])
    own = block_diag(*(covariance[first:last, first:last] for first, last in itertools.pairwise(edges)))
    least = float(eigh(covariance, own, eigvals_only=True, subset_by_index=[0, 0])[0])
    found: Floats = min(1.0, 2 * least) * NEARLY * own
    return found


@dataclass(frozen=True, eq=False)
class NewImages:
    """Knockoffs that are drawn anew: Gaussian images with the mean and the covariance of those that were seen.

    The whole image is one block, so nothing of the image that a knockoff stands beside is in it. That is as much as the
    released code of SCOP uses, whose pictures are a generative network's answers to noise. A draw is a random
    combination of the images' deviations from their mean, which has just their covariance and needs no matrix of it.

    Attributes:
        mean: (channels, height, width).
        deviations: (n, channels, height, width).
        random: where the combinations come from.
    """

    mean: Tensor
    deviations: Tensor
    random: torch.Generator

    @classmethod
    def of(cls, images: Tensor, seed: int) -> NewImages:
        """Those that are like these."""
        mean = images.mean(0)
        return cls(mean, images - mean, torch.Generator().manual_seed(seed))

    def __call__(self, images: Tensor) -> Tensor:
        """As many as there are images."""
        count = len(self.deviations)
        shares = torch.randn(len(images), count, generator=self.random).to(self.deviations) / max(1, count - 1) ** 0.5
        return self.mean + torch.einsum("nk,k...->n...", shares, self.deviations)


@dataclass(frozen=True, eq=False)
class SwappedPatches:
    """Second-order knockoffs patch by patch, whose pixels are swapped one by one.

    Neighbouring pixels say nearly the same, so there is little room for a pixel that differs from its own but not from
    its neighbours: these are close to the images themselves, the closer the smoother the images are.

    Attributes:
        knockoffs: of one patch, the same everywhere.
        side: of a patch in pixels.
        random: where they come from.
    """

    knockoffs: GaussianKnockoffs
    side: int
    random: np.random.Generator

    @classmethod
    def of(cls, images: Tensor, seed: int, *, most_side: int = 8) -> SwappedPatches:
        """Estimated from these; patches have the largest side up to ``most_side`` that divides the image's."""
        side = max(s for s in range(1, most_side + 1) if not images.shape[2] % s and not images.shape[3] % s)
        patches = _patches(images, side)
        found = GaussianKnockoffs.of(patches.numpy(), [1] * patches.shape[1])
        return cls(found, side, np.random.default_rng(seed))

    def __call__(self, images: Tensor) -> Tensor:
        """Those of these images."""
        drawn = torch.from_numpy(self.knockoffs.draw(_patches(images, self.side).numpy(), self.random))
        count, channels, height, width = images.shape
        columns = drawn.view(count, -1, drawn.shape[1]).transpose(1, 2)
        folded = torch.nn.functional.fold(columns, (height, width), self.side, stride=self.side)
        return folded.view(count, channels, height, width).to(images)


def _patches(images: Tensor, side: int) -> Tensor:
    """(patches of all images, elements) in double precision."""
    columns = torch.nn.functional.unfold(images.double().cpu(), side, stride=side)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])
