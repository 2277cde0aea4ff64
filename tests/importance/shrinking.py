"""The slow, obvious way to how far covariances of few samples are to be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def share_of(own: NDArray[np.float64], origin: NDArray[np.float64]) -> float:
    """What goes off the diagonal: every entry's variance as a mean over samples; (samples, positions, entries)."""
    moved = own - origin
    products = np.einsum("spi,spj->sij", moved, moved) / own.shape[1]
    off = ~np.eye(own.shape[2], dtype=bool)
    share = products.var(0, ddof=1)[off].sum() / len(own) / np.square(products.mean(0))[off].sum()
    return min(1.0, float(share))


def shrunk(own: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance of entries, shrunk by that share."""
    covariance = np.cov(own.reshape(-1, own.shape[2]), rowvar=False, bias=True)
    return np.where(np.eye(len(covariance), dtype=bool), 1, 1 - share_of(own, origin)) * covariance
