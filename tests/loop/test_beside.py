"""Cuts timed by turns with the dense network: how many engines are built, and that all are closed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from hwprune.loop.beside import BLOCKS, PASSES_OF_SHORT, Beside
from hwprune.loop.prediction import measure_settings
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.runtimes.base import Engine
from hwprune.runtimes.onnxruntime import OnnxRuntime
from tests import tiny


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    settings = Settings("100%", runtime="onnxruntime", multiple=8)
    return Subject(tiny.network(), (3, tiny.SIDE, tiny.SIDE), settings, tmp_path, Silent(), tiny.REFERENCE)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Every engine that is built from now on."""
    found: list[Engine] = []
    build = OnnxRuntime.build_onnx

    def kept(self: OnnxRuntime, model: bytes) -> Engine:
        found.append(build(self, model))
        return found[-1]

    monkeypatch.setattr(OnnxRuntime, "build_onnx", kept)
    return found


def test_both_engines_are_built_anew_for_every_pair(subject: Subject, built: list[Engine]) -> None:
    with closing(Beside(subject)) as bench, bench.timed(subject.model, pairs=3) as (engine, turns):
        assert engine is built[-2]  # before its dense neighbour
        assert len(turns.ratio.dense_blocks_ms) == len(turns.ratio.candidate_blocks_ms) == 3 * BLOCKS
    assert len(built) == 6
    assert 0.3 < turns.ratio.ratio < 3  # a network beside itself


def test_where_building_takes_long_the_dense_engine_is_built_once(
    subject: Subject, built: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Beside, "_builds_slowly", True)
    with closing(Beside(subject)) as bench:
        assert (bench.passes, bench.pairs) == (1, 1)
        for _ in range(3):
            with bench.timed(subject.model):
                pass
    assert len(built) == 4


def test_what_was_measured_before_a_kill_is_not_measured_again(subject: Subject) -> None:
    settings, kept = subject.random_widths(2, seed=0), []
    whole = measure_settings(subject, settings, title="", keep=lambda ratios: kept.append(list(ratios)))

    assert [len(ratios) for ratios in kept] == list(range(1, 2 * PASSES_OF_SHORT + 1))
    assert measure_settings(subject, settings, title="", known=kept[-1]) == whole
    again: list[list[float]] = []
    measure_settings(subject, settings, title="", known=kept[-3], keep=lambda ratios: again.append(list(ratios)))
    assert [ratios[: len(kept[-3])] for ratios in again] == [kept[-3]] * 2
