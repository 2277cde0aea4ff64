"""``hwprune profile``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from hwprune.cli import show
from hwprune.cli.choosing import AttentionOption, ConvGroupsOption, chosen
from hwprune.device import resolve
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table
from hwprune.loop.profiling import checked
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.pruning import table_path
from hwprune.units import format_ms, format_percent

# One table for these serves most residual, mobile and grouped networks.
DEFAULT_MODELS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "resnext50_32x4d")


def profile(
    device: Annotated[str, typer.Option(help="cpu, cuda, or a name such as rtx3090; must be in this machine")],
    model: Annotated[list[str] | None, typer.Option(help="profile this network's layers; repeatable")] = None,
    runtime: Annotated[str | None, typer.Option(help="default: the device's best")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, fp16, bf16")] = None,
    batch: Annotated[int, typer.Option(help="images at once in deployment")] = 1,
    threads: Annotated[int, typer.Option(help="of a runtime on the CPU")] = 1,
    multiple: Annotated[int, typer.Option(help="widths are multiples of this; 0 chooses by the device")] = 0,
    conv_groups: ConvGroupsOption = "whole",
    attention: AttentionOption = "heads",
    most_widths: Annotated[int, typer.Option(help="of one group")] = 16,
    check: Annotated[int, typer.Option(help="random networks measured to know the table's error; 0: none")] = 20,
    table: Annotated[Path | None, typer.Option(help="file to add to; default: the user's own for this device")] = None,
    seed: Annotated[int, typer.Option(help="of the order and of the random networks")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Measure the latency of every layer over its widths on DEVICE; stop and start it as you like."""
    resolve(device).require_here("profiling")
    settings = Settings(
        "100%",
        device=device,
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
        multiple=multiple,
        choices=chosen(conv_groups, attention),
        most_widths=most_widths,
        seed=seed,
    )
    path = table or table_path(settings)
    with show.progress() as bars, tempfile.TemporaryDirectory(prefix="hwprune-profile-") as folder:
        subjects = [  # all of them first: a name that is wrong shall not show after hours
            Subject(load_model(name), describe_inputs(name), settings, Path(folder) / str(number), bars, name)
            for number, name in enumerate(model or DEFAULT_MODELS)
        ]
        for subject in subjects:
            measured_table(subject, path)
            if check:
                checked(subject, path, calibration=settings.calibration, count=check)
    found = LatencyTable.load(path)
    if as_json:
        show.as_json({"table": str(path), "rows": len(found), "checks": [h.as_json() for h in found.held_out]})
        return
    rows = [
        (
            h.network,
            str(h.error.count),
            format_percent(h.error.median),
            format_percent(h.error.p95),
            format_percent(h.noise.median) if h.noise else "",
        )
        for h in found.held_out
    ]
    show.table(
        f"{len(found)} layers; reference workload {format_ms(found.reference_ms)}",
        ("network", "settings", "error (median)", "error (p95)", "noise (median)"),
        rows,
        caption="error: predicted against measured latency of random widths that the table has not seen",
    )
    show.line(f"table: {path}")
