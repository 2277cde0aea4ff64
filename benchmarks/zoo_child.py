"""What every child process of the zoo does: build one network, let one tool at it, measure, and report as it goes.

A report is a pair (stage, facts). The stages: "built" starts the limit for analysis and cut, "cut" ends it and starts
the limit for the checks, "checked" brings one check's facts, "failed" says what was raised, "skipped" that the tool has
nothing else to try on this network, "done" ends.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import re
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from zoo_networks import Entry

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Report = Callable[[str, dict[str, Any]], None]


@dataclass
class Meter:
    """Wall and processor time and the highest memory above the level before; see `measuring`."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


@contextmanager
def measuring() -> Iterator[Meter]:
    """Measure the block; the meter holds the figures afterwards, also where the block raised."""
    meter = Meter()
    before = _level()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield meter
    finally:
        meter.wall_s, meter.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        meter.peak_bytes = max(0, _peak() - before)


def _level() -> int:
    """Resident bytes now, with the peak's memory reset; what is free has been given back before."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text("5")  # the kernel forgets the peak
    except (AttributeError, OSError):  # no glibc, no Linux: the peak so far is the level
        return _peak()
    return _from_status("VmRSS")


def _peak() -> int:
    if STATUS.exists():
        return _from_status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _from_status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def reason(error: BaseException) -> str:
    """One line: the type, the message, the place where it was raised."""
    message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    place = traceback.extract_tb(error.__traceback__)
    at = f" [{Path(place[-1].filename).name}:{place[-1].lineno}]" if place else ""
    return without_paths(f"{type(error).__name__}: {message}")[:300] + at


def without_paths(text: str) -> str:
    """A message without this machine's folders: packages by their name, other files by theirs.

    >>> without_paths("view in 'a' (/home/me/lib/site-packages/timm/layers/attention.py:139), /home/me/run.py:3")
    "view in 'a' (timm/layers/attention.py:139), run.py:3"
    """
    text = re.sub(r"/[^\s:()']*/site-packages/", "", text)
    return re.sub(r"(?<![\w.])/[^\s:()']*/([^\s:()'/]+\.py)", r"\1", text)


def child(tool: str, entry: Entry, connection: Connection) -> None:
    """The body of a child process; ``tool`` is "module:function". Everything that is raised becomes a report."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    def report(stage: str, facts: dict[str, Any]) -> None:
        connection.send((stage, facts))

    try:
        module, _, function = tool.partition(":")
        getattr(importlib.import_module(module), function)(entry, report)
    except Exception as error:  # whatever a network or a tool raises is a row of the table
        report("failed", {"error": reason(error)})
    else:
        report("done", {})
