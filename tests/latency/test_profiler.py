"""Profiling with the real ONNX Runtime: what is measured, what a kill loses, and what is not measured twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwprune.device import resolve
from hwprune.errors import DeviceError, ProfileError
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency.entry import Entry
from hwprune.latency.predictor import Predictor
from hwprune.latency.profiler import SECOND_BLOCKS, is_noisy, open_table, profile, wanted_layers
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from hwprune.runtimes.base import Engine
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests.latency.rows import entry

pytest.importorskip("onnxruntime", exc_type=ImportError)
from hwprune.runtimes.onnxruntime import OnnxRuntime

CONV = Layer("conv", 16, 16, size=(8, 8), kernel=(3, 3), stride=(1, 1), padding=(1, 1), out_size=(8, 8))
ADD = Layer("add", 16, 16, size=(8, 8), out_size=(8, 8))
LINEAR = Layer("linear", 16, 10, variant="bias")
MANY = [CONV.at(16, c_out) for c_out in range(1, 61)]
ROOT = Path(__file__).parents[2]


class Counting(OnnxRuntime):
    """ONNX Runtime that remembers how many engines it made."""

    built = 0

    def build_onnx(self, model: bytes | Path) -> Engine:  # type: ignore[override]
        """An engine, counted."""
        self.built += 1
        return super().build_onnx(model)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyTable]:
    """Three tiny layers, measured."""
    path = tmp_path_factory.mktemp("profile") / "t.parquet"
    yield profile([CONV, ADD, LINEAR], OnnxRuntime(), path, device=resolve("cpu"))


def test_every_layer_asked_for_is_measured(profiled: LatencyTable) -> None:
    assert {layer for layer, _ in profiled.rows} == {CONV, ADD, LINEAR}
    assert [profiled.lookup(layer).context for layer in (CONV, ADD, LINEAR)] == ["framed", "framed", "alone"]
    assert profiled.lookup(CONV).frame_ratio > 0
    assert all(profiled.ms(layer) > 0 for layer in (CONV, ADD, LINEAR))
    assert len(LatencyTable.load(profiled.source)) == 3


def test_the_memory_that_the_runtime_told_is_kept(profiled: LatencyTable) -> None:
    assert profiled.lookup(LINEAR).activation_bytes == OnnxRuntime().build_onnx(_onnx(LINEAR)).memory().activation_bytes


def test_a_table_says_what_it_belongs_to(profiled: LatencyTable) -> None:
    assert profiled.fingerprint["device"] == "cpu"
    assert profiled.fingerprint["runtime"] == "onnxruntime"
    assert {"cpu", "version", "precision", "threads", "reference"} <= set(profiled.fingerprint)


def test_what_is_measured_already_is_not_measured_again(profiled: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    calm = [replace(e, samples_ms=(1.0, 1.0), reference_ms=(1.0, 1.0)) for e in profiled.rows.values()]
    replace(profiled, rows={e.row: e for e in calm}).save(path)
    runtime = Counting()
    again = profile([CONV, ADD, LINEAR], runtime, path)

    assert dict(again.rows) == {e.row: e for e in calm}
    assert runtime.built == 1  # the reference


def test_a_measurement_that_scatters_is_settled_by_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    scattered = replace(entry(LINEAR, 1.0), samples_ms=(1.0, 2.0, 3.0))
    open_table(OnnxRuntime(), path).add([scattered]).save(path)
    table = profile([LINEAR], OnnxRuntime(), path)

    assert is_noisy(scattered)
    assert len(table.lookup(LINEAR).samples_ms) == SECOND_BLOCKS
    assert not is_noisy(table.lookup(LINEAR))


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    profile([CONV, ADD], OnnxRuntime(), tmp_path / "t.parquet", on_progress=lambda *args: seen.append(args))

    assert seen[:2] == [(1, 2, seen[0][2]), (2, 2, 0.0)]


def test_a_spent_budget_keeps_what_there_is(tmp_path: Path) -> None:
    table = profile(MANY, OnnxRuntime(), tmp_path / "t.parquet", budget_s=0.3)

    assert 0 < len(table) < len(MANY)
    assert len(LatencyTable.load(tmp_path / "t.parquet")) == len(table)


def test_ctrl_c_leaves_everything_measured_in_the_file(tmp_path: Path) -> None:
    def interrupt(done: int, total: int, eta_s: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(MANY, OnnxRuntime(), tmp_path / "t.parquet", flush_s=1e9, on_progress=interrupt)

    assert len(LatencyTable.load(tmp_path / "t.parquet")) == 3


def test_a_layer_that_cannot_be_built_loses_nothing_measured_before(tmp_path: Path) -> None:
    path, done = tmp_path / "t.parquet", [0]
    unknown = Layer("activation", 8, 8, size=(4, 4), variant="frobnicate")

    with pytest.raises(ProfileError, match="frobnicate"):
        profile([unknown, *MANY[:9]], OnnxRuntime(), path, on_progress=lambda *args: done.append(args[0]))

    assert (len(LatencyTable.load(path)) if path.exists() else 0) == done[-1] > 0


def test_a_killed_profiler_resumes_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    code = (
        "import sys; from pathlib import Path; from hwprune.latency.profiler import profile;"
        "from tests.latency.test_profiler import MANY, OnnxRuntime;"
        "profile(MANY, OnnxRuntime(), Path(sys.argv[1]), flush_s=0.1)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    patience = time.monotonic() + 120
    while not path.exists() and child.poll() is None and time.monotonic() < patience:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = LatencyTable.load(path)
    calm = [layer for layer, _ in before.rows if not is_noisy(before.lookup(layer))]
    after = profile(MANY, OnnxRuntime(), path)

    assert child.returncode == -signal.SIGKILL
    assert 0 < len(before) < len(MANY)
    assert {layer for layer, _ in after.rows} == set(MANY)
    assert all(after.lookup(layer) == before.lookup(layer) for layer in calm)


def test_a_device_that_is_not_here_cannot_be_profiled(tmp_path: Path) -> None:
    class Elsewhere(OnnxRuntime):
        can_time = False  # type: ignore[assignment]

    with pytest.raises(DeviceError, match="not in this machine"):
        profile([CONV], Elsewhere(), tmp_path / "t.parquet")


def test_a_table_of_other_hardware_is_refused(profiled: LatencyTable, tmp_path: Path) -> None:
    other = replace(profiled, fingerprint={**profiled.fingerprint, "cpu": "a slide rule"})
    other.save(tmp_path / "t.parquet")

    with pytest.raises(ProfileError, match="a slide rule"):
        profile([CONV], OnnxRuntime(), tmp_path / "t.parquet", device=resolve("cpu"))


def test_a_runtime_without_onnx_measures_modules(tmp_path: Path) -> None:
    table = profile([CONV, LINEAR], PyTorchRuntime("cpu"), tmp_path / "t.parquet")

    assert {e.context for e in table.rows.values()} == {"alone"}


def test_a_profile_has_all_that_a_prediction_asks_for(tmp_path: Path) -> None:
    width = WidthOf(0, (("a", 1),))
    layers = [NetworkLayer("0", CONV.at(3, 16), WidthOf(3), width), NetworkLayer("2", CONV, width, WidthOf(16))]
    table = profile(wanted_layers(layers, {"a": (8, 16)}), OnnxRuntime(), tmp_path / "t.parquet")
    predictor = Predictor(table, layers)

    for a in (8, 16):
        expected = table.ms(CONV.at(3, a)) + table.ms(CONV.at(a, 16))
        assert predictor.predict_ms({"a": a}) == pytest.approx(expected)


def _onnx(layer: Layer) -> bytes:
    from hwprune.latency.isolated import layer_onnx

    return layer_onnx(layer)


def test_entries_keep_every_sample(profiled: LatencyTable) -> None:
    found: Entry = profiled.lookup(CONV)

    assert len(found.samples_ms) == len(found.reference_ms) >= 5
