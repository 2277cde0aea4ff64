"""Is the pruned network what it should be? Compared with the dense one whose removed channels nobody listens to."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from hwprune.graph.inputs import Inputs, tensors_in
from hwprune.graph.labels import Dims
from hwprune.graph.narrowing import Rows, smaller
from hwprune.graph.network import Network
from hwprune.graph.rules import RULES
from hwprune.graph.surgery import cut_inputs, kept_channels
from hwprune.graph.trace import plain_name, running
from hwprune.graph.watching import Watching
from hwprune.modes import evaluating
from hwprune.plan import Plan

_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Verification:
    """How far the pruned network is from the dense one whose removed channels are zeroed at their consumers.

    Attributes:
        error: largest absolute difference of the outputs over their largest absolute value, in float64.
        tolerance: what rounding explains: float64 epsilon x 1024 x the square root of the number of operators.
        spanning: the normalisations and reductions over removed channels, in words. There removing is not zeroing, so
            the dense network computes them over the channels that stay.
        rescaled: how many constants of the code (1 / sqrt(head size)) the dense network took from the pruned one.
    """

    error: float
    tolerance: float
    spanning: tuple[str, ...] = ()
    rescaled: int = 0

    @property
    def equal(self) -> bool:
        """Whether rounding explains the difference."""
        return self.error <= self.tolerance


def verify(model: nn.Module, small: nn.Module, plan: Plan, network: Network, *, seed: int = 0) -> Verification:
    """Compare ``small`` with ``model`` whose removed channels no consumer listens to; float64, random inputs.

    Removing a channel is the same as zeroing it where it is summed over, so the two are equal to rounding. A layer norm
    or a mean over channels takes removed channels into account until they are gone: those calls are narrowed in the
    dense network too, and named in the result.
    """
    stays = kept_channels(network, plan)
    dense, pruned = copy.deepcopy(model).double(), copy.deepcopy(small).double()
    _silence(dense, network, stays)
    suspects = [*(span.position for span in network.spanning), *network.computed]
    narrow = [position for position in suspects if _loses(network, position, stays)]
    keys = _keys(network)
    like = next((x for x in dense.state_dict().values() if x.is_floating_point()), None)
    args, kwargs = network.inputs.random(seed, like)
    few_args, few_kwargs = cut_inputs(network, stays, Inputs(args, kwargs)).mapped(lambda x: x)
    with torch.no_grad(), evaluating(dense), evaluating(pruned), sdpa_kernel(SDPBackend.MATH), _plainly():
        watching = Watching(pruned)
        scalars = _Scalars(watching, {keys[at] for at in network.rescaled})
        with running(pruned, network.forward), watching, scalars:
            right = tensors_in(pruned(*few_args, **few_kwargs))
        watching = Watching(dense)
        narrowing = _Narrowing(watching, network, {keys[at]: at for at in narrow}, scalars.found, stays)
        with running(dense, network.forward), watching, narrowing:
            left = tensors_in(dense(*args, **kwargs))
    errors = [_relative(a, b) for a, b in zip(left, right, strict=True)]
    tolerance = float(np.finfo(np.float64).eps * 1024 * len(network.trace.ops) ** 0.5)
    named = tuple(dict.fromkeys(str(span) for span in network.spanning if span.position in narrow))
    worst = max((float("inf") if isnan(error) else error for error in errors), default=0.0)
    return Verification(worst, tolerance, named, len(network.rescaled))


@contextmanager
def _plainly() -> Iterator[None]:
    """Tensors that a forward makes itself are float64 too, and attention runs operator by operator, not fused."""
    before, fused = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    torch.set_default_dtype(torch.float64)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.backends.mha.set_fastpath_enabled(fused)


def _silence(dense: nn.Module, network: Network, stays: NDArray[np.bool_]) -> None:
    """Zero the weights by which consumers listen to removed channels."""
    state = {**dict(dense.named_parameters(remove_duplicate=False)), **dict(dense.named_buffers())}
    with torch.no_grad():
        for group in network.free:
            removed = np.flatnonzero(~stays[group.numbers])
            for slot in group.slots:
                if slot.contracted and len(removed):
                    index = torch.from_numpy(slot.indices[removed].ravel())
                    state[slot.parameter].index_fill_(slot.dim, index.to(state[slot.parameter].device), 0.0)


def _loses(network: Network, position: int, stays: NDArray[np.bool_]) -> bool:
    dims = [x for value in network.trace.ops[position].inputs for x in network.dims(value)]
    return any(x is not None and not stays[x[x >= 0]].all() for x in dims)


def _family(name: str) -> str:
    """Operators of one rule stand for each other: devices name their batch norms and attentions differently."""
    rule = RULES.get(name)
    return name if rule is None else rule.__name__


def _keys(network: Network) -> list[_Key]:
    """What every call of the trace is known by in another pass: module, family, how many came before."""
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for op in network.trace.ops:
        key = (op.module, _family(op.name))
        keys.append((*key, seen[key]))
        seen[key] += 1
    return keys


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Knows every call by its key."""

    def __init__(self, watching: Watching) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watching, self.seen = watching, Counter[tuple[str, str]]()

    def key(self, func: Any) -> _Key:
        key = (self.watching.innermost, _family(plain_name(func)))
        self.seen[key] += 1
        return (*key, self.seen[key] - 1)


class _Scalars(_Counting):  # type: ignore[no-untyped-call]
    """Notes the plain numbers of the wanted calls."""

    def __init__(self, watching: Watching, wanted: set[_Key]) -> None:
        super().__init__(watching)
        self.wanted, self.found = wanted, dict[_Key, tuple[Any, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (key := self.key(func)) in self.wanted:
            self.found[key] = args
        return func(*args, **(kwargs or {}))


class _Narrowing(_Counting):  # type: ignore[no-untyped-call]
    """Runs the spanning calls over the channels that stay, and wanted arithmetic with the pruned network's numbers."""

    def __init__(
        self,
        watching: Watching,
        network: Network,
        spans: Mapping[_Key, int],
        scalars: Mapping[_Key, tuple[Any, ...]],
        stays: NDArray[np.bool_],
    ) -> None:
        super().__init__(watching)
        self.network, self.spans, self.scalars, self.stays = network, spans, scalars, stays

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        key = self.key(func)
        if key in self.scalars:
            args = [
                mine if isinstance(mine, Tensor) else other for mine, other in zip(args, self.scalars[key], strict=True)
            ]
        position = self.spans.get(key)
        if position is None:
            return func(*args, **(kwargs or {}))
        op = self.network.trace.ops[position]
        left = iter([self.network.dims(value) for value in op.inputs])

        def narrow(x: Any) -> Any:
            return smaller(x, Rows(self.stays).of(next(left))) if isinstance(x, Tensor) else x

        few, few_kwargs = tree_map(narrow, (list(args), kwargs or {}))
        kept = np.append(self.stays, True)  # -1, a channel that always stays, finds the last
        for literal in self.network.literals.get(position, ()):
            if literal.item is None:
                few[literal.argument] = literal.at(kept)
            else:
                items = list(few[literal.argument])
                items[literal.item] = literal.at(kept)
                few[literal.argument] = items
        result = func(*few, **few_kwargs)
        out = iter([self.network.dims(value) for value in op.outputs])
        return tree_map(lambda x: _widened(x, next(out), self.stays) if isinstance(x, Tensor) else x, result)


def _widened(x: Tensor, dims: Dims, stays: NDArray[np.bool_]) -> Tensor:
    """Zeros where channels are missing."""
    for dim, (numbers, index) in enumerate(zip(dims, Rows(stays).of(dims), strict=True)):
        if numbers is not None and index is not None:
            wide = x.new_zeros([len(numbers) if i == dim else size for i, size in enumerate(x.shape)])
            x = wide.index_copy(dim, torch.from_numpy(index).to(x.device), x)
    return x


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    a, b = a.double(), b.double()
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-300)
    return float((a - b).abs().max()) / scale
