"""Smaller copies of modules: narrowed tensors, and integer attributes that follow them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.labels import Dims

_NORMS = nn.modules.batchnorm._NormBase
_CONVS = nn.modules.conv._ConvNd
Kept = NDArray[np.bool_]
Narrow = Callable[[Tensor, "list[NDArray[np.int64] | None]"], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """An integer of a module, taken by its forward, that follows from a width.

    Attributes:
        module: its path.
        name: of the attribute.
        item: its place in a list or tuple, None for a plain number.
        dense: its value in the dense network.
        counts: (channels,) numbers of the coupled channels that it counts, -1 for those that stay.
    """

    module: str
    name: str
    item: int | None
    dense: int
    counts: NDArray[np.int64]

    def at(self, stays: Kept) -> int:
        """Its value where only the coupled channels with ``stays`` are left."""
        kept = (self.counts < 0) | stays[self.counts]
        return round(self.dense * int(kept.sum()) / len(self.counts))


def rows(dims: Dims, stays: Kept) -> list[NDArray[np.int64] | None]:
    """Per dimension the indices that stay, None where all do. ``dims`` hold coupled channels' numbers, -1 stays."""
    found: list[NDArray[np.int64] | None] = []
    for numbers in dims:
        here = None if numbers is None else (numbers < 0) | stays[numbers]
        found.append(None if here is None or bool(here.all()) else np.flatnonzero(here))
    return found


def narrowed(
    model: nn.Module,
    channel_of: Mapping[str, Dims],
    stays: Kept,
    attributes: Iterable[Attribute],
    narrow: Narrow,
    offsets: Container[str] = frozenset(),
) -> nn.Module:
    """A copy of ``model`` with ``narrow`` applied to every tensor, and integer attributes in step with the tensors.

    Tensors are not copied before they are narrowed, so the copy costs the memory of the smaller network. Tied tensors
    stay tied. Grouped convolutions among ``offsets`` keep their number of groups, others keep what a group holds.
    """
    memo: dict[int, Any] = {}
    keep_alive = []  # an id is only unique while its tensor lives
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        made = narrow(tensor.detach(), rows(channel_of[name], stays) if name in channel_of else [])
        if isinstance(tensor, nn.Parameter):
            made = nn.Parameter(made, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = made
        keep_alive.append(tensor)
    small = copy.deepcopy(model, memo)
    _repair(small, offsets)
    _repair_containers(model, small)
    _repair_attributes(small, attributes, stays)
    return small


def smaller(tensor: Tensor, index: list[NDArray[np.int64] | None]) -> Tensor:
    """The kept rows of every dimension, as a tensor of its own in the same memory format."""
    result = tensor
    for dim, kept in enumerate(index):
        if kept is not None:
            result = result.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    if result.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return result.clone(memory_format=torch.channels_last)
    return result.clone() if result is tensor else result


def hollow(tensor: Tensor, index: list[NDArray[np.int64] | None]) -> Tensor:
    """A meta tensor of the narrowed shape."""
    sizes = [size if i >= len(index) or (k := index[i]) is None else len(k) for i, size in enumerate(tensor.shape)]
    return (
        torch.empty_like(tensor, device="meta")
        if list(tensor.shape) == sizes
        else tensor.new_empty(sizes, device="meta")
    )


def _repair(small: nn.Module, offsets: Container[str]) -> None:
    """The usual integer attributes, by the shapes that the tensors now have."""
    for name, module in small.named_modules():
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, _CONVS):
            _repair_convolution(module, weight, name in offsets)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, _NORMS):
            known = weight if weight is not None else module.running_mean
            module.num_features = module.num_features if known is None else known.shape[0]
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and weight is not None:
            module.normalized_shape = tuple(weight.shape)
        elif isinstance(module, nn.GroupNorm) and weight is not None:
            per_group = module.num_channels // module.num_groups
            module.num_groups = 1 if module.num_groups == 1 else weight.shape[0] // per_group
            module.num_channels = weight.shape[0]
        elif isinstance(module, nn.PReLU):
            module.num_parameters = weight.shape[0]
        elif isinstance(module, nn.Embedding):
            module.num_embeddings, module.embedding_dim = weight.shape


def _repair_convolution(module: nn.modules.conv._ConvNd, weight: Tensor, groups_stay: bool) -> None:
    """Channels from the weight; with whole groups going, what a group holds stays and their number follows."""
    first, second = (1, 0) if module.transposed else (0, 1)
    of_weight = module.in_channels if module.transposed else module.out_channels  # of its first dimension, dense
    if module.groups > 1 and not groups_stay:
        module.groups = weight.shape[0] // (of_weight // module.groups)
    module.out_channels = weight.shape[first] * (module.groups if module.transposed else 1)
    module.in_channels = weight.shape[second] * (1 if module.transposed else module.groups)


def _repair_containers(model: nn.Module, small: nn.Module) -> None:
    """A backbone or block that says its ``out_channels``, for others to read: those of its last convolution."""
    for dense, module in zip(model.modules(), small.modules(), strict=True):
        if isinstance(dense, _CONVS) or not isinstance(vars(dense).get("out_channels"), int):
            continue
        pairs = zip(dense.modules(), module.modules(), strict=True)
        last = [(before.out_channels, after) for before, after in pairs if isinstance(before, _CONVS)][-1:]
        for width, convolution in last:
            if width == dense.out_channels:
                module.out_channels = convolution.out_channels


def _repair_attributes(small: nn.Module, attributes: Iterable[Attribute], stays: Kept) -> None:
    """The attributes that the probe found, by what they count."""
    modules = dict(small.named_modules())
    for attribute in attributes:
        module, value = modules[attribute.module], attribute.at(stays)
        if attribute.item is None:
            setattr(module, attribute.name, value)
        else:
            items = list(getattr(module, attribute.name))
            items[attribute.item] = value
            setattr(module, attribute.name, type(getattr(module, attribute.name))(items))
