"""One whole network at one setting of its widths: how long it took, and what share each of its layers had."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.layer import Layer
from hwprune.timing import Paired

Structure = tuple[NetworkLayer, ...]


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """Raw truth about one engine of a network.

    Attributes:
        network: how to load the network again ("resnet50").
        structure: fingerprint of its layers and groups, by `structure_of`; samples of one structure go together.
        widths: what every channel group kept.
        samples_ms, reference_ms: the median run of each block of the engine, and the reference workload beside it.
        layer_ms: by layer of the network the time that the runtime's profiler gave it, its overhead included; a layer
            that is not there ran inside another. Empty where the runtime has no profiler.
        engine_layers: how many layers of the engine are in each of those times.
        measured_at: UTC, ISO 8601.
        activation_bytes: of the whole engine; None where the runtime does not tell.
        build_s, time_s, profile_s: what the sample cost: cut, export and build; timing; the profiler.
    """

    network: str
    structure: str
    widths: Mapping[str, int]
    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    layer_ms: Mapping[str, float]
    engine_layers: Mapping[str, int]
    measured_at: str
    activation_bytes: int | None = None
    build_s: float = 0.0
    time_s: float = 0.0
    profile_s: float = 0.0

    @property
    def paired(self) -> Paired:
        """The blocks beside their references."""
        return Paired(self.samples_ms, self.reference_ms)

    @property
    def ratio(self) -> float:
        """Latency of the network over that of the reference."""
        return self.paired.ratio

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal samples only; sorts by network, then age."""
        maps = tuple(tuple(sorted(found.items())) for found in (self.widths, self.layer_ms, self.engine_layers))
        told = -1 if self.activation_bytes is None else self.activation_bytes
        cost = (self.build_s, self.time_s, self.profile_s)
        return self.network, self.structure, self.measured_at, *maps, self.samples_ms, self.reference_ms, told, *cost


def structure_of(layers: Sequence[NetworkLayer], groups_hash: str) -> str:
    """Fingerprint of a network as the device sees it: its groups, its layers, their geometry and input size."""
    text = "\n".join([groups_hash, *(f"{layer.name} {layer!r}" for layer in layers)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def layer_as_json(layer: NetworkLayer) -> list[Any]:
    """Plain values for a file."""
    dims = [[dim.fixed, [list(term) for term in dim.terms]] for dim in (layer.c_in, layer.c_out)]
    return [layer.name, list(layer.dense.key), *dims, layer.fused, layer.fixed_groups]


def layer_from_json(values: Sequence[Any]) -> NetworkLayer:
    """The inverse of `layer_as_json`. Raises TypeError or ValueError for anything else."""
    name, dense, c_in, c_out, fused, fixed_groups = values
    fields: list[Any] = [tuple(value) if isinstance(value, list) else value for value in dense]
    return NetworkLayer(str(name), Layer(*fields), _dim(c_in), _dim(c_out), bool(fused), int(fixed_groups))


def _dim(values: Sequence[Any]) -> WidthOf:
    fixed, terms = values
    return WidthOf(int(fixed), tuple((str(group), int(count)) for group, count in terms))
