from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import EngineError
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.engine import EngineReport, Ratio, build_engine, measure_ratio
from tests.tiny import heed_ctrl_c
from tests.validation.networks import two_convolutions

CPU = RuntimeSpec("onnxruntime", "cpu")
RTX3090 = RuntimeSpec("tensorrt_rtx", "rtx3090")
CHILDREN = "tests.validation.children"
MILLISECONDS = st.floats(0.001, 1e4)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_convolutions(tmp_path_factory.mktemp("onnx") / "dense.onnx", (16, 16))


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hanging children tell their process numbers."""
    monkeypatch.setenv("HANGING", str(tmp_path / "pids"))
    return tmp_path / "pids"


def ended(pid: int, *, within_s: float = 20.0) -> bool:
    """Whether the process is gone, or dead and not yet collected, before long."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def told(path: Path, process: subprocess.Popen[bytes]) -> list[int]:
    """The numbers in the file, once it is there."""
    while not path.exists():
        assert process.poll() is None, "it ended before it told its numbers"
        time.sleep(0.05)
    return [int(pid) for pid in path.read_text().split()]


def test_an_engine_is_built_and_timed_beside_the_dense_one(dense: Path, tmp_path: Path) -> None:
    small = two_convolutions(tmp_path / "small.onnx", (8, 6))

    report = build_engine(small, CPU, out=tmp_path / "engine", beside=dense)

    assert report.ok and report.error == "" and report.timed
    assert (report.runtime, report.device, report.precision) == ("onnxruntime", "cpu", "fp32")
    assert report.size_bytes == small.stat().st_size and report.build_s is not None
    assert report.path is None and not (tmp_path / "engine").exists(), "ONNX Runtime has no engine file"
    assert len(report.samples_ms) >= 10 and report.median_ms is not None and report.p95_ms is not None
    assert 0 < report.median_ms <= report.p95_ms
    assert report.beside is not None and report.beside.dense_ms > 0 and report.beside.candidate_ms > 0
    assert EngineReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_an_engine_for_a_card_that_is_not_here_is_built_saved_and_not_timed(dense: Path, tmp_path: Path) -> None:
    report = build_engine(dense, RTX3090, out=tmp_path / "made" / "dense.engine", beside=dense)

    assert report.ok, report.error
    assert (report.runtime, report.device) == ("tensorrt_rtx", "rtx3090")
    assert report.path == str(tmp_path / "made" / "dense.engine")
    assert Path(report.path).stat().st_size == report.size_bytes
    if not report.timed:
        assert report.median_ms is None and report.beside is None


def test_a_crash_is_reported_with_its_signal_and_log(dense: Path) -> None:
    report = build_engine(dense, CPU, child=f"{CHILDREN}.aborts")

    assert not report.ok
    assert report.error == "the builder crashed with SIGABRT\nchoosing kernels"


def test_a_failing_child_is_reported_with_its_exit_code(dense: Path) -> None:
    report = build_engine(dense, CPU, child=f"{CHILDREN}.does_not_exist")

    assert not report.ok
    assert report.error.startswith("the builder failed with exit code 1") and "does_not_exist" in report.error


def test_half_an_answer_is_no_engine(dense: Path) -> None:
    report = build_engine(dense, CPU, child=f"{CHILDREN}.says_nonsense")

    assert not report.ok and "without a whole answer" in report.error


def test_a_hang_is_ended_with_all_that_it_started(dense: Path, hanging: Path) -> None:
    report = build_engine(dense, CPU, timeout_s=3.0, child=f"{CHILDREN}.hangs")

    assert not report.ok and report.error == "no engine after 3 s; the builder was stopped"
    assert all(ended(int(pid)) for pid in hanging.read_text().split())


BUILD = """
import sys
from pathlib import Path
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.engine import build_engine
build_engine(Path(sys.argv[1]), RuntimeSpec("onnxruntime", "cpu"), child=sys.argv[2])
"""


@pytest.mark.parametrize(
    ("child", "how"), [("hangs", signal.SIGINT), ("loses_its_parent", signal.SIGKILL)], ids=["Ctrl-C", "kill"]
)
def test_the_child_ends_with_its_parent(dense: Path, hanging: Path, child: str, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(dense), f"{CHILDREN}.{child}"],
        env=environment,
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_ctrl_c,
    )
    try:
        pids = told(hanging, parent)
        parent.send_signal(how)
        parent.wait(20)
    finally:
        parent.kill()
        parent.wait()

    assert parent.returncode != 0
    assert all(ended(pid) for pid in pids)


def test_a_runtime_that_cannot_be_opened_stops_the_run(dense: Path) -> None:
    with pytest.raises(EngineError, match="no runtime 'fortran'"):
        build_engine(dense, RuntimeSpec("fortran", "cpu"))


def test_the_ratio_of_an_engine_and_itself_is_made_of_no_more_blocks_than_allowed(dense: Path) -> None:
    runtime = CPU.open()
    with closing(runtime.build_onnx(dense)) as first, closing(runtime.build_onnx(dense)) as second:
        ratio = measure_ratio(first, second, blocks=3, most_blocks=3)

    assert len(ratio.dense_blocks_ms) == len(ratio.candidate_blocks_ms) == 3
    assert ratio.ratio > 0


@given(
    blocks=st.lists(MILLISECONDS, min_size=1, max_size=9),
    factor=st.floats(0.1, 10),
    drift=st.lists(st.floats(0.5, 2), min_size=9, max_size=9),
)
def test_drift_that_hits_neighbours_alike_leaves_the_ratio_alone(
    blocks: list[float], factor: float, drift: list[float]
) -> None:
    dense_ms = tuple(b * d for b, d in zip(blocks, drift, strict=False))

    assert Ratio(dense_ms, tuple(factor * b for b in dense_ms)).ratio == pytest.approx(factor)
