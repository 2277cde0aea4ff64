"""What NVML answers becomes states, and a card that holds its clocks back is given another turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hwprune.clocks import MOST_TRIES, Clocks, ClockWatch, State, read_state, watch_for
from hwprune.contention import CoreWatch
from hwprune.timing import interleave

CALM = State(1980, 3201, 350.5, 61)
HOT = State(1400, 3201, 690.0, 88, ("hardware thermal slowdown",))


class Steady:
    """An engine whose runs take ever longer by 1 ms, so that every block is known by its time."""

    def __init__(self) -> None:
        self.calls = 0

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        self.calls += 1
        return (1.0,) * repeats


def watching(*states: State) -> tuple[ClockWatch, Callable[[], int]]:
    """A watch that sees these states, then calm ones; and how many were asked for."""
    left, asked = list(states), [0]

    def read() -> State:
        asked[0] += 1
        return left.pop(0) if left else CALM

    return ClockWatch(read, rest_s=0.0), lambda: asked[0]


def test_the_card_is_looked_at_before_each_turn_and_after_each_block() -> None:
    watch, asked = watching()
    medians = interleave([Steady(), Steady()], blocks=4, watch=watch)

    assert [len(found) for found in medians] == [4, 4]
    assert asked() == 4 * 3
    assert watch.clocks == Clocks("the card ran at 1980 to 1980 MHz and did not hold them back", (CALM,) * 12)


def test_a_turn_in_which_the_card_held_back_is_measured_again() -> None:
    watch, asked = watching(CALM, HOT, CALM)  # after the first block of the first turn
    engines = [Steady(), Steady()]
    medians = interleave(engines, blocks=2, watch=watch)

    assert [len(found) for found in medians] == [2, 2]
    assert asked() == 3 * 3 and watch.clocks.remeasured == 1 and watch.clocks.held_back == 0
    assert engines[0].calls == 2 + 3, "an estimate, a warm-up and three blocks"
    assert "1 turns were measured again because of hardware thermal slowdown" in watch.clocks.note


def test_a_card_that_always_holds_back_is_told_and_not_waited_for_without_end() -> None:
    watch, asked = watching(*[HOT] * 100)
    medians = interleave([Steady(), Steady()], blocks=2, watch=watch)

    assert [len(found) for found in medians] == [2, 2]
    assert asked() == 2 * (MOST_TRIES + 2), "a turn begins when the card is calm, or as the last try"
    assert watch.clocks.held_back == 2 and "2 turns count though it did so" in watch.clocks.note


class Error(Exception):
    """As NVML raises."""


def nvml(**answers: Any) -> ModuleType:
    """A library that answers these questions and refuses the rest."""

    def refuse(*_: object) -> None:
        raise Error("Not Supported")

    known = {name: (lambda *_, value=value: value) for name, value in answers.items()}
    names = (
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperature",
    )
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0, "NVMLError": Error}
    return SimpleNamespace(**{**dict.fromkeys(names, refuse), **known, **constants})  # type: ignore[return-value]


def test_states_have_the_units_and_reasons_of_nvml() -> None:
    state = read_state(
        nvml(
            nvmlDeviceGetCurrentClocksEventReasons=0x01 | 0x04 | 0x40,  # idle is no reason
            nvmlDeviceGetPowerUsage=350500,
            nvmlDeviceGetClockInfo=1980,
            nvmlDeviceGetTemperature=61,
        ),
        handle=None,
    )

    assert state == State(1980, 1980, 350.5, 61, ("power cap", "hardware thermal slowdown"))


def test_older_drivers_are_asked_by_the_older_name_and_missing_answers_stay_unknown() -> None:
    assert read_state(nvml(nvmlDeviceGetCurrentClocksThrottleReasons=0x08), None).reasons == ("hardware slowdown",)
    assert read_state(nvml(), None) == State(None, None, None, None)


def test_what_was_seen_comes_back_from_json() -> None:
    watch, _ = watching(CALM, HOT)
    interleave([Steady(), Steady()], blocks=1, watch=watch)

    assert Clocks.from_dict(watch.clocks.as_dict()) == watch.clocks


def test_where_nvml_cannot_be_asked_nothing_is_spoilt_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it was not installed
    watch = watch_for(0)

    assert isinstance(watch, ClockWatch) and watch.look() and watch.states == []
    assert watch.clocks.as_dict() == {"note": "clocks were not watched: nvidia-ml-py is not installed"}


def test_a_processor_is_watched_for_what_shares_its_core() -> None:
    watch = watch_for(None)
    interleave([Steady(), Steady()], blocks=2, watch=watch)

    assert isinstance(watch, CoreWatch)
    assert watch.clocks == Clocks(watch.note) and "processor core" in watch.clocks.note
