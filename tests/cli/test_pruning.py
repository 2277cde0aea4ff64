"""``hwprune prune``: what cannot be done is said before or without losing anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from hwprune.device import resolve
from hwprune.latency.profiler import fingerprint_of
from hwprune.latency.table import LatencyTable
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests import tiny
from tests.cli.conftest import Cli, Finished, refused
from tests.latency.rows import CONV, entry


def test_json_is_one_document_and_nothing_else(shared: Finished) -> None:
    document = shared.outcome.document

    assert document["certificate"]["verdict"] in ("faster", "not faster")
    assert document["candidates"][-1]["ratio"] > 0
    assert document["pruned"]["macs"] < document["dense"]["macs"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "soon"), "cannot read the target 'soon'"),
        (("--target", "0%"), "cannot read the target"),
        (("--target", "100%"), "not below what the dense network has"),
        (("--target", "macs:100%"), "not below what the dense network has"),
        (("--target", "macs:1G"), "not below what the dense network has"),
        (("--target", "params:10M"), "not below what the dense network has"),
        (("--device", "rtx9999"), "no device called 'rtx9999'"),
        (("--device", "rtx3080", "--runtime", "tensorrt_rtx", "--normalisation", "latency"), "no latency table"),
        (("--runtime", "tflite"), "no runtime 'tflite'"),
        (("--precision", "fp8"), "fp8"),
        (("--engine", "rtx9999"), "no device called 'rtx9999'"),
        (("--importance", "luck"), "unknown importance 'luck'"),
        (("--exclude", "nothing.*"), "matches no module"),
        (("--multiple-of", "block.*=8"), "'block.*' of a width multiple matches no channel group"),
        (("--multiple-of", "block.*:8"), "write it as 'PATTERN=N'"),
        (("--multiple-of", "0=0"), "the multiple of '0' cannot be 0"),
        (("--exclude", "*"), "no channel of this network may go"),
        (("--threads", "0"), "threads cannot be 0"),
        (("--batch-size", "0"), "batch_size cannot be 0"),
        (("--epochs", "-1"), "epochs of the fine-tuning cannot be -1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_there_is_a_run(
    prune: Cli, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    if "tensorrt_rtx" in options:
        pytest.importorskip("tensorrt_rtx")
    refused(prune(*options), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["MODEL", "--target", "--data"])
def test_what_is_missing_is_named(cli: Cli, pictures: str, missing: str) -> None:
    given = {"--target": "60%", "--data": pictures}
    options = [word for name, value in given.items() if name != missing for word in (name, value)]

    refused(cli("prune", *([] if missing == "MODEL" else [tiny.REFERENCE]), *options), f"{missing} is missing")


def test_a_latency_above_the_measured_dense_one_is_refused(prune: Cli) -> None:
    refused(prune("--target", "10000ms"), "latency 10 s is not below", "dense latency:")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("macs:1%", ("% of the dense macs", "most of that: 3 ", "layers all of whose channels stay: 0")),
        ("memory:1%", ("% of the dense counted activation elements", "most of that: 0 ", "channels stay: 0")),
        ("params:1%", ("% of the dense params", "most of that: 3.weight ")),
    ],
)
def test_a_target_out_of_reach_says_what_can_be_reached_and_what_stands_in_the_way(
    prune: Cli, target: str, words: tuple[str, ...]
) -> None:
    refused(prune("--target", target, "--exclude", "0"), "out of reach", *words, "--multiple")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_card_that_builds_nothing_is_refused_before_there_is_a_run(prune: Cli, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")

    refused(prune("--engine", "h200"), "builds no engines for SM90")
    assert not (tmp_path / "run").exists()


def test_onnx_runtime_that_is_not_installed_gives_its_install_line(
    prune: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    refused(prune("--runtime", "onnxruntime"), 'pip install "hwprune[onnxruntime]"')
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_engines_for_an_absent_card_need_tensorrt_rtx(prune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)

    refused(prune("--engine", "rtx3090"), 'pip install "hwprune[tensorrt-rtx]"')


# What is there already


def test_a_finished_run_is_only_replaced_by_force(prune: Cli, finished: Path) -> None:
    before = tiny.snapshot(finished)

    refused(prune("--out", finished), "there is a run in", "--force", "--resume")
    assert tiny.snapshot(finished) == before

    outcome = prune("--out", finished, "--force", "--epochs", 0)
    assert outcome.code == 0, outcome.err
    assert "dense beside pruned" in outcome.out
    assert f"run directory: {finished}" in outcome.out
    assert "finetune.safetensors" not in tiny.snapshot(finished)
    assert json.loads((finished / "run.json").read_bytes())["settings"]["target"] == "macs:70%"


def test_force_spares_the_old_run_until_all_is_checked(prune: Cli, finished: Path) -> None:
    before = tiny.snapshot(finished)

    refused(prune("--out", finished, "--force", "--exclude", "*"))
    assert tiny.snapshot(finished) == before


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_with_other_files_is_not_taken_for_a_run(prune: Cli, tmp_path: Path, force: tuple[str, ...]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"trained for weeks")

    refused(prune("--out", folder, *force), "model.safetensors", "it is no run")
    assert tiny.snapshot(folder) == {"model.safetensors": b"trained for weeks"}


@pytest.mark.parametrize("kind", ["garbage", "empty", "another parquet", "another machine"])
def test_a_table_that_cannot_be_used_is_refused_and_left_as_it_is(prune: Cli, tmp_path: Path, kind: str) -> None:
    table = tmp_path / "table.parquet"
    if kind == "another parquet":
        pd.DataFrame({"price": [1, 2]}).to_parquet(table)
    elif kind == "another machine":
        LatencyTable({"cpu": "Abacus 3000", "runtime": "pytorch"}).add([entry(CONV, 1.0)]).save(table)
    else:
        table.write_bytes(b"PAR1 not really" if kind == "garbage" else b"")
    before = table.read_bytes()
    words = "Abacus 3000" if kind == "another machine" else "the latency table is damaged"

    refused(prune("--table", table, "--normalisation", "latency"), words, str(table))
    assert table.read_bytes() == before
    assert not (tmp_path / "run").exists()


# When something runs out in the middle


def test_a_training_that_diverges_stops_and_can_be_resumed(prune: Cli, cli: Cli, tmp_path: Path) -> None:
    refused(prune("--lr", "1e30", "--epochs", 2), "NaN or infinite", "smaller learning rate")
    kept = tiny.snapshot(tmp_path / "run")
    assert "model.safetensors" not in kept
    stages = list(json.loads(kept["run.json"])["stages"])
    assert stages == ["dense", "margin", "target", "target compensated", "pruned", "statistics"]

    refused(cli("prune", "--resume", tmp_path / "run"), "NaN or infinite")
    again = tiny.snapshot(tmp_path / "run")
    assert {name: again[name] for name in kept if name != "log.txt"} == {n: kept[n] for n in kept if n != "log.txt"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB, where this may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_run_with_a_worded_error(prune: Cli, small_disk: Path) -> None:
    refused(prune("--out", small_disk / "run"), "cannot write", "No space left", "free some space")
    json.loads((small_disk / "run" / "run.json").read_bytes())
    assert not [path for path in small_disk.rglob("*") if path.suffix == ".tmp"]


def test_a_full_disk_leaves_the_table_as_it_was(prune: Cli, small_disk: Path) -> None:
    table = small_disk / "table.parquet"
    LatencyTable(fingerprint_of(PyTorchRuntime(), resolve("cpu"))).add([entry(CONV, 1.0)]).save(table)
    before = table.read_bytes()
    (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))

    refused(prune("--table", table, "--normalisation", "latency"), "cannot write", str(table))
    assert table.read_bytes() == before
    assert not [path for path in small_disk.iterdir() if path.suffix == ".tmp"]


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(pictures: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ("--target", "macs:70%", "--normalisation", "memory", "--runtime", "pytorch", "--multiple", 16)
    process = tiny.start("prune", tiny.REFERENCE, "--data", pictures, *settings, "--epochs", 100_000, "--out", run)
    deadline = time.monotonic() + 300
    while not (run / "finetune.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert out == ""
    assert f"hwprune prune --resume {run}" in err
    assert "Traceback" not in err


def test_a_run_of_the_python_api_is_not_resumed_by_name(cli: Cli, finished: Path) -> None:
    document = json.loads((finished / "run.json").read_bytes())
    document["origin"] = {"model": ""}
    (finished / "run.json").write_text(json.dumps(document))

    refused(cli("prune", "--resume", finished), "not started by the command line", "go_on")
