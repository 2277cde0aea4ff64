"""A network whose layers' latencies are known formulas, and samples of it as a profiler would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency import design
from hwprune.latency.sample import NetworkSample, structure_of
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from tests.latency.rows import FINGERPRINT

CHOICES = {name: tuple(range(8, 65, 8)) for name in "abc"}
OVERHEAD_MS, REFERENCE_MS = 0.02, 2.0


def conv(name: str, c_in: WidthOf, c_out: WidthOf, size: int, *, fused: bool = False) -> NetworkLayer:
    dense = Layer("conv", c_in(dict.fromkeys("abc", 64)), c_out(dict.fromkeys("abc", 64)), size=(size, size))
    return NetworkLayer(name, dense, c_in, c_out, fused)


A, B, C = (WidthOf(0, ((name, 1),)) for name in "abc")
LAYERS = (
    conv("stem", WidthOf(3), A, 32),
    conv("stem.bn", A, A, 32, fused=True),
    conv("one", A, B, 16),
    conv("two", B, C, 16),
    conv("head", C, WidthOf(10), 1),
)
STRUCTURE = structure_of(LAYERS, "hash")


def ratio(layer: NetworkLayer, widths: Mapping[str, int]) -> float:
    """What a layer takes, in units of the reference."""
    return (0.1 if layer.name == "head" else 0.4) + layer.c_in(widths) * layer.c_out(widths) / 2000


def latency(widths: Mapping[str, int]) -> float:
    return sum(ratio(layer, widths) for layer in LAYERS if not layer.fused)


def sample(
    widths: Mapping[str, int], *, number: int = 0, disturbed: float = 1.0, profile: bool = True
) -> NetworkSample:
    """A sample whose profiler adds 20 µs a layer; ``disturbed`` makes it so many times slower than it is."""
    parts = {layer.name: ratio(layer, widths) * REFERENCE_MS for layer in LAYERS if not layer.fused}
    total = disturbed * sum(parts.values())
    return NetworkSample(
        network="made",
        structure=STRUCTURE,
        widths=dict(widths),
        samples_ms=(total,) * 3,
        reference_ms=(REFERENCE_MS,) * 3,
        layer_ms={name: ms + OVERHEAD_MS for name, ms in parts.items()} if profile else {},
        engine_layers=dict.fromkeys(parts, 1) if profile else {},
        measured_at=f"2026-01-01T00:00:00.{number:03d}+00:00",
    )


def samples(count: int, *, seed: int = 0) -> list[NetworkSample]:
    return [sample(widths, number=n) for n, widths in enumerate(design.settings(CHOICES, count, seed=seed))]


def table(of: Sequence[NetworkSample]) -> LatencyTable:
    return LatencyTable(FINGERPRINT).with_samples(of, LAYERS, "hash")


def unseen(count: int) -> list[dict[str, int]]:
    rng = np.random.default_rng(9)
    return [{name: int(rng.choice(values)) for name, values in CHOICES.items()} for _ in range(count)]
