"""``hwprune explain``: of a run, and of two profiles that trtexec wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hwprune.cli import explaining
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from hwprune.loop.settings import Settings
from hwprune.loop.tables import table_path
from hwprune.run import Run
from hwprune.validation.alignment import rule_for
from tests import tiny
from tests.cli.conftest import Cli, refused
from tests.validation.engines_by_hand import DENSE, PRUNED, write_layers, write_profile


@pytest.fixture
def profiles(tmp_path: Path) -> tuple[Path, Path]:
    return write_profile(tmp_path / "dense.json", DENSE), write_profile(tmp_path / "pruned.json", PRUNED)


def test_a_run_is_explained_and_the_document_lies_in_it(cli: Cli, finished: Path) -> None:
    outcome = cli("explain", finished, "--json")
    document = outcome.document

    assert outcome.code == 0, outcome.err
    assert json.loads((finished / "explanation.json").read_bytes()) == document
    assert document["measured"] and document["dense_ms"] > 0
    differences = [cause["difference_ms"] for cause in document["causes"]]
    assert sum(differences) == pytest.approx(document["difference_ms"])
    assert {region["name"] for region in document["regions"]} >= {"0/Conv", "3/Conv", "6/Conv"}
    assert document["fingerprint"]["batch"] == "1" and "onnxruntime" in document["fingerprint"]["runtime"]


@pytest.mark.parametrize(("flags", "down"), [("avx512f", 16), ("avx2", 24)])
def test_a_run_with_an_odd_width_has_its_layers_named_and_priced(
    cli: Cli, odd: Path, monkeypatch: pytest.MonkeyPatch, flags: str, down: int
) -> None:
    monkeypatch.setattr(explaining, "rule_for", lambda spec, device, _: rule_for(spec, device, flags))
    outcome = cli("explain", odd)

    assert outcome.code == 0, outcome.err
    assert "widths off the device's alignment" in outcome.out
    rows = {line.split()[1]: line for line in outcome.out.splitlines() if "29*" in line}
    assert rows.keys() == {"3/Conv", "6/Conv"}, outcome.out
    assert "at 16 → 32" in rows["3/Conv"] and f"at 16 → {down}" in rows["3/Conv"], "the next multiples"
    table = LatencyTable.load(next((odd / "explanation").glob("*.parquet")))
    assert {29, 32, down} <= {width for layer, _ in table.rows for width in (layer.c_in, layer.c_out)}

    own = table_path(Settings.from_json(Run.resume(odd).settings))
    own.parent.mkdir(exist_ok=True)
    shutil.move(next((odd / "explanation").glob("*.parquet")), own)
    again = cli("explain", odd, "--json")
    prices = {one["off"]["node"]: one["up_ms"] for one in again.document["misfits"]}
    assert prices["3/Conv"] == pytest.approx(table.ms(layer_at(table, 32)) - table.ms(layer_at(table, 29)))
    assert list((odd / "explanation").glob("*.parquet")) == [], "the run's own table has them all"


def layer_at(table: LatencyTable, width: int) -> Layer:
    """The second convolution at this width."""
    return next(layer for layer, _ in table.rows if (layer.c_in, layer.c_out) == (16, width))


@pytest.fixture
def odd(cli: Cli, pictures: str, tmp_path: Path) -> Path:
    """A finished run whose second convolution kept 29 of its 48 channels."""
    settings = (
        "--target",
        "macs:65%",
        "--multiple",
        29,
        "--runtime",
        "onnxruntime",
        "--normalisation",
        "memory",
        "--milestones",
        1,
    )
    outcome = cli("prune", tiny.REFERENCE, "--data", pictures, "--epochs", 0, "--out", tmp_path / "odd", *settings)
    assert outcome.code == 0, outcome.err
    return tmp_path / "odd"


def test_two_profiles_are_explained_without_a_run(cli: Cli, profiles: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--from-profiles", *profiles, "--latency-ms", 0.3, 0.32)
    told = cli("explain", *options).out
    document = cli("explain", *options, "--json").document

    assert "stand-alone pointwise layers" in told and "one layer in the dense engine, several in the pruned one" in told
    assert document["causes"][0]["name"] == "pointwise"
    assert (document["causes"][0]["dense_count"], document["causes"][0]["pruned_count"]) == (1, 3)
    assert document["difference_ms"] == pytest.approx(0.02)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["dense.json", "pruned.json"]


def test_layer_information_and_a_precision_name_widths(cli: Cli, profiles: tuple[Path, Path], tmp_path: Path) -> None:
    infos = (
        write_layers(tmp_path / "a.json", DENSE, "11", widths=(16, 16)),
        write_layers(tmp_path / "b.json", PRUNED, "11", widths=(16, 13)),
    )
    options = ("--from-profiles", *profiles, "--layer-info", *infos, "--precision", "fp16", "--statistic", "mean")
    document = cli("explain", *options, "--json").document

    assert {one["off"]["node"] for one in document["misfits"]} == {
        "/0/conv/Conv",
        "/1/cv0/conv/Conv",
        "/1/cv1/conv/Conv",
    }
    assert document["rule"]["multiple"] == 8 and not document["measured"]
    assert document["dense_ms"] == pytest.approx(1.1 * sum(ms for _, ms in DENSE))


def test_what_cannot_be_explained_is_refused(cli: Cli, profiles: tuple[Path, Path], tmp_path: Path) -> None:
    refused(cli("explain"), "explain takes a run or two profiles")
    refused(cli("explain", tmp_path, "--from-profiles", *profiles), "explain takes a run or two profiles")
    refused(cli("explain", tmp_path), "there is no run in")
    refused(cli("explain", "--from-profiles", profiles[0], tmp_path / "none.json"), "cannot be read")
    (tmp_path / "other.json").write_text("{}")
    refused(cli("explain", "--from-profiles", profiles[0], tmp_path / "other.json"), "no profile of trtexec")


def test_an_unfinished_run_is_refused(cli: Cli, finished: Path) -> None:
    (finished / "model.onnx").unlink()

    refused(cli("explain", finished), "model.onnx is not there", f"hwprune prune --resume {finished}")


def test_a_device_that_is_not_here_is_refused_with_the_other_way(cli: Cli, finished: Path) -> None:
    pytest.importorskip("tensorrt_rtx")

    refused(cli("explain", finished, "--device", "rtx3090"), "not in this machine", "--from-profiles")
