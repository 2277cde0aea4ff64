"""A finished run as one table: dense beside pruned, predicted beside measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hwprune.cli import show
from hwprune.pruning import Result
from hwprune.units import format_bytes, format_count, format_ms, format_percent
from hwprune.validation.ledger import Candidate


def show_result(result: Result, *, as_json: bool) -> None:
    """Print it, for people or as JSON."""
    if as_json:
        show.as_json(as_document(result))
        return
    delivered = result.candidates[-1]
    show.table("dense beside pruned", ("", "dense", "pruned", "pruned / dense"), _rows(result, delivered))
    show.table(
        "candidates, predicted beside measured",
        _HEADS,
        [_candidate(c, result.candidates[0].dense_ms) for c in result.candidates[1:]],
    )
    if result.certificate is not None:
        show.prose(result.certificate.summary)
    elif result.unmeasured:
        show.prose(result.unmeasured)
    else:
        show.prose("The device is not in this machine: engines were built, nothing was timed, no speed-up is claimed.")
    show.line(f"run directory: {result.directory}")


def as_document(result: Result) -> dict[str, Any]:
    """All figures as plain values."""
    return {
        "directory": str(result.directory),
        "accuracy": dict(result.accuracy),
        "dense": asdict(result.dense),
        "pruned": asdict(result.pruned),
        "widths": result.plan.kept_widths,
        "certificate": result.certificate.as_dict() if result.certificate else None,
        "unmeasured": result.unmeasured,
        "candidates": [_candidate_document(c) for c in result.candidates],
    }


_HEADS = ("candidate", "predicted", "measured", "error", "of dense", "MACs", "built")


def _rows(result: Result, delivered: Candidate) -> list[tuple[str, str, str, str]]:
    dense, pruned, rows = result.dense, result.pruned, []
    if (certificate := result.certificate) is not None:
        found = certificate.comparison
        interval = f"{format_percent(found.ratio)} ({format_percent(found.low)} to {format_percent(found.high)})"
        rows.append(
            (
                "certified latency",
                format_ms(certificate.dense.median_ms),
                format_ms(certificate.pruned.median_ms),
                interval,
            )
        )
    accuracy = result.accuracy
    points = f"{100 * (accuracy['finetuned'] - accuracy['dense']):+.1f} points"
    rows.append(("top-1 accuracy", format_percent(accuracy["dense"]), format_percent(accuracy["finetuned"]), points))
    rows.append(("  before fine-tuning", "", format_percent(accuracy["statistics"]), ""))
    rows.append(("  before new statistics", "", format_percent(accuracy["cut"]), ""))
    for title, before, after in (
        ("MACs", dense.macs, pruned.macs),
        ("parameters", dense.parameters, pruned.parameters),
        ("activation elements", dense.activation_elements, pruned.activation_elements),
    ):
        rows.append((title, format_count(before), format_count(after), format_percent(after / before)))
    for before_engine, after_engine in zip(result.candidates[0].engines, delivered.engines, strict=True):
        name = f"{before_engine.runtime} {before_engine.device}"
        rows.append((f"{name} engine", *_pair(before_engine.size_bytes, after_engine.size_bytes)))
        if before_engine.activation_bytes and after_engine.activation_bytes:
            memory = _pair(before_engine.activation_bytes, after_engine.activation_bytes)
            rows.append(("  its activations", *memory))
    return rows


def _pair(before: int | None, after: int | None) -> tuple[str, str, str]:
    if before is None or after is None:
        return ("", "", "")
    return (format_bytes(before), format_bytes(after), format_percent(after / before) if before else "")


def _candidate(candidate: Candidate, dense_ms: float | None) -> tuple[str, ...]:
    failed = [f"not {e.runtime} {e.device}" for e in candidate.engines if not e.ok]
    built = f"{len(candidate.engines) - len(failed)} of {len(candidate.engines)}"
    return (
        candidate.id,
        "" if candidate.predicted_ms is None else format_ms(candidate.predicted_ms),
        "" if candidate.measured_ms is None else format_ms(candidate.measured_ms),
        _error(candidate, dense_ms),
        "not measured" if candidate.ratio is None else format_percent(candidate.ratio),
        format_count(candidate.macs),
        ", ".join([built, *failed]),
    )


def _error(candidate: Candidate, dense_ms: float | None) -> str:
    """Predicted over measured less one, both at the dense latency of the search: between the two the machine drifts."""
    if candidate.predicted_ms is None or candidate.ratio is None or dense_ms is None:
        return ""
    return f"{100 * (candidate.predicted_ms / (candidate.ratio * dense_ms) - 1):+.1f} %"


def _candidate_document(candidate: Candidate) -> dict[str, Any]:
    document = asdict(candidate)
    for engine in document["engines"]:
        engine.pop("samples_ms")
        engine.pop("beside")
    return document
