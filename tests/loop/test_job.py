"""What the steps of a run share: the inputs that its quantised engines find their scales with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hwprune
from hwprune.loop.job import Job
from hwprune.loop.reporter import Reporter, Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.run import Run
from hwprune.runtimes.calibration import Calibration
from hwprune.runtimes.select import RUNTIMES, RuntimeSpec, _installed, with_files
from hwprune.validation.engine import build_engine
from tests import tiny


def job(folder: Path, precision: str, reporter: Reporter | None = None, importance_batches: int = 8) -> Job:
    folder.mkdir(exist_ok=True)
    data = hwprune.load_data(tiny.save_pictures(folder / "pictures.npz", count=200), batch_size=16)
    settings = Settings(
        "60%", device="rtx3090", runtime="tensorrt_rtx", precision=precision, importance_batches=importance_batches
    )
    shape = (3, tiny.SIDE, tiny.SIDE)
    subject = Subject(tiny.network(), shape, settings, folder / "run", reporter or Silent())
    return Job(subject, data, Run.create(folder / "run", settings.as_json()), folder / "table.parquet")


def test_quantised_engines_get_training_inputs_once_for_a_run(tmp_path: Path) -> None:
    first = job(tmp_path, "int8")
    spec = first.subject.spec
    assert "random" in Calibration(Path(spec.calibration)).describe(), "nothing is there before the run has begun"

    first.keep_calibration()
    written = Path(spec.calibration).read_bytes()
    first.keep_calibration()
    inputs = {"x": ((16, 3, tiny.SIDE, tiny.SIDE), np.dtype(np.float32))}
    batches = [batch["x"] for batch in Calibration(Path(spec.calibration)).batches(inputs)]
    expected = [batch.numpy() for batch, _ in first.data.calibration.epoch(0)][:4]

    assert Path(spec.calibration).read_bytes() == written
    assert Calibration(Path(spec.calibration)).describe().startswith("64 inputs")
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(expected))
    assert not (Run.create(tmp_path / "run", {}, force=True).path / "calibration.npz").exists(), "a new run, new inputs"


def test_other_precisions_need_none(tmp_path: Path) -> None:
    other = job(tmp_path, "fp16")
    other.keep_calibration()

    assert other.subject.spec.calibration == ""
    assert not (tmp_path / "run" / "calibration.npz").exists()


@pytest.mark.skipif(not _installed(RUNTIMES["tensorrt_rtx"]), reason="tensorrt_rtx is not installed")
def test_a_child_process_builds_with_the_inputs_of_the_run(tmp_path: Path) -> None:
    ours = job(tmp_path, "int8")
    ours.keep_calibration()
    ours.subject.dense_onnx.write_bytes(ours.subject.exported)
    engine = tmp_path / "engine"
    report = build_engine(ours.subject.dense_onnx, ours.subject.spec, out=engine)
    Path(ours.subject.spec.calibration).write_bytes(b"damaged")
    failed = build_engine(ours.subject.dense_onnx, ours.subject.spec)

    assert report.ok, report.error
    assert (report.precision, report.timed, engine.stat().st_size) == ("int8", False, report.size_bytes)
    assert not failed.ok
    assert "calibration" in failed.error


def test_the_reporter_hears_of_every_batch_that_importance_reads(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    class Listening(Silent):
        def advance(self, done: int, total: int, remaining_s: float | None = None) -> None:
            heard.append((done, total))

    few, all_there = (job(tmp_path / str(wanted), "fp16", Listening(), wanted) for wanted in (3, 1000))
    whole = len(all_there.data.calibration)

    before = [len(heard) for _ in few.importance_batches(0)]
    assert before == [1, 2, 3], "of each before it is used"
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]
    heard.clear()
    assert len(list(all_there.importance_batches(0))) == whole
    assert heard == [(number, whole) for number in range(whole + 1)], "the data has no more"


def test_only_tensorrt_keeps_timings_beside_a_run(tmp_path: Path) -> None:
    assert with_files(RuntimeSpec("tensorrt", "cuda"), tmp_path).timing_cache == str(tmp_path / "timing.cache")
    assert with_files(RuntimeSpec("onnxruntime", "cpu"), tmp_path) == RuntimeSpec("onnxruntime", "cpu")
