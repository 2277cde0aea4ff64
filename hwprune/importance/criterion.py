"""What every importance criterion offers, and the criteria by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hwprune.errors import ModelError, NumericsError, listed
from hwprune.graph.network import Network

Scores = dict[str, NDArray[np.float64]]
"""Importance of every coupled channel of every free group, by group name: (width,). Larger is more important."""

Batches = Iterable[tuple[Tensor | Sequence[Tensor], Any]]
Loss = Callable[[Any, Any], Tensor]


COSTS = ("macs", "params", "memory", "latency")  # memory: counted elements; latency: ms
Saved = Mapping[str, Mapping[str, float]]
"""What one channel fewer saves at present widths: name of the cost -> name of the group -> how much."""


class Criterion(Protocol):
    """A way to say what removing a channel hurts."""

    @property
    def name(self) -> str: ...

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """Score every free group of ``network``; ``model`` is left as it was.

        Args:
            model: the network in the state that is to be judged.
            network: its analysis.
            batches: (inputs, targets) from the training data; criteria on weights alone do not read them. Inputs are a
                batch, for a detector also a list of images with the list of its target dictionaries.
            loss: (outputs, targets) -> scalar, *summed* over samples. Outputs are what the analysed forward returns;
                for a list of images the detector's own losses by name, see `detector_losses`.
        """


@runtime_checkable
class Costed(Criterion, Protocol):
    """A criterion that counts costs itself, besides what importance is divided by."""

    @property
    def costs(self) -> tuple[str, ...]:
        """Which of `Saved` it wants."""

    def priced(self, saved: Saved) -> Criterion:
        """The criterion that knows them."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy summed over samples, so that every sample's gradient is its own."""
    return functional.cross_entropy(outputs, targets, reduction="sum")


def detector_losses(outputs: Mapping[str, Tensor], targets: object) -> Tensor:
    """The sum of the losses that a detector computes itself, of one image."""
    return torch.stack(list(outputs.values())).sum()


def by_group(network: Network, values: NDArray[np.float64], name: str) -> Scores:
    """Split scores of all coupled channels into groups; refuses what is not a number."""
    scores = {group.name: values[group.numbers].astype(np.float64) for group in network.free}
    check_finite(scores, name)
    return scores


def of_mean_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(width,): a group's values over their mean, where values of different groups do not compare."""
    return values / max(float(values.mean()), float(np.finfo(np.float64).tiny))


def check_readers(network: Network, title: str) -> None:
    """Raises ModelError where channels are read by calls whose inputs cannot be watched."""
    if network.unwatched:
        raise ModelError(
            f"{title} cannot see every layer that reads these channels",
            where=listed(network.unwatched, most=3),
            effect="channels that only those layers read would look unimportant",
            fix="make them nn.Linear or convolution modules, exclude their module, or use another importance",
        )


def check_finite(scores: Mapping[str, NDArray[np.float64]], name: str) -> None:
    """Raises NumericsError that names the group."""
    for group, values in scores.items():
        if not np.isfinite(values).all():
            raise NumericsError(
                f"importance {name!r} is not a number for {int((~np.isfinite(values)).sum())} channels",
                where=f"group {group}",
                fix="check the weights and the data for NaN or infinity",
            )
