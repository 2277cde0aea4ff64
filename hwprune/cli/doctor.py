"""``hwprune doctor``."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated

import torch
import typer

from hwprune.cli import show
from hwprune.device import resolve
from hwprune.runtimes.select import available


def doctor(as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False) -> None:
    """Say what this machine can do, and what to install for the rest."""
    devices = {"cpu": resolve("cpu").fingerprint()}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        devices[f"cuda:{index}"] = resolve(f"cuda:{index}").fingerprint()
    versions = {"hwprune": metadata.version("hwprune"), "python": platform.python_version(), "torch": torch.__version__}
    statuses = available()
    if as_json:
        runtimes = [{"name": s.name, "version": s.version, "usable": s.usable, "note": s.note} for s in statuses]
        show.as_json({"versions": versions, "devices": devices, "runtimes": runtimes})
        return
    show.table("versions", ("", "version"), list(versions.items()))
    for name, facts in devices.items():
        show.table(f"device {name}", ("", "value"), list(facts.items()))
    show.table(
        "runtimes",
        ("runtime", "version", "runs here", "note"),
        [(s.name, s.version or "", "yes" if s.usable else "no", s.note) for s in statuses],
    )
