"""``hwprune validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwprune.cli import show
from hwprune.cli.networks import asked_spec
from hwprune.errors import EngineError, RunError
from hwprune.loop.settings import Settings
from hwprune.run import Run
from hwprune.units import format_bytes, format_ms
from hwprune.validation.engine import EngineReport, build_engine


def validate(
    run: Annotated[Path, typer.Argument(help="run directory of `hwprune prune`")],
    device: Annotated[str, typer.Option(help="cpu, cuda or a name; default: the run's")] = "",
    runtime: Annotated[str | None, typer.Option(help="default: the device's best")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, fp16, bf16, int8, fp8")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Build the engine of a saved network, and time it where the device is here."""
    opened = Run.resume(run)
    spec = asked_spec(opened, Settings.from_json(opened.settings), device, runtime, precision)
    files = {"dense": run / "dense.onnx", "pruned": run / "model.onnx"}
    for file in files.values():
        if not file.exists():
            raise RunError(f"{file} is not there: the run is not finished", fix=f"hwprune prune --resume {run}")
    reports: dict[str, EngineReport] = {}
    with show.progress() as bars:
        for name, file in files.items():
            bars.stage(f"building {file.name} with {spec.name} for {spec.device}")
            out = run / "engines" / f"{file.stem}-{spec.name}-{spec.device}-{spec.precision}.engine"
            reports[name] = build_engine(file, spec, out=out)
    if as_json:
        show.as_json({name: report.as_dict() for name, report in reports.items()})
    else:
        show.table(f"engines of {run}", ("network", "engine", "built in", "size", "memory", "latency"), _rows(reports))
    failed = [f"{name}: {report.error}" for name, report in reports.items() if not report.ok]
    if failed:
        raise EngineError(
            "an engine could not be built",
            where="; ".join(failed),
            fix="choose another --runtime or --precision; `hwprune doctor` says what is here",
        )


def _rows(reports: dict[str, EngineReport]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{report.runtime} {report.version} {report.precision} for {report.device}" if report.ok else "FAILED",
            "" if report.build_s is None else format_ms(1000 * report.build_s),
            "" if report.size_bytes is None else format_bytes(report.size_bytes),
            "" if report.activation_bytes is None else format_bytes(report.activation_bytes),
            "not measured" if report.median_ms is None else format_ms(report.median_ms),
        )
        for name, report in reports.items()
    ]
