"""A finished run as one table: dense beside pruned, predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hwprune.cli import show
from hwprune.pruning import Result
from hwprune.units import format_bytes, format_count, format_ms, format_percent
from hwprune.validation.certify import Certificate
from hwprune.validation.ledger import Candidate


def show_results(results: Sequence[Result], *, as_json: bool) -> None:
    """Print a run, for people or as JSON: its one network, or the curve of several."""
    if len(results) == 1:
        show_result(results[0], as_json=as_json)
    elif as_json:
        show.as_json({"points": [as_document(result) for result in results]})
    else:
        _show_curve(results)


def _show_curve(results: Sequence[Result]) -> None:
    dense = results[0]
    rows = [("dense", "", format_percent(dense.accuracy["dense"]), "", format_count(dense.dense.macs), "")]
    rows += [
        (
            result.target,
            "\n".join(interval(one) if one else "not measured" for one in (result.certificate, *result.further)),
            format_percent(result.accuracy["finetuned"]),
            format_percent(result.accuracy["statistics"]),
            format_count(result.pruned.macs),
            str(result.directory.name),
        )
        for result in results
    ]
    heads = ("target", "certified latency / dense", "top-1", "before fine-tuning", "MACs", "directory")
    show.table("accuracy against latency", heads, rows)
    for sentence in (told for result in results for told in result.missed):
        show.prose(sentence)
    if results[0].certificate is None:
        show.prose(results[0].unmeasured or NOT_HERE)
    folder = results[0].directory.parent
    show.line(f"run directories: {folder}")
    show.line(f"the same as a table: {folder.parent / 'curve.csv'}")


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
    for certificate in (result.certificate, *result.further):
        if certificate is not None:
            show.prose(certificate.summary)
    for sentence in result.missed:
        show.prose(sentence)
    if result.certificate is None:
        show.prose(result.unmeasured or NOT_HERE)
    show.line(f"run directory: {result.directory}")


def as_document(result: Result) -> dict[str, Any]:
    """All figures as plain values."""
    return {
        "target": result.target,
        "directory": str(result.directory),
        "accuracy": dict(result.accuracy),
        "dense": asdict(result.dense),
        "pruned": asdict(result.pruned),
        "widths": result.plan.kept_widths,
        "certificate": result.certificate.as_dict() if result.certificate else None,
        "further": [one.as_dict() if one else None for one in result.further],
        "unmeasured": result.unmeasured,
        "missed": list(result.missed),
        "candidates": [_candidate_document(c) for c in result.candidates],
    }


NOT_HERE = "The device is not in this machine: engines were built, nothing was timed, no speed-up is claimed."
_HEADS = ("candidate", "predicted", "measured", "error", "of dense", "MACs", "built")


def _rows(result: Result, delivered: Candidate) -> list[tuple[str, str, str, str]]:
    dense, pruned, rows = result.dense, result.pruned, []
    for certificate in (result.certificate, *result.further):
        if certificate is None:
            continue
        where = f" ({certificate.runtime['name']} {certificate.runtime['device']}, batch {certificate.batch})"
        rows.append(
            (
                f"certified latency{where if result.further else ''}",
                format_ms(certificate.dense.median_ms),
                format_ms(certificate.pruned.median_ms),
                interval(certificate),
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


def interval(certificate: Certificate) -> str:
    """The certified ratio with its interval."""
    found = certificate.comparison
    return f"{format_percent(found.ratio)} ({format_percent(found.low)} to {format_percent(found.high)})"


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
