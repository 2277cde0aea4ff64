"""What the layers that read coupled channels see: means and covariances of their inputs, over positions and samples.

From them follows how well some channels can be told from others, which is what removing them costs once the layers that
read them have taken over what is left: `hwprune.importance.obs` and `hwprune.importance.compensation`.

Few samples tell many channels from each other in these samples alone: a classifier behind a global pool has one value
of each input for each image, so that 256 images tell MobileNetV2's 1,280 inputs from a few of them without an error. So
covariances are shrunk towards none by the share that makes their expected square error least, as it is estimated from
how much they differ between samples (Ledoit and Wolf 2004; towards the diagonal: Schäfer and Strimmer 2005, target D).
Positions of one sample are no samples of their own, since neighbours are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from hwprune.graph.network import Network
from hwprune.modes import hooked

RIDGE = 1e-3  # of the mean variance, added to each: keeps channels that are all but copies apart
MOST_ENTRIES = 8192  # of one covariance; wider inputs are judged channel by channel
AT_ONCE = 2**24  # numbers that are held to see how samples differ


@dataclass(frozen=True, eq=False)
class Block:
    """Input channels of a layer that are summed together: all of them, or those of one group of a grouped convolution.

    Attributes:
        module: the layer's path.
        layer: the layer.
        part: which of the convolution's groups.
        start: first input channel of that part.
        index: (entries, count) the part's input channels by entry, counted from ``start``; count is 49 behind a flatten
            of 7 x 7, where a channel of the feature map is an entry.
        numbers: (entries,) coupled channels, -1 where a channel is pinned.
        shifted: whether a constant added to the inputs can be made up for: by the layer's bias, or by batch norm behind
            it, whose statistics are estimated anew after a cut.
    """

    module: str
    layer: nn.Module
    part: int
    start: int
    index: Tensor
    numbers: NDArray[np.int64]
    shifted: bool

    @property
    def whole(self) -> bool:
        """Whether covariances are kept; else variances alone."""
        return len(self.index) <= MOST_ENTRIES

    def read(self, x: Tensor) -> Tensor:
        """What the layer is given, by entry: (..., count, entries)."""
        return channels_last(self.layer, x)[..., self.index + self.start].transpose(-1, -2)

    def replaced(self, x: Tensor, gone: NDArray[np.bool_], values: Tensor) -> Tensor:
        """A copy of what the layer is given, with ``values`` (..., count, gone) for the entries that are gone."""
        changed = channels_last(self.layer, x).clone()
        changed[..., self.index[torch.from_numpy(gone)] + self.start] = values.transpose(-1, -2)
        return changed if isinstance(self.layer, nn.Linear) else changed.movedim(-1, 1)

    def weights(self) -> Tensor:
        """A copy of the layer's weights by entry: (entries, count, outputs of this part, *kernel)."""
        return self._by_input()[self.index]

    def put_weights(self, values: Tensor) -> None:
        """The inverse of `weights`, in place."""
        self._by_input()[self.index] = values

    def of_outputs(self, values: Tensor) -> Tensor:
        """Of one value per output channel of the layer those of this part."""
        return values.view(_parts(self.layer), -1)[self.part]

    def _by_input(self) -> Tensor:
        """A view of the weights of this part: (inputs, outputs, *kernel)."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        own = weight.detach().tensor_split(_parts(self.layer))[self.part]
        return own if isinstance(self.layer, _ConvTransposeNd) else own.transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of a block's inputs.

    Attributes:
        mean: (entries,)
        covariance: (entries, entries), shrunk, or variances (entries,) where the block is not whole.
    """

    mean: Tensor
    covariance: Tensor

    @property
    def whole(self) -> bool:
        """Whether there is a covariance."""
        return self.covariance.dim() == 2

    @property
    def inverse(self) -> NDArray[np.float64]:
        """The inverse of the covariance with its ridge, (entries, entries), or (entries,) where it is not whole."""
        ridged = _ridged(self.covariance)
        return np.asarray((1 / ridged if ridged.dim() == 1 else torch.linalg.inv(ridged)).cpu())

    def takeover(
        self, stays: NDArray[np.bool_], gone: NDArray[np.bool_], *, shifted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """How entries that are gone follow from those that stay: A (stay, gone), b (gone,), x_gone = x_stay A + b.

        The least squares fit, by ridge regression; b is 0 unless ``shifted``. Where the covariance is not whole, or
        nothing stays, A is 0. Entries that neither stay nor go were gone before.
        """
        kept, lost = (torch.from_numpy(np.flatnonzero(one)).to(self.mean.device) for one in (stays, gone))
        if not self.whole or not len(kept):
            slopes = self.mean.new_zeros(len(kept), len(lost))
        else:
            square = self.covariance if shifted else self.covariance + torch.outer(self.mean, self.mean)
            there = torch.cat([kept, lost])
            ridged, first = _ridged(square[there][:, there]), len(kept)
            slopes = torch.linalg.solve(ridged[:first, :first], ridged[:first, first:])
        shift = self.mean[lost] - self.mean[kept] @ slopes
        return slopes, shift if shifted else torch.zeros_like(shift)


def _ridged(square: Tensor) -> Tensor:
    diagonal = square if square.dim() == 1 else square.diagonal()
    ridge = RIDGE * diagonal.mean() + torch.finfo(torch.float32).tiny
    return square + ridge if square.dim() == 1 else square + ridge * torch.eye(len(square)).to(square)


def blocks_of(model: nn.Module, network: Network) -> tuple[Block, ...]:
    """Every block of the network's consumers that reads channels that may go.

    A depthwise convolution is none: it sums over no channels, and what reads its outputs is asked instead.
    """
    found = []
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    for consumer in network.consumers:
        layer = model.get_submodule(consumer.module)
        for part, numbers in enumerate(np.split(consumer.channel_of, _parts(layer))):
            if (numbers >= 0).any() and (len(numbers) > 1 or _parts(layer) == 1):
                index, entries = _entries(numbers)
                start = part * len(numbers)
                shifted = normed or layer._parameters.get("bias") is not None
                found.append(Block(consumer.module, layer, part, start, torch.from_numpy(index), entries, shifted))
    return tuple(found)


def channels_last(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer is given, or gives, with the channels as last dimension: a convolution's are dimension 1."""
    return x if isinstance(layer, nn.Linear) else x.movedim(1, -1)


def _entries(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input channels of each entry, and its coupled channel.

    Channels behind a flatten are several positions of one channel of the feature map: an entry then has them all.
    """
    unique, counts = np.unique(numbers, return_counts=True)
    if unique[0] < 0 or counts.min() != counts.max():
        return np.arange(len(numbers))[:, None], numbers
    return np.argsort(numbers, kind="stable").reshape(len(unique), -1), unique


def _parts(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, _ConvNd) else 1


@contextmanager
def before(blocks: Sequence[Block], told: Callable[[Block, Tensor], Tensor | None]) -> Iterator[None]:
    """Call ``told`` with every block and its layer's input before that runs; an answer takes the input's place."""
    by_layer: dict[nn.Module, list[Block]] = {}
    for block in blocks:
        by_layer.setdefault(block.layer, []).append(block)

    def pre_hook(own: Sequence[Block]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x = inputs[0]
            for block in own:
                answer = told(block, x)
                x = x if answer is None else answer
            return (x, *inputs[1:])

        return hook

    with hooked(layer.register_forward_pre_hook(pre_hook(own)) for layer, own in by_layer.items()):
        yield


class Gathering:
    """Sums over what blocks read, in as many passes as run inside of `watching`.

    Values are taken from the first batch's mean (Chan, Golub and LeVeque 1983), because a mean far above the deviation,
    as behind a global pool, would drown the covariance in float32.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self._samples: dict[Block, int] = {}
        self._rows: dict[Block, int] = {}
        self._origins: dict[Block, Tensor] = {}
        self._sums: dict[Block, Tensor] = {}
        self._products: dict[Block, Tensor] = {}
        self._spreads: dict[Block, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Gather meanwhile."""
        with before(self.blocks, self._gather):
            yield

    def _gather(self, block: Block, x: Tensor) -> None:
        rows = block.read(x.detach()).reshape(-1, len(block.index)).float()  # a copy
        if block not in self._origins:
            self._origins[block] = rows.mean(0)
        rows -= self._origins[block]
        sums, products = rows.sum(0, dtype=torch.float64), rows.T @ rows if block.whole else rows.square().sum(0)
        spread = _spread(rows.view(len(x), -1, rows.shape[1])) if block.whole else 0.0
        if block in self._rows:
            self._samples[block] += len(x)
            self._rows[block] += len(rows)
            self._sums[block] += sums
            self._products[block] += products.double()
            self._spreads[block] += spread
        else:
            self._samples[block], self._rows[block], self._sums[block] = len(x), len(rows), sums
            self._products[block], self._spreads[block] = products.double(), spread

    def moments(self) -> dict[Block, Moments]:
        """Of every block that ran. One sample does not say how far it can be trusted: then channels tell no others."""
        found = {}
        for block, rows in self._rows.items():
            offset, products = self._sums[block] / rows, self._products[block] / rows
            if block.whole:
                covariance = products - torch.outer(offset, offset)
                share = _shrinkage(_off_diagonal(products), self._spreads[block], self._samples[block])
                covariance = (1 - share) * covariance + share * covariance.diagonal().diag()
            else:
                covariance = products - offset.square()
            found[block] = Moments(self._origins[block].double() + offset, covariance)
        return found


def _shrinkage(square: float, spread: float, samples: int) -> float:
    """The share of entries off the diagonal that goes: the variance of these, as means over samples, over their square.

    Args:
        square: sum of the squares of these entries.
        spread: the same of every sample's own, summed over samples.
        samples: how many there are.
    """
    if samples < 2:
        return 1.0
    variance = (spread / samples - square) / (samples - 1)
    return min(1.0, max(0.0, variance / square)) if square > 0 else 0.0


def _spread(rows: Tensor) -> float:
    """Sum of squares off the diagonal of every sample's mean products of entries; (samples, positions, entries)."""
    positions, entries = rows.shape[1:]
    by_entry = entries <= positions  # X^T X and X X^T have the same sum of squares
    total = 0.0
    for own in torch.split(rows, max(1, AT_ONCE // min(positions, entries) ** 2)):
        products = own.transpose(1, 2) @ own if by_entry else own @ own.transpose(1, 2)
        squares, diagonal = products.square(), own.square().sum(1).square()
        total += float(squares.sum(dtype=torch.float64) - diagonal.sum(dtype=torch.float64))
    return total / positions**2


def _off_diagonal(square: Tensor) -> float:
    return float(square.square().sum() - square.diagonal().square().sum())
