"""``hwprune certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwprune.cli import show
from hwprune.device import resolve
from hwprune.errors import RunError
from hwprune.loop.settings import Settings
from hwprune.run import Run
from hwprune.runtimes.select import spec_for
from hwprune.units import format_ms, format_percent
from hwprune.validation.certify import certify as measure

NOT_FASTER = 3  # exit code


def certify(
    run: Annotated[Path, typer.Argument(help="run directory of `hwprune prune`")],
    device: Annotated[str, typer.Option(help="default: the run's")] = "",
    runtime: Annotated[str | None, typer.Option(help="default: the run's")] = None,
    rebuilds: Annotated[int, typer.Option(help="of both engines, at least 3")] = 3,
    blocks: Annotated[int, typer.Option(help="timed by turns, per engine and rebuild")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Test a run's network against the dense one: rebuilt, timed by turns, with an interval. Exit 3: not faster."""
    settings = Settings.from_json(Run.resume(run).settings)
    files = [run / "dense.onnx", run / "model.onnx"]
    for file in files:
        if not file.exists():
            raise RunError(f"{file} is not there: the run is not finished", fix=f"hwprune prune --resume {run}")
    spec = spec_for(
        resolve(device or settings.device),
        runtime or settings.runtime,
        precision=settings.precision,
        threads=settings.threads,
    )
    with show.progress() as bars:
        bars.stage(f"certifying with {spec.name} on {spec.device}")
        certificate = measure(files[0], files[1], spec, rebuilds=rebuilds, blocks=blocks, on_progress=bars.advance)
    certificate.save(run / "certificate.json")
    if as_json:
        show.as_json(certificate.as_dict())
    else:
        rows = [
            (name, format_ms(timing.median_ms), format_ms(timing.p95_ms), format_percent(timing.cv))
            for name, timing in (("dense", certificate.dense), ("pruned", certificate.pruned))
        ]
        show.table("single runs", ("network", "median", "95th percentile", "spread (CV)"), rows)
        show.prose(certificate.summary)
        show.line(f"written to {run / 'certificate.json'}")
    if certificate.verdict != "faster":
        raise typer.Exit(NOT_FASTER)
