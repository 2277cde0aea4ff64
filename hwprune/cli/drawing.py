"""The coupling's picture on disk: as text, and as SVG through Graphviz where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hwprune.errors import HwpruneError
from hwprune.files import write_atomically

LONGEST_S = 600.0  # of a layout; usual networks take less than one second


def layout_program() -> str:
    """Path of Graphviz's ``dot``. Raises `HwpruneError` where it is not installed."""
    if (found := shutil.which("dot")) is None:
        raise HwpruneError(
            "the program 'dot' of Graphviz is not installed",
            effect="--svg cannot lay out the picture",
            fix="apt-get install graphviz, brew install graphviz or conda install graphviz; or take --dot FILE, "
            "and draw that where Graphviz is",
        )
    return found


def write_svg(text: str, path: Path) -> None:
    """Lay out a picture in Graphviz's language.

    Raises:
        HwpruneError: Graphviz is not installed, fails, or takes too long.
        StorageError: the file cannot be written.
    """
    program = layout_program()
    try:
        run = subprocess.run(
            [program, "-Tsvg"], input=text.encode(), capture_output=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise HwpruneError(
            f"Graphviz needs more than {LONGEST_S:.0f} s to lay out the picture", fix="take --dot FILE instead"
        ) from None
    if run.returncode:
        raise HwpruneError(
            "Graphviz cannot draw the picture",
            where=(run.stderr.decode(errors="replace").strip().splitlines() or [""])[-1],
            fix="take --dot FILE and report the network: this is a bug of hwprune",
        )
    write_atomically(path, run.stdout)
