"""What a GPU says of itself while it is timed: clocks, power, temperature, and why it holds its clocks back.

A card that is too hot or draws too much slows its clocks down, and a block timed then says nothing of the network. So
the state is sampled before the blocks of a turn and after each, and a turn during which the card held back is measured
again after a rest, at most `MOST_TRIES` times. Reading needs no root and no locked clocks.

NVML is read through the package nvidia-ml-py (imported as ``pynvml``), which is optional: without it, or without a
GPU, nothing is watched and the certificate says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, Final

from hwprune.contention import CoreWatch

MOST_TRIES: Final = 4  # of one turn, the first included
REST_S: Final = 0.5  # before a turn is measured again
# Bits of nvmlDeviceGetCurrentClocksEventReasons that mean "slower than it could be", from NVIDIA's nvml.h. Idle clocks,
# clocks that the user set and sync boost are no reason to measure again.
HOLDING_BACK: Final[Mapping[int, str]] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class State:
    """A card at one moment; None where it does not tell.

    Attributes:
        sm_mhz, memory_mhz: present clocks.
        power_w: drawn.
        temperature_c: of the chip.
        reasons: why clocks are held back; empty where they are not.
    """

    sm_mhz: int | None
    memory_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clocks:
    """The card's states over a whole certificate.

    Attributes:
        note: one sentence: what was watched, or why nothing was.
        states: in order of time; empty where nothing was watched.
        remeasured: turns that were measured again because the card held its clocks back.
        held_back: turns that count though it did so to the last try.
    """

    note: str
    states: tuple[State, ...] = ()
    remeasured: int = 0
    held_back: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without states only the note, since nothing else is known."""
        return asdict(self) if self.states else {"note": self.note}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Clocks:
        """The inverse of `as_dict`."""
        states = tuple(State(**{**state, "reasons": tuple(state["reasons"])}) for state in values.get("states", ()))
        return cls(values["note"], states, values.get("remeasured", 0), values.get("held_back", 0))


@dataclass
class ClockWatch:
    """Samples a card around blocks, for `hwprune.timing.interleave`, and remembers what it saw.

    Attributes:
        read: the card's state now; None where there is nothing to watch.
        why_not: for the note, where there is nothing to watch.
        rest_s: waited before a turn is measured again.
    """

    read: Callable[[], State] | None
    why_not: str = ""
    rest_s: float = REST_S
    states: list[State] = field(default_factory=list)
    remeasured: int = 0
    held_back: int = 0

    def begin(self) -> bool:
        """Sample the card before a turn."""
        return self.look()

    def look(self) -> bool:
        """Sample the card. False where it holds its clocks back."""
        if self.read is None:
            return True
        state = self.read()
        self.states.append(state)
        return not state.reasons

    def again(self, tries: int) -> bool:
        """Whether a turn during which the card held back shall be measured again, after ``tries`` of it."""
        if tries >= MOST_TRIES:
            self.held_back += 1
            return False
        self.remeasured += 1
        time.sleep(self.rest_s)
        return True

    @property
    def clocks(self) -> Clocks:
        """All that was seen."""
        if self.read is None:
            return Clocks(f"clocks were not watched: {self.why_not}")
        return Clocks(self._note(), tuple(self.states), self.remeasured, self.held_back)

    def _note(self) -> str:
        clocks = sorted({state.sm_mhz for state in self.states if state.sm_mhz is not None})
        ran = f"the card ran at {clocks[0]} to {clocks[-1]} MHz" if clocks else "the card does not tell its clocks"
        if not self.remeasured and not self.held_back:
            return f"{ran} and did not hold them back"
        reasons = sorted({reason for state in self.states for reason in state.reasons})
        kept = f"; {self.held_back} turns count though it did so to the last try" if self.held_back else ""
        return f"{ran}; {self.remeasured} turns were measured again because of {' and '.join(reasons)}{kept}"


class ProcessorWatch(CoreWatch):
    """A `CoreWatch` that tells a certificate what it saw."""

    @property
    def clocks(self) -> Clocks:
        """A note without states."""
        return Clocks(self.note)


def watch_for(cuda_index: int | None) -> ClockWatch | ProcessorWatch:
    """A watch for what runs on this card, by NVML, or on a processor (None), whose core something else may share.

    Where NVML cannot be asked, the watch says so and finds nothing spoilt.
    """
    if cuda_index is None:
        return ProcessorWatch()
    import torch  # here, since it takes seconds and a processor's watch needs none of it

    try:
        import pynvml
    except ImportError:
        return ClockWatch(None, "nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(cuda_index).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    except pynvml.NVMLError as error:
        return ClockWatch(None, f"NVML does not answer: {error}")
    return ClockWatch(lambda: read_state(pynvml, handle))


def read_state(nvml: ModuleType, handle: Any) -> State:
    """The card's state by NVML; a question that this card does not answer leaves None."""

    def ask(question: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, question)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):  # not supported by the card, or by this version of the package
            return None

    bits = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:  # its name in older packages and drivers
        bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    power_mw = ask("nvmlDeviceGetPowerUsage")
    return State(
        sm_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        memory_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        power_w=None if power_mw is None else power_mw / 1000,
        temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        reasons=tuple(name for bit, name in HOLDING_BACK.items() if bits is not None and bits & bit),
    )
