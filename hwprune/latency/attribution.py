"""What a runtime's profiler says of an engine's layers, told of the network's layers.

An engine has layers of its own: fused ones that stand for several of the network's, and ones that only bring a tensor
into another layout. Both sides know the exported graph's nodes, which are named after modules ("layer1.0.conv1/Conv").

    a fused layer                 -> its convolution or product; without one, the first layer of the network in it;
                                     of several (a compiler that fuses whole blocks) each its share of their work
    a norm, activation, addition  -> itself where it runs by itself, else its convolution
    a change of layout, a copy    -> the layer that needs it: as the runtime says, else the next one that runs
    what belongs to none          -> `REST`, never dropped
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Final

from hwprune.graph.layers import NetworkLayer
from hwprune.layer import Kind, Layer
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
        self._all = {layer.name: layer for layer in layers}
        last = REST
        for layer in layers:
            self._named.setdefault(_COUNTED.sub("", layer.name), []).append(layer)
            last = last if layer.fused else layer.name
            self._owner[layer.name] = last

    def __call__(self, times: Sequence[LayerTime], widths: Mapping[str, int] | None = None) -> Attribution:
        """The profile of one engine, whose layers come in the order of execution; ``widths`` are the network's."""
        owners = [self.owners(time) for time in times]
        ms: dict[str, float] = {}
        counts: dict[str, int] = {}
        for place, time in enumerate(times):
            after, before = (next((o for o in part if o), None) for part in (owners[place:], owners[place::-1]))
            found = after or before or (REST,)
            for name, share in zip(found, self._shares(found, widths), strict=True):
                ms[name] = ms.get(name, 0.0) + share * time.median_ms
            counts[found[0]] = counts.get(found[0], 0) + 1
        return Attribution(ms, counts)

    def owners(self, time: LayerTime) -> tuple[str, ...]:
        """The layers of the network that a layer of the engine stands for; empty where it is none of them."""
        nodes = time.nodes or ((time.name,) if time.kind == "layer" else ())
        found = [layer for node in nodes if (layer := self._layer(node)) is not None]
        main = [layer for layer in found if layer.dense.kind in MAIN]
        names = dict.fromkeys(self._owner[layer.name] for layer in main or found[:1])
        return tuple(name for name in names if name != REST)

    def _shares(self, names: Sequence[str], widths: Mapping[str, int] | None) -> list[float]:
        """Each layer's share of the work of all."""
        if len(names) == 1:
            return [1.0]
        layers = [self._all[name] for name in names]
        works = [_work(layer.dense if widths is None else layer.at(widths)) for layer in layers]
        return [work / sum(works) for work in works]

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


def _work(layer: Layer) -> float:
    """Multiply-accumulates of a convolution or product, as good as any measure to share one time out by."""
    return layer.c_in * layer.c_out / layer.groups * prod(layer.kernel) * prod(layer.out_size or layer.size)
