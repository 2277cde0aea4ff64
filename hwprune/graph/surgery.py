"""Cutting channels for real: a smaller copy of a network, checked against the analysis, then against the numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from hwprune.errors import HardCodedSizeError, ModelError, PlanError
from hwprune.graph.call import Rule
from hwprune.graph.coupling import analyze, propagate
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.network import Network
from hwprune.graph.rules import RULES
from hwprune.graph.trace import Trace, trace
from hwprune.modes import evaluating
from hwprune.plan import Plan

_NORMS = nn.modules.batchnorm._NormBase
_CONVS = nn.modules.conv._ConvNd
_PADS = nn.modules.padding._ConstantPadNd


def kept_channels(network: Network, plan: Plan) -> NDArray[np.bool_]:
    """Per coupled channel of the network: does it stay? (coupled channels,)"""
    stays = np.ones(sum(group.width for group in network.groups), dtype=bool)
    for group in network.free:
        if group.name in plan.kept:
            stays[group.numbers] = False
            stays[group.numbers[list(plan.kept[group.name])]] = True
    return stays


def cut(
    model: nn.Module, plan: Plan, network: Network | None = None, *, rules: Mapping[str, Rule] = RULES
) -> nn.Module:
    """A smaller copy of ``model`` with only the planned channels; ``model`` is left as it was.

    Args:
        model: the dense network.
        plan: which channels stay.
        network: its analysis; None analyses it now, with nothing excluded.
        rules: channel rules by operator, as given to `analyze`.

    Raises:
        PlanError: the plan belongs to another network.
        HardCodedSizeError: the copy's own code insists on an old width; names the module.
    """
    if network is None:
        network = analyze(model, tuple(torch.zeros(shape) for shape in plan.input_shapes), rules=rules)
    plan.check_fits(network)
    stays = kept_channels(network, plan)
    small = copy.deepcopy(model)
    _narrow_tensors(small, network, stays)
    _repair(small, network, stays)
    _check(small, network, stays, rules)
    return small


def _rows(dims: tuple[NDArray[np.int64] | None, ...], stays: NDArray[np.bool_]) -> list[NDArray[np.int64] | None]:
    """Per dimension the indices that stay, None where all do."""
    rows: list[NDArray[np.int64] | None] = []
    for numbers in dims:
        here = None if numbers is None else (numbers < 0) | stays[numbers]
        rows.append(None if here is None or bool(here.all()) else np.flatnonzero(here))
    return rows


def _narrow_tensors(small: nn.Module, network: Network, stays: NDArray[np.bool_]) -> None:
    done: dict[int, Tensor] = {}  # tied tensors stay tied
    for module_name, module in small.named_modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                path = f"{module_name}.{name}" if module_name else name
                if tensor is None or path not in network.channel_of:
                    continue
                if id(tensor) not in done:
                    done[id(tensor)] = _narrowed(tensor, _rows(network.channel_of[path], stays))
                store[name] = done[id(tensor)]


def _narrowed(tensor: Tensor, rows: list[NDArray[np.int64] | None]) -> Tensor:
    result = tensor.detach()
    for dim, index in enumerate(rows):
        if index is not None:
            result = result.index_select(dim, torch.from_numpy(index).to(tensor.device))
    if result.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        result = result.contiguous(memory_format=torch.channels_last)
    if result is tensor or result.data_ptr() == tensor.data_ptr():
        return tensor
    return nn.Parameter(result, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else result


def _repair(small: nn.Module, network: Network, stays: NDArray[np.bool_]) -> None:
    """Integer attributes of modules, from the shapes that their tensors now have."""
    for module in small.modules():
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, _CONVS):
            module.groups = _conv_groups(module)
            first, second = (1, 0) if module.transposed else (0, 1)
            module.out_channels = weight.shape[first] * (module.groups if module.transposed else 1)
            module.in_channels = weight.shape[second] * (1 if module.transposed else module.groups)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, _NORMS):
            known = weight if weight is not None else module.running_mean
            module.num_features = module.num_features if known is None else known.shape[0]
        elif isinstance(module, nn.PReLU):
            module.num_parameters = weight.shape[0]
    modules = dict(small.named_modules())
    for padding in network.paddings:
        module = modules[padding.module]
        if isinstance(module, _PADS):
            amounts = [int(((side < 0) | stays[side]).sum()) for side in (padding.before, padding.after)]
            module.padding = (*module.padding[:-2], *amounts)


def _conv_groups(module: _CONVS) -> int:
    """Whole conv groups go, so the channels per group stay and their number follows from the weight."""
    if module.groups == 1:
        return 1
    assert module.weight is not None
    per_group = (module.in_channels if module.transposed else module.out_channels) // module.groups
    return module.weight.shape[0] // per_group


def _check(small: nn.Module, network: Network, stays: NDArray[np.bool_], rules: Mapping[str, Rule]) -> None:
    """Trace the copy and see that every operator ties the same channels as it did in the dense network."""
    device = next(iter(small.parameters())).device
    inputs = tuple(
        torch.zeros(shape, device=device, dtype=next(iter(small.parameters())).dtype) for shape in network.input_shapes
    )
    try:
        record = trace(small, inputs)
    except ModelError as error:
        raise HardCodedSizeError(
            "the pruned network does not run: its code has a width written into it",
            where=error.what,
            fix="exclude the modules in question (--exclude 'NAME.*'), or take the width from the tensor's shape",
        ) from error
    before = [value.shape for value in network.trace.outputs]
    after = [value.shape for value in record.outputs]
    if before != after:
        raise HardCodedSizeError(
            f"the pruned network's outputs have shapes {after}, not {before}",
            fix="exclude the modules that make the outputs (--exclude 'NAME.*')",
        )
    _check_coupling(record, network, stays, rules)


def _check_coupling(record: Trace, network: Network, stays: NDArray[np.bool_], rules: Mapping[str, Rule]) -> None:
    # A kept channel's label is its number in the dense network, so that whatever was tied there has one label here.
    book = Book(size=len(stays))
    parameters: dict[int, Dims] = {}
    for name, value in record.parameters.items():
        dims: list[Labels | None] = []
        for size, numbers in zip(value.shape, network.channel_of[name], strict=True):
            left = np.full(size, -1) if numbers is None else numbers[(numbers < 0) | stays[numbers]]
            if len(left) != size:
                raise PlanError(f"{name} was cut to {size} channels, the plan says {len(left)}")
            dims.append(np.where(left < 0, book.fresh(size), left))
        parameters.setdefault(value.number, tuple(dims))
    flow = propagate(record, rules, "pin", book, parameters)
    known = len(stays)
    for a, b in zip(flow.book.left, flow.book.right, strict=True):
        wrong = (a != b) & (a < known) & (b < known)
        if wrong.any():
            names = [group.name for group in network.groups if a[wrong][0] in group.numbers]
            raise HardCodedSizeError(
                "the pruned network mixes channels that the dense one kept apart",
                where=f"channels of {names[0] if names else 'a pinned group'}",
                effect="its code takes channels by number",
                fix="exclude the modules in question (--exclude 'NAME.*')",
            )


@dataclass(frozen=True, slots=True)
class Verification:
    """How far the pruned network is from the dense one whose removed channels are zeroed at their consumers.

    Attributes:
        error: largest absolute difference of the outputs over their largest absolute value, in float64.
        tolerance: what rounding explains: float64 epsilon x 1024 x the square root of the number of operators.
    """

    error: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether rounding explains the difference."""
        return self.error <= self.tolerance


def verify(model: nn.Module, small: nn.Module, plan: Plan, network: Network, *, seed: int = 0) -> Verification:
    """Compare ``small`` with ``model`` whose removed channels no consumer listens to; float64, random inputs.

    Removing a channel is the same as zeroing it where it is summed over, so the two are equal to rounding.
    """
    stays = kept_channels(network, plan)
    dense, pruned = copy.deepcopy(model).double(), copy.deepcopy(small).double()
    state = dict(dense.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for group in network.free:
            removed = np.flatnonzero(~stays[group.numbers])
            for slot in group.slots:
                if slot.contracted and len(removed):
                    index = torch.from_numpy(slot.indices[removed].ravel())
                    state[slot.parameter].index_fill_(slot.dim, index.to(state[slot.parameter].device), 0.0)
        generator = torch.Generator().manual_seed(seed)
        device = next(iter(dense.parameters())).device
        inputs = [torch.randn(s, generator=generator, dtype=torch.float64).to(device) for s in network.input_shapes]
        with evaluating(dense), evaluating(pruned):
            left, right = tree_flatten(dense(*inputs))[0], tree_flatten(pruned(*inputs))[0]
    errors = [_relative(a, b) for a, b in zip(left, right, strict=True) if isinstance(a, Tensor)]
    return Verification(max(errors), float(np.finfo(np.float64).eps * 1024 * len(network.trace.ops) ** 0.5))


def _relative(a: Tensor, b: Tensor) -> float:
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-300)
    return float((a - b).abs().max()) / scale
