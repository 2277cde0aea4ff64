"""Stands in for a builder that hangs, with a process of its own; both tell their numbers in $HANGING."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

if __name__ == "__main__":
    helper = subprocess.Popen(["sleep", "600"])
    told = Path(os.environ["HANGING"])
    told.with_suffix(".part").write_text(f"{os.getpid()} {helper.pid}")
    told.with_suffix(".part").replace(told)
    time.sleep(600)
