"""Whether something else runs on the processor core that times.

Two hardware threads share a core. What a neighbour does on the other one, in another virtual machine too, shows in no
load and no clock, and it does not slow all code alike: a loop of short instructions takes 1.3 to 2.2 times as long,
wide arithmetic hardly longer. So it changes the ratio of two networks, and timing them by turns does not help: a
ResNet-20 with 1 to 46 channels a layer takes 52 % of the dense one's time alone and 61 to 67 % beside a neighbour. Of
processes that had slept, 38 % measured it more than 3 % off, and none with the watch below; 35 and 5 % on another
processor (`benchmarks/contention.py`). A short loop of that kind is timed around every block.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hwprune.errors import HwpruneError

# Over the quickest loop. Clocks and caches explain 1.2 to 1.3. A neighbour makes it 1.9 to 2.2 on an AMD EPYC, but 1.3
# to 1.7 on an Intel Xeon of model 207: there a ratio of 56.6 % is 58.7 % where the loop takes 1.3 to 1.4 times as long,
# 63.6 % where it takes 1.4 to 1.5, and right below 1.3 (`benchmarks/contention.py`).
SHARED: Final = 1.3
LOOPS: Final = 3  # of a look, of which the quickest counts: an interrupt is no neighbour
# A neighbour is waited for at most so long, and then so many times as long as was measured undisturbed.
PATIENCE_S: Final = 30.0
PATIENCE: Final = 3.0
TIMES: Final = "HWPRUNE_PATIENCE"  # in the environment: the user's factor on both; 0 waits for nothing
QUICKEST: Final = "HWPRUNE_QUICKEST_LOOP_MS"  # in the environment, so that child processes know it from the start
FIRST_LOOPS: Final = 2000  # of a process that does not know how quick the loop can be


def loop_ms() -> float:
    """The time that the loop takes now: the quickest of `LOOPS`."""
    return min(_timed_ms() for _ in range(LOOPS))


def _timed_ms() -> float:
    started, total = time.perf_counter(), 0
    for number in range(2000):
        total += number * number
    return 1000 * (time.perf_counter() - started)


@dataclass
class CoreWatch:
    """Looks at the core around blocks, for `hwprune.timing`, and again and again while it is shared.

    Attributes:
        loop_ms: times the loop.
        now: a clock, in seconds.
        waited_s: for the core to be free: all tries of turns that were spoilt.
        shared: turns that count though the core was shared until patience ran out.

    Raises `HwpruneError` where ``$HWPRUNE_PATIENCE`` is no number from 0 up.
    """

    loop_ms: Callable[[], float] = loop_ms
    now: Callable[[], float] = time.monotonic
    waited_s: float = field(init=False, default=0.0)
    shared: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._times = _times()
        if QUICKEST not in os.environ:
            _learn(min(self.loop_ms() for _ in range(FIRST_LOOPS)))
        self._started = self._began = self.now()
        self._gave_up, self._disturbed_s = False, 0.0

    def begin(self) -> bool:
        """Whether the core is free for a try of a turn that begins now."""
        now = self.now()
        if self._gave_up:  # so the turn before this one counts, but as no time undisturbed
            self._disturbed_s += now - self._began
        self._began, self._gave_up = now, False
        return self.look()

    def look(self) -> bool:
        """Whether the core is free."""
        taken_ms = self.loop_ms()
        if taken_ms < quickest_ms():
            _learn(taken_ms)
        return taken_ms <= SHARED * quickest_ms()

    def again(self, tries: int) -> bool:
        """Whether to wait, and to measure the turn again; ``tries`` of it were spoilt."""
        now = self.now()
        self.waited_s += now - self._began
        self._began = now
        undisturbed_s = now - self._started - self.waited_s - self._disturbed_s
        self._gave_up = self.waited_s >= self._times * (PATIENCE_S + PATIENCE * undisturbed_s)
        self.shared += self._gave_up
        # At once: a process that slept wakes up beside a neighbour more often than one that kept its core.
        return not self._gave_up

    @property
    def note(self) -> str:
        """One sentence on what was seen."""
        told = []
        if self.waited_s:
            told.append(f"{self.waited_s:.1f} s were waited for other work on the processor core to end")
        if self.shared:
            told.append(f"{self.shared} turns count though it shared the core")
        return "; ".join(told) or "no other work was seen on the processor core"


def quickest_ms() -> float:
    """The quickest loop that this process or one that started it has seen; infinite before the first."""
    return float(os.environ.get(QUICKEST, "inf"))


def _times() -> float:
    text = os.environ.get(TIMES, "1")
    try:
        times = float(text)
    except ValueError:
        times = math.nan
    if not 0 <= times < math.inf:
        raise HwpruneError(
            f"${TIMES} is '{text}'", effect="nothing is measured", fix="unset it, or give a number from 0 (no wait) up"
        )
    return times


def _learn(taken_ms: float) -> None:
    os.environ[QUICKEST] = repr(taken_ms)
