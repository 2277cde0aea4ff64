"""What a runtime's profiler says of an engine's layers, told of the network's layers.

An engine has layers of its own: fused ones that stand for several of the network's, and ones that only bring a tensor
into another layout. Both sides know the exported graph's nodes, which are named after modules ("layer1.0.conv1/Conv").

    a fused layer                 -> its convolution or product; without one, the first layer of the network in it
    a norm, activation, addition  -> itself where it runs by itself, else its convolution
    a change of layout, a copy    -> the layer that needs it: the next one that runs
    what belongs to none          -> `REST`, never dropped
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hwprune.graph.layers import NetworkLayer
from hwprune.layer import Kind
from hwprune.runtimes.base import LayerTime

REST: Final = "(rest)"  # no module has such a name
MAIN: Final[tuple[Kind, ...]] = ("conv", "linear")
KIND_OF: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "Add": "add",
        "AveragePool": "pool",
        "BatchNormalization": "norm",
        "Concat": "cat",
        "Conv": "conv",
        "ConvTranspose": "conv",
        "Gemm": "linear",
        "GlobalAveragePool": "pool",
        "GlobalMaxPool": "pool",
        "GroupNormalization": "norm",
        "InstanceNormalization": "norm",
        "MatMul": "linear",
        "MaxPool": "pool",
        "Mul": "mul",
        "ReduceMax": "pool",
        "ReduceMean": "pool",
        "Sub": "add",
    }
)
_COUNTED: Final = re.compile(r"@(\d+)$")  # of the second node or call of one name


@dataclass(frozen=True, slots=True)
class Attribution:
    """An engine's profile by layers of the network.

    Attributes:
        ms: profiled time by layer name; what is not in it ran in no time of its own.
        engine_layers: how many layers of the engine are in each of these times; so often the profiler adds its own.
    """

    ms: Mapping[str, float]
    engine_layers: Mapping[str, int]


class Attributor:
    """Knows a network's layers by the nodes they are exported as."""

    def __init__(self, layers: Sequence[NetworkLayer]) -> None:
        self._named: dict[str, list[NetworkLayer]] = {}
        self._owner: dict[str, str] = {}  # a fused layer's is the one before it that is not fused
        last = REST
        for layer in layers:
            self._named.setdefault(_COUNTED.sub("", layer.name), []).append(layer)
            last = last if layer.fused else layer.name
            self._owner[layer.name] = last

    def __call__(self, times: Sequence[LayerTime]) -> Attribution:
        """The profile of one engine, whose layers come in the order of execution."""
        owners = [None if time.kind != "layer" else self.owner(time) for time in times]
        ms: dict[str, float] = {}
        counts: dict[str, int] = {}
        for place, time in enumerate(times):
            name = next((o for o in owners[place:] if o), None) or next((o for o in owners[place::-1] if o), REST)
            ms[name] = ms.get(name, 0.0) + time.median_ms
            counts[name] = counts.get(name, 0) + 1
        return Attribution(ms, counts)

    def owner(self, time: LayerTime) -> str | None:
        """The layer of the network that a layer of the engine stands for; None where it is none of them."""
        found = [layer for node in time.nodes or (time.name,) if (layer := self._layer(node)) is not None]
        main = [layer for layer in found if layer.dense.kind in MAIN]
        first = next(iter(main or found), None)
        return None if first is None else self._owner[first.name]

    def _layer(self, node: str) -> NetworkLayer | None:
        """The layer exported as the node "layer1.0.conv1/Conv@2", or called "layer1.0.conv1"."""
        module, _, op = node.rpartition("/") if "/" in node else (node, "", "")
        counted = _COUNTED.search(node)
        place = int(counted.group(1)) - 1 if counted else 0
        of_module = self._named.get(_COUNTED.sub("", module), [])
        kind = KIND_OF.get(_COUNTED.sub("", op), "activation")
        same = [layer for layer in of_module if layer.dense.kind == kind] if op else of_module
        if same:
            return same[min(place, len(same) - 1)]
        return next(iter(of_module), None)
