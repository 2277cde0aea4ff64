"""Which latency table serves a device: the user's own, else one that ships with the package.

Where the device is here, a shipped table of the same hardware, runtime and version is where the user's own begins: what
is missing is then measured into the user's own, and what ships stays as it is. Where the device is not here, a shipped
table of it predicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hwprune.device import GPUS, Device, is_product, resolve
from hwprune.errors import ProfileError
from hwprune.files import PROFILES
from hwprune.latency.profiler import fingerprint_of
from hwprune.latency.storage import METADATA_KEY
from hwprune.latency.table import IDENTITY_KEYS, LatencyTable
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.loop.unmeasured import user_folder
from hwprune.runtimes.base import Runtime
from hwprune.runtimes.select import spec_for


def table_path(settings: Settings) -> Path:
    """Where the user's own table for the settings' device, runtime and precision lies, or would lie.

    In ``$HWPRUNE_PROFILES``, else in ``~/.cache/hwprune/profiles``.
    """
    device, runtime = _opened(settings)
    name = f"{device.slug}-{runtime.name}-{runtime.precision}-{settings.threads}thread.parquet"
    return user_folder() / name


def usual_table(settings: Settings) -> Path:
    """The table of the settings' device unless somebody says another: see `found_table`."""
    return found_table(table_path(settings), settings)


def found_table(own: Path, settings: Settings, *, shipped: Path = PROFILES) -> Path:
    """The table to use: ``own`` where it is there; else what ships for the device; else ``own``, to be made.

    Args:
        own: where the user's own table of this device, runtime and precision lies, or would lie.
        shipped: folder of the tables that ship.
    """
    device, runtime = _opened(settings)
    if own.exists() or device.here:
        return own
    of_it = [path for path in sorted(shipped.glob("*.parquet")) if _is_of(_fingerprint(path), device, runtime)]
    return max(of_it, key=lambda path: pq.read_metadata(path).num_rows, default=own)


def table_to_read(settings: Settings, *, shipped: Path = PROFILES) -> Path:
    """The table to look into: `found_table`, or the shipped one that the user's own would begin with."""
    found = found_table(table_path(settings), settings, shipped=shipped)
    return found if found.exists() else _shipped_here(settings, shipped) or found


def begin_with_shipped(own: Path, settings: Settings, reporter: Reporter, *, shipped: Path = PROFILES) -> None:
    """Make the user's own table from the shipped one of the very same hardware and runtime, where there is one.

    Nothing is done where the user has one already, or the device is not here.
    """
    path = None if own.exists() else _shipped_here(settings, shipped)
    if path is not None:
        table = LatencyTable.load(path).save(own)
        reporter.note(f"the table begins with the one that ships for this hardware: {table.counted}")


def check_is_of(table: LatencyTable, settings: Settings) -> None:
    """Raises ProfileError where the table is not of the settings' device, runtime and precision."""
    device, runtime = _opened(settings)
    if device.here:
        table.check_fingerprint(fingerprint_of(runtime, device), "this machine")
    elif not _is_of(table.fingerprint, device, runtime):
        measured_on = table.fingerprint.get("gpu") or table.fingerprint.get("device", "an unknown device")
        raise ProfileError(
            f"the latency table is not of {device.name} with {runtime.name} in {runtime.precision}",
            where=table.source,
            effect=f"it was measured on {measured_on}, and was left as it is",
            fix="name the table that it shall go into with --table, or its device with --device",
        )


def _opened(settings: Settings) -> tuple[Device, Runtime]:
    device = resolve(settings.device)
    spec = spec_for(device, settings.runtime, precision=settings.precision, threads=settings.threads)
    return device, spec.open()


def _shipped_here(settings: Settings, shipped: Path) -> Path | None:
    """The shipped table of the very same hardware, runtime and version as are here; None where the device is not."""
    device, runtime = _opened(settings)
    if not device.here:
        return None
    mine = fingerprint_of(runtime, device)
    for path in sorted(shipped.glob("*.parquet")):
        theirs = _fingerprint(path)
        if all(mine.get(key) == theirs.get(key) for key in IDENTITY_KEYS):
            return path
    return None


def _is_of(fingerprint: Mapping[str, str], device: Device, runtime: Runtime) -> bool:
    """Whether a table of this fingerprint predicts for a card that is not here."""
    product = fingerprint.get("gpu", "")
    same = fingerprint.get("device") == device.name or (device.name in GPUS and is_product(product, device.name))
    return same and (fingerprint.get("runtime"), fingerprint.get("precision")) == (runtime.name, runtime.precision)


def _fingerprint(path: Path) -> Mapping[str, str]:
    """Of a table, without reading its rows; nothing for a file that is no table."""
    try:
        about = json.loads((pq.read_schema(path).metadata or {})[METADATA_KEY])
        found: Mapping[str, str] = about["fingerprint"]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return {}
    return found
