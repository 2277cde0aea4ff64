"""Stands in for a builder that is busy when its parent is killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hwprune.validation.build_child import end_with_the_parent

if __name__ == "__main__":
    end_with_the_parent()
    told = Path(os.environ["HANGING"])
    told.with_suffix(".part").write_text(str(os.getpid()))
    told.with_suffix(".part").replace(told)
    time.sleep(600)
