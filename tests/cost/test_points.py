"""Networks and their figures out of other people's tables."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest

from hwprune.cost.points import read_points
from hwprune.errors import HwpruneError

TIMM = """model,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts
resnet50.a1_in1k,2000.0,512.0,1024,25.56,4.11,11.11
vit_small_patch16_224.augreg,2000.0,512.0,1024,22.05,4.25,10.92
resnet18.a1_in1k,4000.0,256.0,1024,11.69,1.82,2.48
regnety_002.pycls_in1k,9000.0,100.0,1024,3.16,0.2,
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_a_benchmark_file_of_timm_is_read_as_it_is_without_its_transformers(tmp_path: Path) -> None:
    first, second = read_points(_file(tmp_path, TIMM))

    assert (first.name, first.family) == ("resnet50.a1_in1k", "resnet")
    assert first.macs == pytest.approx(4.11e9)
    assert first.activations == pytest.approx(11.11e6)
    assert first.parameters == pytest.approx(25.56e6)
    assert (first.latency_ms, second.latency_ms) == (0.5, 0.25)
    assert isnan(first.memory_bytes)
    assert len(read_points(tmp_path / "table.csv", convolutional=False)) == 3


def test_a_table_in_the_manner_of_pycls_is_read_by_its_heads(tmp_path: Path) -> None:
    text = "model,flops (B),params (M),acts (M),infer (ms)\nRegNetX-200MF,0.2,2.7,2.2,10\n"
    (point,) = read_points(_file(tmp_path, text))

    assert (point.macs, point.parameters, point.activations, point.latency_ms) == (0.2e9, 2.7e6, 2.2e6, 10)


def test_any_other_table_is_read_by_the_columns_that_the_user_names(tmp_path: Path) -> None:
    columns = {"name": "net", "latency_ms": "time/batch", "macs": "work*1e6", "memory_bytes": "peak", "base": "of"}
    text = "net,time,batch,work,peak,of\nsmall,8,4,2,100,big\nbig,40,4,3,200,big\nbroken,,4,3,200,\n"
    small, big = read_points(_file(tmp_path, text), columns)

    assert (small.latency_ms, small.macs, small.memory_bytes, small.base) == (2.0, 2e6, 100.0, "big")
    assert (big.latency_ms, big.family) == (10.0, "big")


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("a,b\n1,2\n", {}, "no column for name, latency_ms"),
        ("name,latency_ms\nx,1\n", {"macs": "gmacs"}, "no column 'gmacs'"),
        ("name,latency_ms\nx,1\n", {"macs": "latency_ms/batch"}, "no column 'batch'"),
        ("name,latency_ms\nx,1\n", {"colour": "name"}, "no field colour"),
        ("name,latency_ms\nx,0\n", {}, "no network with a latency"),
        ("", {}, "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, text: str, columns: dict[str, str], words: str) -> None:
    with pytest.raises(HwpruneError, match=words):
        read_points(_file(tmp_path, text), columns)
    with pytest.raises(HwpruneError, match="cannot be read"):
        read_points(tmp_path / "nothing.csv")
