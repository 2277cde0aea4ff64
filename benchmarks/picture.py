"""Draw what `hwprune prune` or `hwprune quickstart` prints for a finished run as an SVG.

python benchmarks/picture.py runs/quickstart benchmarks/results/quickstart.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from hwprune.cli import show
from hwprune.cli.starting import resumed
from hwprune.cli.summary import show_results


def main(run: Path, picture: Path) -> None:
    """Read the run again (nothing of a finished run is done anew) and record what is printed."""
    results = resumed(run)
    show.OUT = Console(record=True, width=100, highlight=False, file=io.StringIO())
    show_results(results, as_json=False)
    drawn = show.OUT.export_svg(title="hwprune quickstart")
    # The reader's own monospace font: a picture fetches nothing.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code", "monospace")
    picture.write_text(drawn)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
