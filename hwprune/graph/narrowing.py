"""Smaller copies of modules: narrowed tensors, and integer attributes that follow them."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.labels import Dims
from hwprune.modes import modules_of, tensors_of

_NORMS = nn.modules.batchnorm._NormBase
_CONVS = nn.modules.conv._ConvNd
Kept = NDArray[np.bool_]


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
    offsets: Container[str] = frozenset(),
) -> nn.Module:
    """A smaller copy of ``model``, with integer attributes in step with its tensors.

    Tensors are not copied before they are narrowed, so the copy costs the memory of the smaller network. Tied tensors
    stay tied. Grouped convolutions among ``offsets`` keep their number of groups, others keep what a group holds.
    """
    memo: dict[int, Any] = {}
    tensors = tensors_of(model)
    for name, tensor in tensors.items():
        if id(tensor) not in memo:  # an id is only unique while its tensor lives, which the dictionary sees to
            made = smaller(tensor.detach(), rows(channel_of.get(name, ()), stays))
            parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(made, requires_grad=tensor.requires_grad) if parameter else made
    small: nn.Module = _copied(model, memo)
    repair(small, _shapes(small), attributes, stays, offsets)
    _repair_containers(model, small)
    return small


# What can be shared with a copy.
_PLAIN: Final = (int, float, str, bool, type(None), torch.dtype, torch.device, type)
_COPYING: Final = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _copied(module: nn.Module, memo: dict[int, Any]) -> Any:
    """copy.deepcopy, without the dozen empty dictionaries that it would look through in every module."""
    if id(module) in memo:
        return memo[id(module)]
    if any(getattr(type(module), name, None) is not getattr(nn.Module, name, None) for name in _COPYING):
        return copy.deepcopy(module, memo)
    made = memo[id(module)] = type(module).__new__(type(module))
    for name, value in vars(module).items():
        if name == "_compiled_call_impl":  # of the dense module
            continue
        if isinstance(value, _PLAIN):
            vars(made)[name] = value
        elif name == "_modules":
            vars(made)[name] = {child: None if x is None else _copied(x, memo) for child, x in value.items()}
        elif isinstance(value, dict | set) and not value:
            vars(made)[name] = type(value)()
        elif name in ("_parameters", "_buffers"):
            vars(made)[name] = {own: x if x is None else memo[id(x)] for own, x in value.items()}
        else:
            vars(made)[name] = copy.deepcopy(value, memo)
    return made


def hollow_state(model: nn.Module, channel_of: Mapping[str, Dims], stays: Kept) -> dict[str, Tensor]:
    """Meta tensors of the narrowed shapes of every parameter and buffer, by name."""
    return {name: _hollow(tensor, rows(channel_of.get(name, ()), stays)) for name, tensor in tensors_of(model).items()}


def narrow_state(model: nn.Module, channel_of: Mapping[str, Dims], stays: Kept) -> dict[str, Tensor]:
    """The narrowed parameters and buffers, by name."""
    return {
        name: smaller(tensor.detach(), rows(channel_of.get(name, ()), stays))
        for name, tensor in tensors_of(model).items()
    }


def smaller(tensor: Tensor, index: list[NDArray[np.int64] | None]) -> Tensor:
    """The kept rows of every dimension, as a tensor of its own in the same memory format."""
    result = tensor
    for dim, kept in enumerate(index):
        if kept is not None:
            result = result.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    if result.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return result.clone(memory_format=torch.channels_last)
    return result.clone() if result is tensor else result


def _hollow(tensor: Tensor, index: list[NDArray[np.int64] | None]) -> Tensor:
    if all(kept is None for kept in index):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    sizes = [size if kept is None else len(kept) for size, kept in zip(tensor.shape, index, strict=True)]
    return torch.empty(sizes, dtype=tensor.dtype, device="meta")


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors_of(model).items()}


# Whose shape says a module's widths; a weight that is computed has the shape of what it is computed from.
_SHAPES: Final = (
    *("in_proj_weight", "weight", "parametrizations.weight.original", "parametrizations.weight.original1"),
    "running_mean",
)


def repair(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    attributes: Iterable[Attribute],
    stays: Kept,
    offsets: Container[str],
) -> None:
    """Set the integer attributes of all modules: the usual ones by the shapes of their tensors, the found by widths."""
    for name, module in modules_of(model).items():
        before = f"{name}." if name else ""
        known = (
            "in_proj_weight",
            "weight",
            "parametrizations.weight.original",
            "parametrizations.weight.original1",
            "running_mean",
        )
        weight = next((shapes[before + part] for part in known if before + part in shapes), None)
        if weight is not None:
            _repair_by_weight(module, weight, groups_stay=name in offsets)
    _repair_attributes(model, attributes, stays)
    for module in modules_of(model).values():
        if isinstance(module, nn.MultiheadAttention):
            module.head_dim = module.embed_dim // module.num_heads


def _repair_by_weight(module: Any, weight: tuple[int, ...], *, groups_stay: bool) -> None:
    if isinstance(module, _CONVS):
        _repair_convolution(module, weight, groups_stay)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight
    elif isinstance(module, _NORMS):
        module.num_features = weight[0]
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = weight
    elif isinstance(module, nn.GroupNorm):
        per_group = module.num_channels // module.num_groups
        module.num_groups = 1 if module.num_groups == 1 else weight[0] // per_group
        module.num_channels = weight[0]
    elif isinstance(module, nn.MultiheadAttention):
        module.embed_dim = module.kdim = module.vdim = weight[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = weight[0]
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight


def _repair_convolution(module: nn.modules.conv._ConvNd, weight: tuple[int, ...], groups_stay: bool) -> None:
    """Channels from the weight; with whole groups going, what a group holds stays and their number follows."""
    first, second = (1, 0) if module.transposed else (0, 1)
    of_weight = module.in_channels if module.transposed else module.out_channels  # of its first dimension, dense
    if module.groups > 1 and not groups_stay:
        module.groups = weight[0] // (of_weight // module.groups)
    module.out_channels = weight[first] * (module.groups if module.transposed else 1)
    module.in_channels = weight[second] * (1 if module.transposed else module.groups)


def _repair_containers(model: nn.Module, small: nn.Module) -> None:
    """A backbone or block that says its ``out_channels``, for others to read: those of its last convolution."""
    for dense, module in zip(modules_of(model).values(), modules_of(small).values(), strict=True):
        if isinstance(dense, _CONVS) or not isinstance(vars(dense).get("out_channels"), int):
            continue
        pairs = zip(dense.modules(), module.modules(), strict=True)
        last = [(before.out_channels, after) for before, after in pairs if isinstance(before, _CONVS)][-1:]
        for width, convolution in last:
            if width == dense.out_channels:
                module.out_channels = convolution.out_channels


def _repair_attributes(small: nn.Module, attributes: Iterable[Attribute], stays: Kept) -> None:
    """The attributes that the probe found, by what they count."""
    modules = modules_of(small)
    for attribute in attributes:
        module, value = modules[attribute.module], attribute.at(stays)
        if attribute.item is None:
            setattr(module, attribute.name, value)
        else:
            items = list(getattr(module, attribute.name))
            items[attribute.item] = value
            setattr(module, attribute.name, type(getattr(module, attribute.name))(items))
