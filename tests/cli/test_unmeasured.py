"""``hwprune prune --device rtx3090`` where nobody has profiled one: engines are built, and nothing is claimed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from hwprune.cost.mixture import Correlated, Mixture, find_mixture
from hwprune.graph.coupling import analyze
from hwprune.models.resolve import load_model
from tests.cli.conftest import Cli, Outcome, refused

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
RESNET20 = "hwprune.models.cifar_resnet:resnet20"
OPTIONS = ("--data", "digits", "--device", "rtx3090", "--multiple", 4, "--milestones", 2, "--epochs", 0)


def _prune(cli: Cli, folder: Path, *options: object) -> Outcome:
    pytest.importorskip("tensorrt_rtx")
    return cli("prune", RESNET20, *OPTIONS, "--out", folder / "run", *options)


def _cost() -> Correlated:
    mixture = find_mixture("rtx3090")
    assert mixture is not None
    return Correlated(mixture, analyze(load_model(RESNET20), torch.zeros(1, 3, 32, 32)))


def test_a_card_that_nobody_has_profiled_is_pruned_for_by_its_correlated_cost(cli: Cli, tmp_path: Path) -> None:
    outcome = _prune(cli, tmp_path, "--target", "60%")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    ledger = pd.read_parquet(tmp_path / "run" / "ledger.parquet")
    cost, widths = _cost(), json.loads(ledger.widths.iloc[-1])

    assert outcome.code == 0, outcome.err
    for words in ("Nothing was timed: rtx3090", "60.0 % is of the correlated cost", "No latency and no speed-up"):
        assert words in " ".join(outcome.out.split())
    assert "latency not measured" in outcome.err
    assert "correlated cost 59" in outcome.err or "correlated cost 60.0 %" in outcome.err
    assert "faster" not in outcome.out
    assert 0.55 < cost.share(widths) <= 0.6
    assert set(ledger.candidate) == {"dense", "milestone-1", "target-1", "delivered"}
    assert ledger.ok.all()
    assert ledger[["predicted_ms", "measured_ms", "dense_ms", "ratio", "p95_ms"]].isna().all(axis=None)
    assert set(ledger.device) == {"rtx3090"}
    for path in ledger.engine_path:
        assert Path(path).stat().st_size > 0
    assert Mixture.from_json(run["parts"]["mixture"]) == cost.mixture
    assert "Nothing was timed" in run["stages"]["result"]["unmeasured"]
    assert run["stages"]["result"]["certificate"] is None
    assert not (tmp_path / "run" / "certificate.json").exists()

    refused(cli("certify", tmp_path / "run"), "rtx3090")


def test_another_target_says_that_only_its_prices_were_correlated(prune: Cli) -> None:
    pytest.importorskip("tensorrt_rtx")
    outcome = prune("--device", "rtx3090", "--runtime", "tensorrt_rtx", "--normalisation", "latency", "--epochs", 0)

    assert outcome.code == 0, outcome.err
    assert "Channels were priced by the correlated cost" in " ".join(outcome.out.split())
    assert "is of the correlated cost" not in " ".join(outcome.out.split())


def test_milliseconds_on_a_card_that_nobody_has_profiled_are_refused(cli: Cli, tmp_path: Path) -> None:
    refused(_prune(cli, tmp_path, "--target", "1.5ms"), "cannot be aimed at", "give a share such as 60%")
    assert not (tmp_path / "run").exists()


def test_a_table_that_was_asked_for_is_not_replaced_by_the_mixture(cli: Cli, tmp_path: Path) -> None:
    refused(
        _prune(cli, tmp_path, "--target", "60%", "--table", tmp_path / "my.parquet"), "no latency table for rtx3090"
    )
    assert not (tmp_path / "run").exists()


def test_correlated_prices_need_a_mixture_of_the_device(cli: Cli, tmp_path: Path) -> None:
    options = ("--data", "digits", "--target", "macs:60%", "--normalisation", "correlated", "--out", tmp_path / "run")

    refused(cli("prune", RESNET20, *options, "--runtime", "pytorch"), "no mixture for cpu", "--keep-mixture")
    assert not (tmp_path / "run").exists()


def test_correlated_prices_also_serve_where_latency_is_measured(prune: Cli, tmp_path: Path) -> None:
    mixture = find_mixture("rtx4090")
    assert mixture is not None
    mixture.save(tmp_path / "profiles" / "cpu.mixture.json")
    outcome = prune("--normalisation", "correlated", "--epochs", 0, "--json")

    assert outcome.code == 0, outcome.err
    assert outcome.document["unmeasured"] == ""
    assert outcome.document["certificate"]["comparison"]["ratio"] > 0
    assert outcome.document["pruned"]["macs"] <= 0.7 * outcome.document["dense"]["macs"]
