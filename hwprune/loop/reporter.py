"""How a run tells what it is doing; the library itself prints nothing."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Hears of progress. The command line draws bars; the library's default is silent."""

    def stage(self, title: str) -> None:
        """A new stage begins."""

    def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
        """So much of the present stage is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Silent:
    """Says nothing."""

    def stage(self, title: str) -> None:
        """Nothing."""

    def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
