"""Smaller copies of modules: narrowed tensors, and integer attributes that follow them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

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


class Rows:
    """Which indices of a dimension stay; most dimensions share their channels with others, and are asked once."""

    def __init__(self, stays: Kept) -> None:
        self.kept = np.append(stays, True)  # -1, a channel that always stays, finds the last
        self.known: dict[int, tuple[NDArray[np.int64], NDArray[np.int64] | None]] = {}

    def of(self, dims: Dims) -> list[NDArray[np.int64] | None]:
        """Per dimension the indices that stay, None where all do. ``dims`` hold coupled channels' numbers, -1 stays."""
        return [None if numbers is None else self._of_one(numbers) for numbers in dims]

    def _of_one(self, numbers: NDArray[np.int64]) -> NDArray[np.int64] | None:
        known = self.known.get(id(numbers))  # an id needs its array alive
        if known is None:
            found = np.flatnonzero(self.kept[numbers])
            known = self.known[id(numbers)] = (numbers, None if len(found) == len(numbers) else found)
        return known[1]


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
    tensors, rows, scratch = tensors_of(model), Rows(stays), Scratch()
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].numel()):  # the largest scratch at once
        if id(tensor) not in memo:  # an id is only unique while its tensor lives, which the dictionary sees to
            made = smaller(tensor.detach(), rows.of(channel_of.get(name, ())), scratch)
            parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(made, requires_grad=tensor.requires_grad) if parameter else made
    small: nn.Module = _copied(model, memo)
    modules = repair(small, attributes, stays, offsets)
    _repair_containers(model, modules)
    return small


# What can be shared with a copy.
_PLAIN: Final = frozenset([int, float, str, bool, type(None), torch.dtype, torch.device, type])
_COPYING: Final = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


@lru_cache(maxsize=1024)
def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether copy.deepcopy would do nothing else for this class of modules than to copy every attribute."""
    ways = [(name, getattr(kind, name, None)) for name in _COPYING if hasattr(kind, name) or hasattr(nn.Module, name)]
    return all(
        way is getattr(nn.Module, name, None)
        or (name == "__setstate__" and way.__module__.startswith("torch.nn.modules."))  # for states of older versions
        for name, way in ways
    )


def _copied(module: nn.Module, memo: dict[int, Any]) -> Any:
    """copy.deepcopy, without the dozen empty dictionaries that it would look through in every module."""
    if id(module) in memo:
        return memo[id(module)]
    if not _is_copied_plainly(type(module)):  # type: ignore[arg-type]  # mypy finds no hash in torch's modules
        return copy.deepcopy(module, memo)
    made = memo[id(module)] = type(module).__new__(type(module))
    copied = vars(made)
    for name, value in vars(module).items():
        if name == "_compiled_call_impl":  # of the dense module
            continue
        kind = type(value)
        if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
            copied[name] = value
        elif kind in (dict, OrderedDict, set) and not value:
            copied[name] = kind()
        elif name == "_modules":
            copied[name] = {child: None if x is None else _copied(x, memo) for child, x in value.items()}
        elif name in ("_parameters", "_buffers"):
            copied[name] = {own: x if x is None else memo[id(x)] for own, x in value.items()}
        else:
            copied[name] = copy.deepcopy(value, memo)
    return made


def hollow_state(model: nn.Module, channel_of: Mapping[str, Dims], stays: Kept) -> dict[str, Tensor]:
    """Meta tensors of the narrowed shapes of every parameter and buffer, by name."""
    rows = Rows(stays)
    return {name: _hollow(tensor, rows.of(channel_of.get(name, ()))) for name, tensor in tensors_of(model).items()}


def narrow_state(model: nn.Module, channel_of: Mapping[str, Dims], stays: Kept) -> dict[str, Tensor]:
    """The narrowed parameters and buffers, by name."""
    rows = Rows(stays)
    return {
        name: smaller(tensor.detach(), rows.of(channel_of.get(name, ()))) for name, tensor in tensors_of(model).items()
    }


class Scratch:
    """Memory for what lies between two steps, used again: freed pieces of all sizes would leave holes in the heap."""

    def __init__(self) -> None:
        self.known: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, tensor: Tensor, sizes: list[int]) -> Tensor:
        """A tensor of these sizes that the next one writes over."""
        key, count = (tensor.dtype, tensor.device), prod(sizes)
        store = self.known.get(key)
        if store is None or store.numel() < count:
            store = self.known[key] = tensor.new_empty(count)
        return store[:count].view(sizes)


def smaller(tensor: Tensor, index: list[NDArray[np.int64] | None], scratch: Scratch | None = None) -> Tensor:
    """The kept rows of every dimension, as a tensor of its own in the same memory format."""
    steps = [(dim, torch.from_numpy(kept).to(tensor.device)) for dim, kept in enumerate(index) if kept is not None]
    result = tensor
    for position, (dim, kept) in enumerate(steps):
        if position == 0 and len(steps) == 2 and scratch is not None and tensor.is_contiguous():
            sizes = [len(kept) if axis == dim else size for axis, size in enumerate(tensor.shape)]
            result = torch.index_select(result, dim, kept, out=scratch.like(tensor, sizes))
        else:
            result = result.index_select(dim, kept)
    if result.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return result.clone(memory_format=torch.channels_last)
    return result.clone() if result is tensor else result


def _hollow(tensor: Tensor, index: list[NDArray[np.int64] | None]) -> Tensor:
    if all(kept is None for kept in index):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    sizes = [size if kept is None else len(kept) for size, kept in zip(tensor.shape, index, strict=True)]
    return torch.empty(sizes, dtype=tensor.dtype, device="meta")


def _widths(module: nn.Module) -> tuple[int, ...] | None:
    """The shape of the tensor that says a module's widths; a weight that is computed has that of what it is made of."""
    parameters = module._parameters
    if parametrize.is_parametrized(module, "weight"):
        parameters = module.parametrizations.weight._parameters  # type: ignore[union-attr]
    stores = ((parameters, ("in_proj_weight", "weight", "original", "original1")), (module._buffers, ("running_mean",)))
    found = (store.get(name) for store, names in stores for name in names)
    return next((tuple(tensor.shape) for tensor in found if tensor is not None), None)


def repair(
    model: nn.Module,
    attributes: Iterable[Attribute],
    stays: Kept,
    offsets: Container[str],
) -> dict[str, nn.Module]:
    """Set the integer attributes of all modules: the usual ones by the shapes of their tensors, the found by widths.

    They hold their narrowed tensors already, and are returned by name.
    """
    modules = modules_of(model)
    for name, module in modules.items():
        if isinstance(module, _REPAIRED) and (weight := _widths(module)) is not None:
            _repair_by_weight(module, weight, groups_stay=name in offsets)
    _repair_attributes(modules, attributes, stays)
    for module in modules.values():
        if isinstance(module, nn.MultiheadAttention):
            module.head_dim = module.embed_dim // module.num_heads
    return modules


_REPAIRED: Final = (
    *(_CONVS, nn.Linear, _NORMS, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.MultiheadAttention, nn.PReLU),
    nn.Embedding,
)


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


def _repair_containers(model: nn.Module, small: Mapping[str, nn.Module]) -> None:
    """A backbone or block that says its ``out_channels``, for others to read: those of its last convolution."""
    for dense, module in zip(modules_of(model).values(), small.values(), strict=True):
        if isinstance(dense, _CONVS) or not isinstance(vars(dense).get("out_channels"), int):
            continue
        pairs = zip(dense.modules(), module.modules(), strict=True)
        last = [(before.out_channels, after) for before, after in pairs if isinstance(before, _CONVS)][-1:]
        for width, convolution in last:
            if width == dense.out_channels:
                module.out_channels = convolution.out_channels


def _repair_attributes(modules: Mapping[str, nn.Module], attributes: Iterable[Attribute], stays: Kept) -> None:
    """The attributes that the probe found, by what they count."""
    for attribute in attributes:
        module, value = modules[attribute.module], attribute.at(stays)
        if attribute.item is None:
            setattr(module, attribute.name, value)
        else:
            items = list(getattr(module, attribute.name))
            items[attribute.item] = value
            setattr(module, attribute.name, type(getattr(module, attribute.name))(items))
