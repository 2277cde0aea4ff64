"""What was predicted and what was measured, for every candidate of a run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hwprune.errors import RunError
from hwprune.files import write_atomically
from hwprune.validation.engine import EngineReport, Ratio

SCHEMA = b"1"
SCHEMA_KEY = b"hwprune.ledger"
CANDIDATE_COLUMNS = {
    "candidate": pa.string(),
    "milestone": pa.int64(),
    "time": pa.string(),
    "widths": pa.string(),  # JSON
    "predicted_ms": pa.float64(),
    "measured_ms": pa.float64(),
    "dense_ms": pa.float64(),
    "ratio": pa.float64(),
    "p95_ms": pa.float64(),
    "macs": pa.int64(),
    "parameters": pa.int64(),
    "activation_bytes": pa.int64(),
}
ENGINE_COLUMNS = {  # null where the candidate has no engine at all
    "runtime": pa.string(),
    "ok": pa.bool_(),
    "error": pa.string(),
    "device": pa.string(),
    "precision": pa.string(),
    "version": pa.string(),
    "build_s": pa.float64(),
    "size_bytes": pa.int64(),
    "engine_activation_bytes": pa.int64(),
    "engine_weight_bytes": pa.int64(),
    "engine_samples_ms": pa.list_(pa.float64()),
    "engine_path": pa.string(),
    "beside_dense_ms": pa.list_(pa.float64()),  # block medians; null where it was not timed beside the dense one
    "beside_candidate_ms": pa.list_(pa.float64()),
}
ENGINE_FIELDS = {c: c.removeprefix("engine_") for c in ENGINE_COLUMNS if not c.startswith("beside_")}
COLUMNS = pa.schema({**CANDIDATE_COLUMNS, **ENGINE_COLUMNS}).with_metadata({SCHEMA_KEY: SCHEMA})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Candidate:
    """One pruned network that was tried.

    Attributes:
        id: its name within the run, such as "milestone-3".
        milestone: which step towards the target, from 0 (the dense network).
        widths: channels that every group keeps.
        predicted_ms: what the predictor said; None where nothing was predicted.
        macs, parameters, activation_bytes: its cost by counting.
        measured_ms: median latency; None where the device is not here.
        dense_ms: the dense network's, timed by turns with it.
        ratio: median of the neighbouring blocks' ratios of the two; not the quotient of the two medians.
        p95_ms: 95th percentile of the measured runs.
        engines: one report for every runtime that was asked for an engine.
        time: when, UTC in ISO format.
    """

    id: str
    milestone: int
    widths: Mapping[str, int]
    predicted_ms: float | None
    macs: int
    parameters: int
    activation_bytes: int
    measured_ms: float | None = None
    dense_ms: float | None = None
    ratio: float | None = None
    p95_ms: float | None = None
    engines: tuple[EngineReport, ...] = ()
    time: str = field(default_factory=_now)

    def built(self, runtime: str) -> bool:
        """Whether that runtime made an engine of it."""
        return any(engine.ok for engine in self.engines if engine.runtime == runtime)


class Ledger:
    """All candidates of a run, in a Parquet file of one row per candidate and engine.

    The file is read at the start and rewritten whole, atomically, at each `append`: ledgers are short. One
    process writes a ledger. Raises `RunError` for a file that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._candidates = {c.id: c for c in _read(self.path)} if self.path.exists() else {}

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """In the order in which they were first appended."""
        return tuple(self._candidates.values())

    def append(self, candidate: Candidate) -> None:
        """Add a candidate, or replace the one of the same id (a resumed run tries it again).

        Raises `StorageError`; neither the file nor the ledger has then changed.
        """
        candidates = {**self._candidates, candidate.id: candidate}
        content = io.BytesIO()
        pq.write_table(_table(candidates.values()), content)
        write_atomically(self.path, content.getvalue())
        self._candidates = candidates

    def all_built(self, runtime: str) -> bool:
        """Whether that runtime made an engine of every candidate; False for an empty ledger, which shows nothing."""
        return bool(self._candidates) and all(c.built(runtime) for c in self.candidates)

    def frame(self) -> pd.DataFrame:
        """One row per candidate and engine, columns as in the file; a candidate without engines has one row."""
        frame: pd.DataFrame = _table(self.candidates).to_pandas()
        return frame


def _table(candidates: Iterable[Candidate]) -> pa.Table:
    return pa.Table.from_pylist([row for c in candidates for row in _rows(c)], schema=COLUMNS)


def _rows(candidate: Candidate) -> list[dict[str, Any]]:
    shared = {name: getattr(candidate, name, None) for name in CANDIDATE_COLUMNS}
    shared |= {"candidate": candidate.id, "widths": json.dumps(dict(candidate.widths))}
    nothing = dict.fromkeys(ENGINE_COLUMNS)
    return [shared | _engine_row(engine) for engine in candidate.engines] or [shared | nothing]


def _engine_row(engine: EngineReport) -> dict[str, Any]:
    beside = engine.beside
    return {
        **{column: getattr(engine, name) for column, name in ENGINE_FIELDS.items()},
        "beside_dense_ms": None if beside is None else beside.dense_blocks_ms,
        "beside_candidate_ms": None if beside is None else beside.candidate_blocks_ms,
    }


def _read(path: Path) -> list[Candidate]:
    try:
        table = pq.read_table(path, partitioning=None)
        if (schema := (table.schema.metadata or {}).get(SCHEMA_KEY)) != SCHEMA:
            raise ValueError(f"its schema is {schema}, this version reads {SCHEMA!r}")
        # Rows of one candidate stand together: they are always written so.
        return [_candidate(list(rows)) for _, rows in groupby(table.to_pylist(), key=lambda r: r["candidate"])]
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise RunError(
            f"the ledger cannot be read: {error}",
            where=path,
            effect="what was measured in this run is not known any more",
            fix="restore the file from a copy, or move it away to measure the candidates again",
        ) from error


def _candidate(rows: list[dict[str, Any]]) -> Candidate:
    shared = {name: rows[0][name] for name in CANDIDATE_COLUMNS if name not in ("candidate", "widths")}
    engines = tuple(_engine(row) for row in rows if row["runtime"] is not None)
    return Candidate(id=rows[0]["candidate"], widths=json.loads(rows[0]["widths"]), engines=engines, **shared)


def _engine(row: dict[str, Any]) -> EngineReport:
    values = {name: row[column] for column, name in ENGINE_FIELDS.items()}
    timed_beside = row["beside_dense_ms"] is not None
    beside = Ratio(tuple(row["beside_dense_ms"]), tuple(row["beside_candidate_ms"])) if timed_beside else None
    return EngineReport(**values | {"samples_ms": tuple(values["samples_ms"]), "beside": beside})
