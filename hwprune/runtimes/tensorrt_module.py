"""TensorRT's module in either flavour, with the one logger that it is given."""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

from hwprune.errors import MissingPackageError

log = logging.getLogger("hwprune.runtimes.tensorrt")

Flavour = Literal["tensorrt", "tensorrt_rtx"]
PLANNED = re.compile(r"Total Activation Memory: (\d+) bytes")


@cache
def load(flavour: Flavour) -> tuple[ModuleType, Any]:
    """The module and its logger; TensorRT complains when it meets a second one.

    The logger keeps ``errors`` and ``messages`` (of any severity) since its last ``begin``.

    Raises:
        MissingPackageError: this flavour is not installed.
    """
    try:
        trt = import_module(flavour)
    except ImportError:
        raise MissingPackageError(flavour, extra=flavour.replace("_", "-")) from None

    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.INFO,
        trt.ILogger.Severity.INFO: logging.DEBUG,
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """TensorRT's messages as Python's: its errors are raised anyway, so all come a level lower."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.messages: list[str] = []

        def begin(self) -> None:
            self.errors.clear()
            self.messages.clear()

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)
            level = levels.get(severity)
            if level == logging.ERROR:
                self.errors.append(message)
            if level is not None:
                log.log(min(level, logging.INFO), message)

        def last_error(self) -> str:
            return self.errors[-1] if self.errors else ""

    return trt, Logger()


def planned_bytes(messages: list[str]) -> int | None:
    """Device memory that the builder says an execution context will take; None where it says nothing.

    >>> planned_bytes(["Total Activation Memory: 16547840 bytes"])
    16547840
    """
    found = [int(match[1]) for message in messages if (match := PLANNED.search(message)) is not None]
    return found[-1] if found else None
