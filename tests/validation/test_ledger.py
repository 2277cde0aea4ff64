from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import RunError
from hwprune.validation.engine import EngineReport, Ratio
from hwprune.validation.ledger import Candidate, Ledger

TIMED = EngineReport(
    ok=True,
    error="",
    runtime="onnxruntime",
    device="cpu",
    precision="fp32",
    version="1.31.1",
    build_s=0.5,
    size_bytes=1000,
    activation_bytes=None,
    weight_bytes=900,
    samples_ms=(2.0, 1.0, 3.0),
    beside=Ratio((4.0, 4.0), (2.0, 1.0)),
)
BUILT = EngineReport(ok=True, error="", runtime="tensorrt_rtx", device="rtx3090", precision="fp16", path="a.engine")
CRASHED = replace(BUILT, ok=False, error="the builder crashed with SIGSEGV\nlast words", path=None)
FIRST = Candidate("milestone-1", 1, {"a": 3, "b": 7}, 2.5, 1000, 50, 400, engines=(TIMED, BUILT))
SECOND = Candidate("milestone-2", 2, {"a": 2, "b": 7}, 2.0, 900, 40, 300, 1.9, 4.0, 0.47, 2.2, engines=(TIMED, CRASHED))

NUMBER = st.none() | st.floats(0, 1e6)
TEXT = st.text(st.characters(codec="utf-8"))
REPORTS = st.builds(
    EngineReport,
    ok=st.booleans(),
    error=TEXT,
    runtime=TEXT,
    device=TEXT,
    precision=TEXT,
    version=TEXT,
    build_s=NUMBER,
    size_bytes=st.none() | st.integers(0, 2**60),
    samples_ms=st.lists(st.floats(0, 1e6)).map(tuple),
    path=st.none() | TEXT,
    beside=st.none() | st.builds(Ratio, st.just((1.0, 2.0)), st.just((0.5, 1.5))),
)
CANDIDATES = st.builds(
    Candidate,
    id=TEXT,
    milestone=st.integers(0, 100),
    widths=st.dictionaries(TEXT, st.integers(1, 4096), max_size=4),
    predicted_ms=st.floats(0, 1e6),
    macs=st.integers(0, 2**60),
    parameters=st.integers(0, 2**60),
    activation_bytes=st.integers(0, 2**60),
    measured_ms=NUMBER,
    dense_ms=NUMBER,
    ratio=NUMBER,
    p95_ms=NUMBER,
    engines=st.lists(REPORTS, max_size=2).map(tuple),
    time=TEXT,
)


@given(candidates=st.lists(CANDIDATES, max_size=3, unique_by=lambda c: c.id))
def test_what_was_appended_comes_back_from_the_file(
    candidates: list[Candidate], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.parquet"
    for candidate in candidates:
        Ledger(path).append(candidate)

    assert Ledger(path).candidates == tuple(candidates)


def test_a_candidate_that_is_tried_again_replaces_its_entry_in_place(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.parquet")
    again = replace(FIRST, measured_ms=1.5, engines=(TIMED,))
    for candidate in (FIRST, SECOND, again):
        ledger.append(candidate)

    assert ledger.candidates == Ledger(ledger.path).candidates == (again, SECOND)


def test_whether_every_candidate_has_an_engine_is_one_question(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.parquet")
    assert not ledger.all_built("onnxruntime"), "an empty ledger shows nothing"
    ledger.append(FIRST)
    assert ledger.all_built("onnxruntime") and ledger.all_built("tensorrt_rtx")
    ledger.append(SECOND)
    assert ledger.all_built("onnxruntime") and not ledger.all_built("tensorrt_rtx")
    ledger.append(replace(SECOND, engines=(BUILT,)))
    assert not ledger.all_built("onnxruntime") and ledger.all_built("tensorrt_rtx")


def test_the_frame_has_a_row_per_candidate_and_engine(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.parquet")
    for candidate in (FIRST, SECOND, replace(FIRST, id="unbuilt", engines=())):
        ledger.append(candidate)
    frame = ledger.frame()

    assert list(frame["candidate"]) == ["milestone-1"] * 2 + ["milestone-2"] * 2 + ["unbuilt"]
    assert frame.groupby("candidate")["ok"].sum().to_dict() == {"milestone-1": 2, "milestone-2": 1, "unbuilt": 0}
    assert frame["measured_ms"].isna().sum() == 3 and frame["predicted_ms"].dtype == float


@pytest.mark.parametrize("damage", ["cut off", "empty", "not Parquet", "another table", "another schema"])
def test_a_damaged_file_is_refused_and_left_as_it_is(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    Ledger(path).append(FIRST)
    if damage == "another table":
        pq.write_table(pa.table({"x": [1]}), path)
    elif damage == "another schema":
        pq.write_table(pq.read_table(path).replace_schema_metadata({"hwprune.ledger": "99"}), path)
    else:
        path.write_bytes({"cut off": path.read_bytes()[:-20], "empty": b""}.get(damage, b"PAR1 or not"))
    before = path.read_bytes()

    with pytest.raises(RunError, match="the ledger cannot be read") as caught:
        Ledger(path)
    assert str(path) in str(caught.value) and path.read_bytes() == before
