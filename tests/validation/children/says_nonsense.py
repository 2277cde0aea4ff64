"""Stands in for a builder that ends well and answers half a word."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[2]).write_text('{"ok": tr')
