"""Work that may last only so long: what is measured by then is kept, and the same command goes on."""

from __future__ import annotations

import re
import time

from hwprune.errors import HwpruneError
from hwprune.loop.reporter import Reporter

_FORM = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """How long ``text`` is.

    Raises `HwpruneError` for a text of another form.

    >>> seconds("90s"), seconds("10min"), seconds("1.5 h")
    (90.0, 600.0, 5400.0)
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or float(found["number"]) <= 0:
        raise HwpruneError(f"cannot read the time {text!r}", fix="write it as 90s, 10min or 2h")
    return float(found["number"]) * _SECONDS[found["unit"]]


class TimeIsUp(Exception):
    """The time that was given is over."""


class Until:
    """A reporter that ends the work at a time: whoever measures keeps what it has, as after Ctrl-C."""

    def __init__(self, reporter: Reporter, lasting_s: float | None) -> None:
        self._reporter = reporter
        self._end = None if lasting_s is None else time.monotonic() + lasting_s

    def stage(self, title: str) -> None:
        """Pass it on. Raises `TimeIsUp`."""
        self._check()
        self._reporter.stage(title)

    def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
        """Pass it on. Raises `TimeIsUp`, unless this was the last of its stage."""
        self._reporter.advance(done, total, remaining_s)
        if done < total:
            self._check()

    def note(self, text: str) -> None:
        """Pass it on."""
        self._reporter.note(text)

    def _check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise TimeIsUp
