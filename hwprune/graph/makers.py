"""The parameters that make, scale and read the coupled channels of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwprune.errors import ModelError, listed
from hwprune.graph.network import ChannelGroup, Network, Slot

Floats = NDArray[np.float64]
_Wanted = Callable[[Slot, nn.Parameter], bool]
NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, eq=False)
class Piece:
    """A dimension of a parameter that a group's channels lie in.

    Attributes:
        slot: which dimension, and which of its rows belong to which coupled channel.
        parameter: itself.
    """

    slot: Slot
    parameter: nn.Parameter

    def per_channel(self, values: Tensor) -> Floats:
        """(width,): ``values``, of the parameter's shape, summed over all that belongs to each coupled channel."""
        found: Floats = self.rows(values)[self.slot.indices].sum(1)
        return found

    def vectors(self) -> Tensor:
        """(width, elements): what of the parameter belongs to each coupled channel."""
        rows = self.parameter.detach().movedim(self.slot.dim, 0).flatten(1)
        return rows[torch.from_numpy(self.slot.indices).to(rows.device)].flatten(1)

    def rows(self, values: Tensor) -> Floats:
        """``values``, of the parameter's shape, summed over all dimensions but this one."""
        others = [dim for dim in range(values.dim()) if dim != self.slot.dim]
        summed = values.detach().double()
        found: Floats = (summed.sum(others) if others else summed).cpu().numpy()
        return found


Pieces = Mapping[str, tuple[Piece, ...]]
"""By name of the free group."""


def makers(model: nn.Module, network: Network) -> Pieces:
    """Weights of two and more dimensions whose outputs are the channels: filters."""
    return _pieces(model, network, lambda slot, parameter: not slot.contracted and parameter.dim() > 1)


def all_makers(model: nn.Module, network: Network) -> Pieces:
    """Filters, biases and what norms scale and shift with: what is zero where the channel is."""
    return _pieces(model, network, lambda slot, _: not slot.contracted)


def readers(model: nn.Module, network: Network) -> Pieces:
    """Weights that sum over the channels."""
    return _pieces(model, network, lambda slot, parameter: slot.contracted and parameter.dim() > 1)


def norm_scales(model: nn.Module, network: Network, title: str) -> Pieces:
    """Scales of the norms that the channels go through (gamma).

    Raises:
        ModelError: a group has none, so that nothing can be said of it by norms alone.
    """
    scaled = {name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, NORMS)}

    def is_scale(slot: Slot, parameter: nn.Parameter) -> bool:
        module, _, kind = slot.parameter.rpartition(".")
        return kind == "weight" and module in scaled

    found = _pieces(model, network, is_scale)
    without = [name for name, pieces in found.items() if not pieces]
    if without:
        raise ModelError(
            f"{title!r} looks at the scales of norms, and these channels go through none",
            where=listed(without, most=3),
            effect="nothing tells how important they are",
            fix="exclude their modules, or use another method",
        )
    return found


def mean_scales(model: nn.Module, network: Network, title: str) -> dict[str, Floats]:
    """(width,): mean |gamma| of every coupled channel's norms, by group; raises what `norm_scales` raises."""
    found = {}
    for name, pieces in norm_scales(model, network, title).items():
        sizes = [np.abs(piece.rows(piece.parameter))[piece.slot.indices] for piece in pieces]
        found[name] = np.concatenate(sizes, axis=1).mean(1)
    return found


def squared_distances(pieces: Iterable[Piece], width: int) -> Floats:
    """(width, width): between all that makes one coupled channel of a group and all that makes another one."""
    found = np.zeros((width, width))
    for piece in pieces:
        vectors = piece.vectors().double()
        centred = vectors - vectors.mean(0)  # or small differences of large vectors drown in rounding
        products = (centred @ centred.T).cpu().numpy()
        lengths = products.diagonal()
        found += np.maximum(lengths[:, None] + lengths[None] - 2 * products, 0.0)
    np.fill_diagonal(found, 0.0)
    return found


def parameters_of(pieces: Iterable[Iterable[Piece]]) -> list[nn.Parameter]:
    """All of them, each once."""
    return list({id(piece.parameter): piece.parameter for group in pieces for piece in group}.values())


@dataclass(frozen=True, eq=False)
class Rows:
    """A dimension of a parameter, and the coupled channel of each of its rows.

    Attributes:
        parameter: itself.
        dim: the dimension.
        channel_of: (rows,) numbers in the whole network, -1 where a row stays whatever goes.
    """

    parameter: nn.Parameter
    dim: int
    channel_of: Tensor

    def spread(self, values: Tensor, *, elsewhere: float = 0.0) -> Tensor:
        """(coupled channels,) values as factors that fit the parameter; ``elsewhere`` for rows that stay."""
        rows = torch.where(self.channel_of >= 0, values[self.channel_of].to(self.parameter), elsewhere)
        return rows.view([-1 if dim == self.dim else 1 for dim in range(self.parameter.dim())])

    def add_to(self, totals: Tensor, values: Tensor) -> None:
        """Add ``values``, of the parameter's shape, to the (coupled channels,) that they belong to."""
        others = [dim for dim in range(values.dim()) if dim != self.dim]
        summed = (values.sum(others) if others else values).detach().to(totals)
        belongs = self.channel_of >= 0
        totals.index_add_(0, self.channel_of[belongs], summed[belongs])


def rows_of(pieces: Pieces, network: Network) -> tuple[Rows, ...]:
    """The pieces by parameter and dimension in place of group, on the device of each parameter."""
    found: dict[tuple[int, int], Rows] = {}
    numbers = {group.name: torch.from_numpy(group.numbers) for group in network.free}
    for name, own in pieces.items():
        for piece in own:
            parameter, dim = piece.parameter, piece.slot.dim
            new = Rows(parameter, dim, torch.full((parameter.shape[dim],), -1, device=parameter.device))
            rows = found.setdefault((id(parameter), dim), new)
            rows.channel_of[torch.from_numpy(piece.slot.indices)] = numbers[name][:, None].to(parameter.device)
    return tuple(found.values())


def _pieces(model: nn.Module, network: Network, wanted: _Wanted) -> dict[str, tuple[Piece, ...]]:
    state = dict(model.named_parameters(remove_duplicate=False))

    def of(group: ChannelGroup) -> tuple[Piece, ...]:
        known = ((slot, state[slot.parameter]) for slot in group.slots if slot.parameter in state)
        return tuple(Piece(slot, parameter) for slot, parameter in known if wanted(slot, parameter))

    return {group.name: of(group) for group in network.free}
