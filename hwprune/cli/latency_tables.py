"""What can be done with latency tables that are there, with nothing measured: look, export, merge."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

from hwprune.cli import show
from hwprune.errors import HwpruneError, ProfileError
from hwprune.files import write_atomically
from hwprune.latency.held_out import HeldOut, PredictionError
from hwprune.latency.long_form import long_form
from hwprune.latency.table import LatencyTable
from hwprune.units import format_bytes, format_ms, format_percent

FORMATS = ("csv", "json")


def merged(path: Path, files: Sequence[Path]) -> LatencyTable:
    """The table at ``path``, made if need be, with everything that ``files`` hold.

    All of them stay as they were, whatever fails.

    Raises:
        ProfileError: a file is missing, damaged, of another device, runtime, version, precision or threads.
        StorageError: the table cannot be written.
    """
    for file in files:
        if file.resolve() == path.resolve():
            raise ProfileError("a table cannot be merged into itself", where=path, fix="name other files")
    others = [LatencyTable.load(file) for file in files]
    start = [LatencyTable.load(path)] if path.exists() else []
    return reduce(LatencyTable.merge, [*start, *others]).save(path)


def exported(table: LatencyTable, to: str) -> Path | None:
    """Every measurement in long form (see `long_form`): ``csv`` or ``json`` prints it, a file's name writes the file.

    Raises:
        HwpruneError: another format, or a file that is there already.
        StorageError: the file cannot be written.
    """
    form = to if to in FORMATS else Path(to).suffix.removeprefix(".")
    if form not in FORMATS:
        raise HwpruneError(f"cannot export as {to!r}", fix="use csv, json, or the name of a .csv or .json file")
    path = None if to in FORMATS else Path(to)
    if path is not None and path.exists():
        raise HwpruneError(
            "the file to export to is there already", where=path, effect="it was left as it is", fix="name another one"
        )
    text = _as_text(table, form)
    if path is None:
        sys.stdout.write(text)
    else:
        write_atomically(path, text.encode())
    return path


def _as_text(table: LatencyTable, form: str) -> str:
    frame = long_form(table)
    if form == "csv":
        return str(frame.to_csv(index=False))
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return json.dumps({"fingerprint": dict(table.fingerprint), "measurements": rows}, indent=1) + "\n"


def as_document(table: LatencyTable) -> dict[str, Any]:
    """What is in a table, as plain values."""
    return {
        "table": table.source,
        "fingerprint": dict(table.fingerprint),
        "rows": len(table),
        "kinds": dict(_kinds(table)),
        "contexts": dict(Counter(context for _, context in table.rows)),
        "rows_with_activation_memory": sum(entry.activation_bytes is not None for entry in table.rows.values()),
        "samples": dict(_networks(table)),
        "reference_ms": table.reference_ms if table.rows or table.samples else None,
        "measured_at": _span(table),
        "checks": [_check_document(held) for held in table.held_out],
    }


def show_table(table: LatencyTable, *, now: datetime | None = None) -> None:
    """Print what is in a table."""
    show.facts(f"latency table {table.source}", _facts(table, now or datetime.now(UTC)))
    show_checks(table)


def show_checks(table: LatencyTable) -> None:
    """Print how far its predictions are from networks that it has not seen, beside the noise."""
    if not table.held_out:
        show.prose("No prediction of this table was checked on whole networks: `hwprune profile --check` does it.")
        return
    counts = sorted({held.error.count for held in table.held_out})
    settings = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    show.table(
        f"predicted against measured, at {settings} random settings of widths that the table has not seen",
        ("network", "method", "error, p95", "≤ 5 %", "rank", "noise, p95"),
        [_check_row(held) for held in table.held_out],
        caption="error: the median; rank: Spearman's correlation; noise: the same networks built and measured twice, "
        "no prediction can be better",
    )


def _facts(table: LatencyTable, now: datetime) -> list[tuple[str, str]]:
    rows = [(key.replace("_", " "), value) for key, value in table.fingerprint.items()]
    kinds = ", ".join(f"{count} {kind}" for kind, count in _kinds(table))
    rows.append(("layers by themselves", f"{len(table)}: {kinds}" if len(table) else "none"))
    for network, count in _networks(table):
        rows.append(("whole networks", f"{network} at {count} settings of its widths"))
    if table.rows or table.samples:
        rows.append(("activation memory", _memory(table)))
        rows.append(("reference workload takes", format_ms(table.reference_ms)))
        first, last = (time[:16].replace("T", " ") for time in _span(table))
        rows.append(("measured", f"{first} to {last} UTC, {_age(_span(table)[1], now)}"))
    return rows


def _kinds(table: LatencyTable) -> list[tuple[str, int]]:
    kinds: Counter[str] = Counter(layer.kind for layer, _ in table.rows)
    return kinds.most_common()


def _networks(table: LatencyTable) -> list[tuple[str, int]]:
    return Counter(sample.network for sample in table.samples).most_common()


def _memory(table: LatencyTable) -> str:
    told = [entry.activation_bytes for entry in table.rows.values()]
    told += [sample.activation_bytes for sample in table.samples]
    known = [value for value in told if value is not None]
    if not known:
        return "the runtime told none"
    return f"of {len(known)} of {len(told)} measurements, up to {format_bytes(max(known))}"


def _span(table: LatencyTable) -> tuple[str, str]:
    times = [entry.measured_at for entry in table.rows.values()] + [sample.measured_at for sample in table.samples]
    return (min(times), max(times)) if times else ("", "")


def _age(time: str, now: datetime) -> str:
    """
    >>> _age("2026-01-01T00:00:00+00:00", datetime(2026, 1, 3, 12, tzinfo=UTC))
    '2 days ago'
    """
    since = now - datetime.fromisoformat(time)
    if since.days > 0:
        return f"{since.days} {'day' if since.days == 1 else 'days'} ago"
    hours = since.seconds // 3600
    return f"{hours} {'hour' if hours == 1 else 'hours'} ago" if hours else "within the last hour"


def _check_row(held: HeldOut) -> tuple[str, ...]:
    """Narrow enough for 80 columns."""
    error, noise = held.error, held.noise
    return (
        held.network,
        held.method,
        _spread(error),
        format_percent(error.within5),
        f"{error.spearman:.3f}",
        _spread(noise) if noise else "",
    )


def _spread(error: PredictionError) -> str:
    return f"{format_percent(error.median)}, {format_percent(error.p95)}"


def _check_document(held: HeldOut) -> dict[str, Any]:
    def plain(error: PredictionError | None) -> dict[str, float] | None:
        if error is None:
            return None
        return {name: getattr(error, name) for name in ("median", "p95", "within5", "within10", "spearman", "count")}

    return {**held.as_json(), "error": plain(held.error), "noise": plain(held.noise)}
