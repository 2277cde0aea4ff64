"""Several targets in one run: accuracy against latency, each network a run of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import hwprune
from hwprune.cli.networks import finished
from hwprune.errors import TargetError
from hwprune.loop.settings import Settings
from hwprune.pruning import Result, go_on
from hwprune.recovery.recipe import Recipe
from hwprune.run import Run
from hwprune.validation.ledger import Ledger
from tests import tiny
from tests.test_pruning import QUICK, data

TARGETS = ("60%", "85%")
SETTINGS = replace(
    QUICK, runtime="onnxruntime", normalisation="latency", multiple=8, milestones=2, recipe=Recipe(max_steps=1)
)


def curve(folder: Path, *targets: str, settings: Settings = SETTINGS) -> tuple[Result, ...]:
    """A run in ``folder`` with several targets."""
    return hwprune.prune_curve(
        tiny.network(),
        data=data(folder),
        targets=targets,
        out=folder / "run",
        table=folder / "table.parquet",
        settings=settings,
        model_reference=tiny.REFERENCE,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the main job of this module is."""
    return tmp_path_factory.mktemp("curve")


@pytest.fixture(scope="module")
def results(folder: Path) -> tuple[Result, ...]:
    """Two shares of the latency that ONNX Runtime measures, given in the wrong order."""
    return curve(folder, *TARGETS)


def test_the_points_go_from_the_loosest_to_the_tightest_and_each_meets_its_target(
    results: tuple[Result, ...], folder: Path
) -> None:
    confirmed = json.loads((folder / "run" / "run.json").read_bytes())["stages"]

    assert [result.target for result in results] == ["latency 85.0 %", "latency 60.0 %"]
    for result, ratio in zip(results, (0.85, 0.6), strict=True):
        met = confirmed[result.directory.name]
        assert confirmed[f"{met} confirmed"] <= ratio


def test_a_tighter_network_keeps_no_channel_that_a_looser_one_has_lost(results: tuple[Result, ...]) -> None:
    loose, tight = (result.plan.kept for result in results)

    assert all(set(tight[name]) <= set(loose[name]) for name in loose)
    assert results[0].pruned.macs > results[1].pruned.macs


def test_a_point_is_a_run_like_any_other(results: tuple[Result, ...]) -> None:
    inputs = torch.randn(2, *tiny.network.input_shape)
    for result in results:
        assert torch.equal(hwprune.load(result.directory)(inputs), result.model(inputs))
        assert Settings.from_json(Run.resume(result.directory).settings).target in ("latency:85%", "latency:60%")
        names = [candidate.id for candidate in Ledger(result.directory / "ledger.parquet").candidates]
        assert (names[0], names[-1]) == ("dense", "delivered")
        assert finished(result.directory)[1].target == Run.resume(result.directory).settings["target"]


def test_the_loose_point_has_no_candidate_of_the_way_further_down(results: tuple[Result, ...]) -> None:
    loose, tight = ([candidate.id for candidate in result.candidates] for result in results)

    assert loose[:3] == ["dense", "milestone-1", "latency-85-percent-1"]
    assert set(loose) < set(tight)
    assert {"milestone-3", "latency-60-percent-1"} <= set(tight) - set(loose)


def test_the_dense_network_is_measured_and_calibrated_once(results: tuple[Result, ...], folder: Path) -> None:
    whole = Run.resume(folder / "run").stages

    assert {"dense", "calibration", "margin"} <= whole.keys()
    for result in results:
        assert not {"dense", "calibration", "margin"} & Run.resume(result.directory).stages.keys()


def test_the_curve_is_a_table_on_the_disk(results: tuple[Result, ...], folder: Path) -> None:
    frame = pd.read_csv(folder / "run" / "curve.csv")

    assert list(frame["target"]) == [result.target for result in results]
    assert list(frame["top1_finetuned"]) == pytest.approx([result.accuracy["finetuned"] for result in results])
    assert list(frame["macs"]) == [result.pruned.macs for result in results]
    for ratio, result in zip(frame["latency_ratio"], results, strict=True):
        assert result.certificate is not None and ratio == pytest.approx(result.certificate.comparison.ratio)


def test_going_on_with_a_finished_curve_does_nothing_anew(results: tuple[Result, ...], folder: Path) -> None:
    run = Run.resume(folder / "run")
    before = tiny.snapshot(folder / "run")

    again = go_on(tiny.network(), data(folder), Settings.from_json(run.settings), run, table=folder / "table.parquet")

    assert [one.plan.kept for one in again] == [one.plan.kept for one in results]
    assert tiny.snapshot(folder / "run") == before


def test_the_first_point_equals_the_run_with_that_target_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, runtime="pytorch", multiple=16, normalisation="flops")
    (tmp_path / "alone").mkdir()
    loose, _ = curve(tmp_path, "macs:70%", "macs:40%", settings=settings)
    (alone,) = curve(tmp_path / "alone", "macs:70%", settings=settings)

    assert loose.plan.kept == alone.plan.kept
    assert loose.accuracy == alone.accuracy


def test_one_network_for_several_targets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="prune_curve"):
        hwprune.prune(tiny.network(), data=data(tmp_path), target="75%,60%", out=tmp_path / "run")
