"""Files that are there whole or not at all, and the folder of those that ship with the package."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from hwprune.errors import StorageError

PROFILES = Path(__file__).parent / "profiles"  # what ships: measured tables and fitted mixtures; never written to


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` whole or not at all, making folders as needed. Raises `StorageError`."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # one folder, so one disk: a plain rename
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(path, error=error) from error
