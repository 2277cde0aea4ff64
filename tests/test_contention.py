"""Blocks are measured while nothing else runs on the core, as long as that can be waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwprune.contention import PATIENCE, PATIENCE_S, QUICKEST, TIMES, CoreWatch, loop_ms, quickest_ms
from hwprune.errors import HwpruneError
from hwprune.timing import interleave, measure_paired

LOOP_MS = 1.0


@dataclass
class Core:
    """A core in simulated time, on which a neighbour runs in the seconds that ``shared`` says."""

    shared: Callable[[float], bool]
    now_s: float = 0.0

    def run(self, alone_ms: float, slowdown: float) -> float:
        """Work that takes so long alone, and so much longer beside the neighbour; returns ms."""
        taken_ms = alone_ms * (slowdown if self.shared(self.now_s) else 1.0)
        self.now_s += taken_ms / 1000
        return taken_ms

    def watch(self, slowdown: float = 1.9) -> CoreWatch:
        return CoreWatch(loop_ms=lambda: self.run(LOOP_MS, slowdown), now=lambda: self.now_s)


@dataclass
class Engine:
    core: Core
    alone_ms: float
    slowdown: float

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        runs = [self.core.run(self.alone_ms, self.slowdown) for _ in range(warmup + repeats)]
        return tuple(runs[warmup:])


def pair(core: Core) -> tuple[Engine, Engine]:
    """A dense engine, and one of half of its latency that a neighbour slows down more."""
    return Engine(core, 1.0, 1.1), Engine(core, 0.5, 1.5)


def ratio(core: Core, watch: CoreWatch | None) -> float:
    dense, pruned = interleave(pair(core), blocks=20, watch=watch)
    ratios = sorted(p / d for d, p in zip(dense, pruned, strict=True))
    return ratios[len(ratios) // 2]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """How quick the loop is on the simulated core, and how long it is waited for."""
    monkeypatch.setenv(QUICKEST, str(LOOP_MS))
    monkeypatch.delenv(TIMES)


def test_a_neighbour_that_comes_and_goes_does_not_change_the_ratio() -> None:
    def more_than_half_of_the_time(now_s: float) -> bool:
        return now_s % 1 > 0.3

    assert ratio(Core(more_than_half_of_the_time), None) > 0.6, "by turns alone it does"
    core = Core(more_than_half_of_the_time)
    watch = core.watch()
    assert ratio(core, watch) == pytest.approx(0.5)
    assert watch.shared == 0 and 0 < watch.waited_s < core.now_s
    assert watch.note == f"{watch.waited_s:.1f} s were waited for other work on the processor core to end"


@pytest.mark.parametrize(("slowdown", "waits"), [(1.2, False), (1.4, True)])
def test_a_neighbour_is_told_from_a_lower_clock(slowdown: float, waits: bool) -> None:
    core = Core(lambda now_s: now_s % 1 > 0.3)
    watch = core.watch(slowdown)
    measured = ratio(core, watch)

    assert (watch.waited_s > 0) is waits
    assert (measured == pytest.approx(0.5)) is waits


def test_blocks_beside_the_reference_are_measured_again_too() -> None:
    def paired(core: Core, watch: CoreWatch | None) -> tuple[float, ...]:
        reference, engine = pair(core)
        return measure_paired(engine, reference, blocks=15, watch=watch).ratios

    core = Core(lambda now_s: now_s % 0.2 > 0.08)
    assert max(paired(Core(core.shared), None)) > 0.6
    assert paired(core, core.watch()) == pytest.approx([0.5] * 15)


@example(begins=0.0, lasts=0.46875, every=0.5, blocks=1)  # often free for a moment, never for a turn
@given(begins=st.floats(0, 3), lasts=st.floats(0.1, 60), every=st.floats(0.5, 90), blocks=st.integers(1, 10))
def test_waiting_has_an_end(begins: float, lasts: float, every: float, blocks: int) -> None:
    os.environ[QUICKEST] = str(LOOP_MS)
    core = Core(lambda now_s: now_s > begins and (now_s - begins) % every < lasts)
    medians = interleave(pair(core), blocks=blocks, watch=core.watch())

    assert [len(one) for one in medians] == [blocks, blocks]
    undisturbed_s = 1.6 * 0.055 * (blocks + 2)  # as if all had been slow, and with the warm-up
    assert core.now_s <= PATIENCE_S + (1 + PATIENCE) * undisturbed_s + 1


def test_a_core_that_is_never_free_is_told() -> None:
    core = Core(lambda _: True)
    watch = core.watch()
    assert ratio(core, watch) == pytest.approx(0.5 * 1.5 / 1.1)
    assert watch.shared == 20 and watch.waited_s > PATIENCE_S
    assert "20 turns count though it shared the core" in watch.note
    assert quickest_ms() == LOOP_MS, "it may be free again when something else is measured"


@pytest.mark.parametrize(("times", "least_s", "most_s"), [("0", 0, 0.2), ("0.1", 3, 5), ("2", 60, 70)])
def test_the_user_says_how_long_a_shared_core_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, times: str, least_s: float, most_s: float
) -> None:
    monkeypatch.setenv(TIMES, times)
    core, unwatched = Core(lambda _: True), Core(lambda _: True)
    watch = core.watch()
    ratio(core, watch)
    ratio(unwatched, None)

    assert least_s <= core.now_s - unwatched.now_s <= most_s
    assert watch.shared == 20


@pytest.mark.parametrize("times", ["", "long", "-1", "nan", "inf"])
def test_a_patience_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, times: str) -> None:
    monkeypatch.setenv(TIMES, times)
    with pytest.raises(HwpruneError, match=rf"\$HWPRUNE_PATIENCE is '{times}'"):
        Core(lambda _: False).watch()


def test_a_loop_quicker_than_any_before_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUICKEST, "1.2")
    assert Core(lambda _: False).watch().look()
    assert quickest_ms() == pytest.approx(LOOP_MS)


def test_child_processes_know_the_quickest_loop() -> None:
    script = "from hwprune.contention import quickest_ms; print(quickest_ms())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(told.stdout) == LOOP_MS


def test_a_process_that_knows_nothing_tries_the_loop_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUICKEST)
    assert quickest_ms() == float("inf")
    watch = CoreWatch()
    assert watch.note == "no other work was seen on the processor core"
    assert 0 < quickest_ms() < 10 * loop_ms()
