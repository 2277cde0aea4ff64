"""``hwprune certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwprune.cli import show
from hwprune.cli.networks import asked_spec, file_for, finished, sources
from hwprune.units import format_ms, format_percent
from hwprune.validation.certify import FEWEST_REBUILDS, MOST_REBUILDS, Certificate
from hwprune.validation.certify import certify as measure

NOT_FASTER = 3  # exit code


def certify(
    run: Annotated[Path, typer.Argument(help="run directory of `hwprune prune`")],
    device: Annotated[str, typer.Option(help="default: the run's")] = "",
    runtime: Annotated[str | None, typer.Option(help="default: the run's")] = None,
    precision: Annotated[str | None, typer.Option(help="default: the run's")] = None,
    batch: Annotated[int, typer.Option(help="images at once; 0: the run's")] = 0,
    rebuilds: Annotated[int, typer.Option(help="of both engines; 3 or more")] = FEWEST_REBUILDS,
    most_rebuilds: Annotated[int, typer.Option(help="as long as the interval is wide")] = MOST_REBUILDS,
    blocks: Annotated[int, typer.Option(help="timed by turns, per engine and rebuild")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Test a run's network against the dense one: rebuilt, timed by turns, with an interval. Exit 3: not faster."""
    opened, settings = finished(run)
    spec = asked_spec(opened, settings, device, runtime, precision)
    images = batch or settings.batch
    with show.progress() as bars:
        bars.stage(f"certifying with {spec.name} on {spec.device}")
        networks = sources(opened, settings, spec, images)
        certificate = measure(
            *networks,
            spec,
            rebuilds=rebuilds,
            most_rebuilds=most_rebuilds,
            blocks=blocks,
            batch=images,
            on_progress=bars.advance,
        )
    file = file_for(opened, settings, spec, images, "certificate")
    certificate.save(file)
    if as_json:
        show.as_json(certificate.as_dict())
    else:
        _told(certificate, file)
    if certificate.verdict != "faster":
        raise typer.Exit(NOT_FASTER)


def _told(certificate: Certificate, file: Path) -> None:
    rows = [
        (name, format_ms(timing.median_ms), format_ms(timing.p95_ms), format_percent(timing.cv))
        for name, timing in (("dense", certificate.dense), ("pruned", certificate.pruned))
    ]
    show.table("single runs", ("network", "median", "95th percentile", "spread (CV)"), rows)
    show.prose(certificate.summary)
    note = certificate.clocks.note
    show.prose(f"{note[:1].upper()}{note[1:]}.")
    show.line(f"written to {file}")
