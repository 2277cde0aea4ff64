"""What the commands print: progress on the error stream, results on standard output, JSON when asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

EVERY_S = 15.0  # between two lines about one stage
OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


class Bars:
    """A reporter that draws one bar per stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: Any = None

    def stage(self, title: str) -> None:
        """Close the bar before and start one without an end; `advance` gives it one."""
        self.finish()
        self.task = self.progress.add_task(escape(title), total=None)

    def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
        """Move the present bar. Its own estimate of the time left comes from its speed."""
        if self.task is not None:
            self.progress.update(self.task, completed=done, total=total)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.progress.console.print(f"  {escape(text)}")

    def finish(self) -> None:
        """The present stage is over."""
        if self.task is not None:
            total = next((task.total for task in self.progress.tasks if task.id == self.task), None) or 1
            self.progress.update(self.task, total=total, completed=total)
            self.progress.stop_task(self.task)
            self.task = None


class Lines:
    """A reporter for logs and pipes: a line per stage, and one now and then while a stage lasts."""

    def __init__(self) -> None:
        self.started = self.told = time.monotonic()

    def stage(self, title: str) -> None:
        """Say what begins."""
        self.told = time.monotonic()
        ERR.print(f"[{self.told - self.started:7.1f} s] {title}", markup=False, soft_wrap=True)

    def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
        """Say how far it is, at most every `EVERY_S` seconds."""
        if (now := time.monotonic()) - self.told > EVERY_S:
            self.told = now
            left = "" if remaining_s is None else f", {remaining_s:.0f} s left"
            ERR.print(f"            {done} of {total}{left}", markup=False)

    def note(self, text: str) -> None:
        """Say it."""
        ERR.print(f"            {text}", markup=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Bars | Lines]:
    """Progress on the error stream while the block runs: bars on a terminal, else lines."""
    if not ERR.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERR) as drawn:
        bars = Bars(drawn)
        yield bars
        bars.finish()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> None:
    """A table on standard output; columns of numbers to the right, all else to the left."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    if caption:
        drawn.caption, drawn.caption_justify = caption, "left"
    for position, column in enumerate(columns):
        numbers = all(not row[position] or row[position].lstrip("+-")[:1].isdigit() for row in rows)
        drawn.add_column(column, justify="right" if numbers and position else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    OUT.print(drawn)


def facts(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and values on standard output, one a line."""
    drawn = Table(title=title, title_justify="left", show_header=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(escape(name), escape(value))
    OUT.print(drawn)


def line(text: str) -> None:
    """A line on standard output, whole: it may be a path."""
    OUT.print(escape(text), soft_wrap=True)


def prose(text: str) -> None:
    """Sentences on standard output: wrapped between words on a terminal, one line elsewhere."""
    OUT.print(escape(text), soft_wrap=not OUT.is_terminal)


def as_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output, and nothing else."""
    sys.stdout.write(json_text(document) + "\n")


def json_text(document: Mapping[str, Any]) -> str:
    """A document as JSON; what JSON has no form for is written as text."""
    return json.dumps(document, indent=1, default=str)
