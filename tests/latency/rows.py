"""Rows made by hand; imports little, as child processes of the tests start with it."""

from __future__ import annotations

from hwprune.latency.entry import Entry
from hwprune.layer import Layer

FINGERPRINT = {"cpu": "Some CPU", "runtime": "onnxruntime", "version": "1.0", "precision": "fp32", "threads": "1"}
CONV = Layer("conv", 64, 64, size=(8, 8), kernel=(3, 3), out_size=(8, 8))


def entry(layer: Layer, ratio: float, *, reference_ms: float = 1.0, **fields: object) -> Entry:
    """An entry of exactly this ratio."""
    measured = (ratio * reference_ms,) * 3
    return Entry(layer, measured, (reference_ms,) * 3, "2026-01-01T00:00:00+00:00", **fields)  # type: ignore[arg-type]
