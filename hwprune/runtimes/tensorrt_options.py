"""What TensorRT's builder is told beyond the network, and the timing cache that keeps its choices the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hwprune.errors import EngineError, StorageError
from hwprune.files import write_atomically

LEVELS = range(6)
LOCK_TIMEOUT_S = 60.0
Combine = Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class BuilderOptions:
    """How an engine is built; the defaults are TensorRT's own, but for the iterations, which are trtexec's.

    Attributes:
        optimization_level: 0 to 5. 3 chooses tactics by heuristics and timings, 5 compiles and compares all.
        workspace_bytes: the most that a tactic may take for scratch; None is all of the device's memory.
        timing_iterations: runs that a tactic's timing is the mean of; one, the interface's default, is a lottery.
        aux_streams: further streams in which branches may overlap; None leaves it to TensorRT. Times of layers only
            add up to the engine's where there are none.
        timing_cache: file with the times of tactics, read before a build and added to after it: engines of equal
            layers then get equal tactics, in other processes too. None keeps it in memory, per runtime.
        only_cached: whether a layer that the cache does not know is an error, not a new timing.
    """

    optimization_level: int = 3
    workspace_bytes: int | None = None
    timing_iterations: int = 8
    aux_streams: int | None = None
    timing_cache: Path | None = None
    only_cached: bool = False

    def __post_init__(self) -> None:
        if self.optimization_level not in LEVELS:
            raise EngineError(f"TensorRT has no optimisation level {self.optimization_level}", fix="choose 0 to 5")
        if self.timing_iterations < 1 or (self.workspace_bytes is not None and self.workspace_bytes < 0):
            raise EngineError("TensorRT's builder options are out of range", where=self, fix="use positive numbers")
        if self.only_cached and self.timing_cache is None:
            raise EngineError("only_cached needs a timing cache", fix="name its file with timing_cache")

    def as_fingerprint(self) -> Mapping[str, str]:
        """For the fingerprint of what is measured with them."""
        return {
            "optimization_level": str(self.optimization_level),
            "workspace": "all" if self.workspace_bytes is None else f"{self.workspace_bytes} bytes",
            "timing_iterations": str(self.timing_iterations),
            "aux_streams": "chosen by TensorRT" if self.aux_streams is None else str(self.aux_streams),
        }


class TimingCache:
    """The bytes of a timing cache, shared with other processes through a file where there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._bytes = b""

    @property
    def hash(self) -> str:
        """The content as 12 hexadecimal digits, "empty" where there is none."""
        content = self.read()
        return hashlib.sha256(content).hexdigest()[:12] if content else "empty"

    def read(self) -> bytes:
        """The content as it is now. Raises `EngineError` where the file cannot be read."""
        if self.path is None:
            return self._bytes
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise EngineError("the timing cache cannot be read", where=f"{self.path}: {error.strerror}") from error

    def add(self, known: bytes, new: bytes, combine: Combine) -> None:
        """Keep ``new``, which a build made of ``known``; what other processes have added meanwhile is kept as well.

        ``combine`` gives what two caches hold together.
        """
        if self.path is None:
            self._bytes = new
            return
        if new == known:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(self.path, error=error) from error
        with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCK_TIMEOUT_S):
            there = self.read()
            write_atomically(self.path, new if there in (b"", known) else combine(there, new))
