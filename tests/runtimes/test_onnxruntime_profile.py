"""What is read from a profile of ONNX Runtime, on profiles written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from hwprune.errors import EngineError
from hwprune.runtimes.base import LayerTime
from hwprune.runtimes.onnxruntime_profile import TRIMMED, profile


class Session:
    """Writes a profile in which run after run has these events (name, µs)."""

    def __init__(self, runs: list[list[tuple[str, int]]], prefix: str) -> None:
        self.left, self.events, self.file = list(runs), list[dict[str, object]](), Path(f"{prefix}.json")

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> None:
        for name, us in self.left.pop(0):
            event = {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"parameter_size": "0"}}
            self.events.append(event)

    def end_profiling(self) -> str:
        self.file.write_text(json.dumps(self.events))
        return str(self.file)


def times(runs: list[list[tuple[str, int]]]) -> list[LayerTime]:
    """Of all runs but the first."""
    found, _ = profile(lambda _, profile_prefix: Session(runs, profile_prefix), b"", {}, repeats=len(runs) - 1)
    return found


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=40))
def test_a_kernel_takes_the_mean_of_its_middle_runs_and_the_first_run_does_not_count(us: list[tuple[int, int]]) -> None:
    runs = [[("conv", one), ("relu", other)] for one, other in [(99_999, 99_999), *us]]

    found = times(runs)

    assert [layer.name for layer in found] == ["conv", "relu"]
    assert [layer.median_ms for layer in found] == pytest.approx(list(trim_mean(us, TRIMMED, axis=0) / 1000))


def test_runs_of_unequal_length_are_refused() -> None:
    with pytest.raises(EngineError, match="runs of unequal length"):
        times([[("conv", 1), ("relu", 1)], [("conv", 1), ("relu", 1)], [("conv", 1)]])
