"""Latency tables on disk: Parquet, with schema number, fingerprint and held-out checks in the file's own metadata.

A row is a layer measured alone, or a whole network (context "network") with its widths and its layers' times as maps.

A file is replaced whole and atomically, under a lock that lies beside it; a writer that dies leaves the old one. Pages
carry checksums, so a damaged file is refused and never half read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from hwprune.errors import ProfileError, StorageError
from hwprune.latency.entry import CONTEXTS, Entry
from hwprune.latency.held_out import HeldOut
from hwprune.latency.sample import NetworkSample, Structure, layer_as_json, layer_from_json
from hwprune.layer import KINDS, Layer

SCHEMA: Final = 2
READ: Final = (1, 2)  # 1 had no whole networks
NETWORK: Final = "network"  # the context of a whole network's row
METADATA_KEY: Final = b"hwprune"
LOCK_TIMEOUT_S: Final = 120

_SIZES: Final = pa.list_(pa.int32())
_SAMPLES: Final = pa.list_(pa.float64())
_LAYER_COLUMNS: Final = {
    "kind": pa.string(),
    "c_in": pa.int32(),
    "c_out": pa.int32(),
    "batch": pa.int32(),
    "size": _SIZES,
    "kernel": _SIZES,
    "stride": _SIZES,
    "padding": _SIZES,
    "dilation": _SIZES,
    "group_width": pa.int32(),
    "variant": pa.string(),
    "out_size": _SIZES,
}
_ENTRY_COLUMNS: Final = {
    "context": pa.string(),
    "samples_ms": _SAMPLES,
    "reference_ms": _SAMPLES,
    "frame_ratio": pa.float64(),
    "activation_bytes": pa.int64(),
    "workspace_bytes": pa.int64(),
    "measured_at": pa.string(),
}
_COUNTS: Final = pa.map_(pa.string(), pa.int32())
_SAMPLE_COLUMNS: Final = {
    "network": pa.string(),
    "structure": pa.string(),
    "widths": _COUNTS,
    "layer_ms": pa.map_(pa.string(), pa.float64()),
    "engine_layers": _COUNTS,
    "build_s": pa.float64(),
    "time_s": pa.float64(),
    "profile_s": pa.float64(),
}
_SHARED_COLUMNS: Final = ("samples_ms", "reference_ms", "activation_bytes", "measured_at")  # of layers and networks
# Derived, for people who open the file with pandas; not read back.
_DERIVED_COLUMNS: Final = {"ratio": pa.float64(), "cv": pa.float64(), "ms": pa.float64()}


@dataclass(frozen=True)
class Stored:
    """What a table's file holds; ``structures`` are the layers of every network among the samples."""

    fingerprint: Mapping[str, str]
    entries: Sequence[Entry]
    held_out: tuple[HeldOut, ...]
    samples: tuple[NetworkSample, ...] = ()
    structures: Mapping[str, Structure] = field(default_factory=dict)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Holds the lock of the table at ``path``, and makes its folder.

    Raises:
        StorageError: the folder cannot be written, also when that shows within the block.
        ProfileError: another process has held the lock for `LOCK_TIMEOUT_S`.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            yield
    except TimeoutError as error:
        raise ProfileError(
            "another process is writing this latency table and does not finish",
            where=path,
            effect="nothing was written",
            fix=f"end that process, or delete {lock.lock_file}",
        ) from error
    except OSError as error:
        raise StorageError(path, error=error) from error


def write(path: Path, stored: Stored, reference_ms: float) -> None:
    """Replaces the file at ``path``; to be called within `writing`. Raises OSError."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a writer that died: we hold the lock
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            table = _as_arrow(stored, reference_ms)
            # Into the file's metadata, not the schema's, of which Arrow keeps a second copy: this is most of a table.
            with pq.ParquetWriter(
                file, table.schema, compression="zstd", write_page_checksum=True, store_schema=False
            ) as writer:
                writer.write_table(table)
                writer.add_key_value_metadata({METADATA_KEY: _about(stored, reference_ms)})
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def read(path: Path) -> Stored:
    """What the file at ``path`` holds.

    Raises:
        ProfileError: there is no such file, or it is damaged, or of another schema.
    """
    if not path.is_file():
        raise ProfileError(
            "there is no latency table here", where=path, fix="run `hwprune profile`, or name another file"
        )
    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        about = json.loads((arrow.schema.metadata or {})[METADATA_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"it is no table of hwprune's: {error}") from error
    if about.get("schema") not in READ:
        raise ProfileError(
            f"the latency table has schema {about.get('schema')}, this version reads {' and '.join(map(str, READ))}",
            where=path,
            effect="it was left as it is",
            fix="profile again into another file, or use the version of hwprune that wrote it",
        )
    try:
        rows = arrow.to_pylist(maps_as_pydicts="strict")
        return Stored(
            fingerprint={str(key): str(value) for key, value in about["fingerprint"].items()},
            entries=[_entry(row) for row in rows if row["context"] != NETWORK],
            held_out=tuple(HeldOut.from_json(values) for values in about["held_out"]),
            samples=tuple(_sample(row) for row in rows if row["context"] == NETWORK),
            structures={
                str(key): tuple(layer_from_json(values) for values in layers)
                for key, layers in about.get("structures", {}).items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _damaged(path: Path, why: str) -> ProfileError:
    return ProfileError(
        f"the latency table is damaged: {why}",
        where=path,
        effect="nothing was read from it, and it was left as it is",
        fix="restore it, or move it away and profile again",
    )


def _about(stored: Stored, reference_ms: float) -> str:
    about = {
        "schema": SCHEMA,
        "fingerprint": dict(stored.fingerprint),
        "reference_ms": reference_ms,
        "held_out": [held.as_json() for held in stored.held_out],
        "structures": {key: [layer_as_json(layer) for layer in layers] for key, layers in stored.structures.items()},
    }
    return json.dumps(about, separators=(",", ":"))


def _as_arrow(stored: Stored, reference_ms: float) -> pa.Table:
    columns = {**_LAYER_COLUMNS, **_ENTRY_COLUMNS, **_SAMPLE_COLUMNS, **_DERIVED_COLUMNS}
    schema = pa.schema(list(columns.items()))
    layers = [_row(entry, reference_ms) for entry in stored.entries]
    networks = [_sample_row(sample, reference_ms) for sample in stored.samples]
    return pa.Table.from_pylist([*layers, *networks], schema=schema)


def _row(entry: Entry, reference_ms: float) -> dict[str, Any]:
    layer = {field.name: getattr(entry.layer, field.name) for field in fields(Layer)}
    measured = {name: getattr(entry, name) for name in _ENTRY_COLUMNS}
    return {**layer, **measured, "ratio": entry.ratio, "cv": entry.cv, "ms": entry.ratio * reference_ms}


def _sample_row(sample: NetworkSample, reference_ms: float) -> dict[str, Any]:
    measured = {name: getattr(sample, name) for name in (*_SHARED_COLUMNS, *_SAMPLE_COLUMNS)}
    maps = {name: sorted(measured[name].items()) for name in ("widths", "layer_ms", "engine_layers")}
    derived = {"ratio": sample.ratio, "cv": sample.paired.cv, "ms": sample.ratio * reference_ms}
    return {**measured, **maps, **derived, "context": NETWORK}


def _sample(row: Mapping[str, Any]) -> NetworkSample:
    shared = {name: kind for name, kind in _ENTRY_COLUMNS.items() if name in _SHARED_COLUMNS}
    sample = NetworkSample(**_plain(row, {**shared, **_SAMPLE_COLUMNS}))
    times = (*sample.paired.samples_ms, *sample.paired.reference_ms)  # refuses samples without a reference each
    if not all(isfinite(value) and value > 0 for value in times):
        raise ValueError(f"samples of {sample.network} that are not positive")
    if any(not isfinite(ms) or ms < 0 for ms in sample.layer_ms.values()) or min(sample.widths.values(), default=1) < 1:
        raise ValueError(f"a sample of {sample.network} with impossible widths or times")
    return sample


def _entry(row: Mapping[str, Any]) -> Entry:
    entry = Entry(layer=Layer(**_plain(row, _LAYER_COLUMNS)), **_plain(row, _ENTRY_COLUMNS))
    if entry.layer.kind not in KINDS or entry.context not in CONTEXTS:
        raise ValueError(f"unknown kind {entry.layer.kind!r} or context {entry.context!r}")
    paired = entry.paired  # refuses samples without a reference each
    if not all(isfinite(value) and value > 0 for value in (*paired.samples_ms, *paired.reference_ms)):
        raise ValueError(f"samples of {entry.layer} that are not positive")
    return entry


def _plain(row: Mapping[str, Any], columns: Mapping[str, pa.DataType]) -> dict[str, Any]:
    return {name: tuple(row[name]) if pa.types.is_list(kind) else row[name] for name, kind in columns.items()}
