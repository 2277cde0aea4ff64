"""A latency table as one flat frame for other tools: one row a measurement, units in the names of the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from hwprune.latency.entry import Entry
from hwprune.latency.held_out import HeldOut
from hwprune.latency.sample import NetworkSample, Structure
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer

_FACTS: Final = ("device", "cpu", "gpu", "runtime", "version", "precision", "threads")
COLUMNS: Final = (
    "measurement",  # "layer", "layer in a network", "network" or "held-out network"
    *_FACTS,
    "network",
    "layer",
    "widths",  # of the channel groups, as JSON
    "kind",
    "variant",
    "context",
    "batch",
    "in_channels",
    "out_channels",
    "group_channels",
    "input_size_px",
    "kernel_px",
    "stride_px",
    "padding_px",
    "dilation_px",
    "output_size_px",
    "block",
    "latency_ms",
    "reference_ms",
    "frame_of_reference",
    "predicted_ms",
    "activation_bytes",
    "workspace_bytes",
    "measured_at_utc",
)
_WHOLE: Final = (
    *("batch", "in_channels", "out_channels", "group_channels", "block"),
    *("activation_bytes", "workspace_bytes"),
)


def long_form(table: LatencyTable) -> pd.DataFrame:
    """Every raw measurement of a table, with `COLUMNS`; what a row does not have is missing.

    A *layer* row is one block of a layer timed by itself, beside its reference workload; where ``frame_of_reference``
    is not 0, that share of ``reference_ms`` is the frame's and not the layer's. A *network* row is one block of a whole
    network, a *layer in a network* row what the runtime's profiler gave one of its layers, and a *held-out network*
    row one measured setting beside what had been predicted for it.
    """
    facts = {key: table.fingerprint.get(key) for key in _FACTS}
    rows = [
        *(row for key in sorted(table.rows) for row in _of_entry(table.rows[key])),
        *(row for sample in table.samples for row in _of_sample(sample, table.structures.get(sample.structure, ()))),
        *(row for held in table.held_out for row in _of_held_out(held)),
    ]
    frame = pd.DataFrame([facts | row for row in rows], columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(_WHOLE, "Int64"))  # integers that may be missing


def _of_entry(entry: Entry) -> Iterator[dict[str, Any]]:
    shared = {
        **_of_layer(entry.layer),
        "measurement": "layer",
        "context": entry.context,
        "frame_of_reference": entry.frame_ratio,
        "activation_bytes": entry.activation_bytes,
        "workspace_bytes": entry.workspace_bytes,
        "measured_at_utc": entry.measured_at,
    }
    yield from _blocks(shared, entry.samples_ms, entry.reference_ms)


def _of_sample(sample: NetworkSample, structure: Structure) -> Iterator[dict[str, Any]]:
    shared = {"network": sample.network, "widths": _json(sample.widths), "measured_at_utc": sample.measured_at}
    whole = {**shared, "measurement": "network", "activation_bytes": sample.activation_bytes}
    yield from _blocks(whole, sample.samples_ms, sample.reference_ms)
    layers = {layer.name: layer.at(sample.widths) for layer in structure if layer.name in sample.layer_ms}
    for name, ms in sample.layer_ms.items():
        geometry = _of_layer(layers[name]) if name in layers else {}
        yield {**shared, **geometry, "measurement": "layer in a network", "layer": name, "latency_ms": ms}


def _of_held_out(held: HeldOut) -> Iterator[dict[str, Any]]:
    """A second measurement of a setting is a second row, block 1."""
    shared = {"measurement": "held-out network", "network": held.network, "measured_at_utc": held.measured_at}
    for block, measured in enumerate((held.measured_ms, held.again_ms)):
        for widths, predicted, ms in zip(held.widths, held.predicted_ms, measured, strict=False):
            told = {"widths": _json(widths), "predicted_ms": predicted, "latency_ms": ms, "block": block}
            yield {**shared, **told}


def _blocks(
    shared: Mapping[str, Any], samples_ms: Sequence[float], reference_ms: Sequence[float]
) -> Iterator[dict[str, Any]]:
    for block, (ms, reference) in enumerate(zip(samples_ms, reference_ms, strict=True)):
        yield {**shared, "block": block, "latency_ms": ms, "reference_ms": reference}


def _of_layer(layer: Layer) -> dict[str, Any]:
    return {
        "kind": layer.kind,
        "variant": layer.variant,
        "batch": layer.batch,
        "in_channels": layer.c_in,
        "out_channels": layer.c_out,
        "group_channels": layer.group_width,
        "input_size_px": _sizes(layer.size),
        "kernel_px": _sizes(layer.kernel),
        "stride_px": _sizes(layer.stride),
        "padding_px": _sizes(layer.padding),
        "dilation_px": _sizes(layer.dilation),
        "output_size_px": _sizes(layer.out_size),
    }


def _sizes(sizes: Sequence[int]) -> str:
    """
    >>> _sizes((56, 28)), _sizes(())
    ('56x28', '')
    """
    return "x".join(map(str, sizes))


def _json(widths: Mapping[str, int]) -> str:
    return json.dumps(dict(widths))
