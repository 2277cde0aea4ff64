"""``hwprune correlate``: from a table, and measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprune.cost.mixture import Mixture, find_mixture
from hwprune.cost.points import read_points
from tests.cli.conftest import Cli, refused

REGNET = Path(__file__).parents[2] / "benchmarks" / "data" / "regnet_2003_13678.csv"
QUICK = (
    "--runtime",
    "pytorch",
    "--part",
    "widths",
    "--part",
    "matched",
    "--of",
    "hwprune.models.cifar_resnet:resnet20",
)


def test_a_published_table_becomes_a_study(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("correlate", "--from-csv", REGNET, "--title", "V100", "--out", tmp_path)

    assert outcome.code == 0, outcome.err
    assert "0.940 (" in outcome.out
    assert "On V100: activation elements hold (" in " ".join(outcome.out.split())
    assert {p.name for p in tmp_path.iterdir()} >= {
        "study.json",
        "study.csv",
        "study.html",
        "study.png",
        "mixture.json",
    }
    assert len(read_points(tmp_path / "study.csv")) == 36
    assert Mixture.load(tmp_path / "mixture.json").error.mape < 0.1


def test_a_fitted_mixture_can_be_kept_for_a_device(cli: Cli, tmp_path: Path) -> None:
    options = ("--from-csv", REGNET, "--no-plots", "--json", "--out", tmp_path)
    refused(cli("correlate", *options, "--keep-mixture"), "belongs to the device", "--device rtx3090")
    outcome = cli("correlate", *options, "--keep-mixture", "--device", "v100")

    assert outcome.document["sets"][0]["points"] == 36
    assert not (tmp_path / "study.png").exists()
    kept = find_mixture("v100", tmp_path / "profiles")
    assert kept is not None
    assert kept.as_json() == {**outcome.document["mixture"], "device": "v100"}


def test_networks_are_measured_here_and_a_second_run_measures_nothing(cli: Cli, tmp_path: Path) -> None:
    options = (*QUICK, "--widths", 4, "--matched", 4, "--json", "--no-plots", "--out", tmp_path)
    outcome = cli("correlate", *options)
    before = (tmp_path / "points.csv").read_bytes()

    assert outcome.code == 0, outcome.err
    assert [s["kind"] for s in outcome.document["sets"]] == ["widths", "matched MACs"]
    assert "4 random widths of resnet20" in outcome.document["verdict"]
    assert all({*s["correlations"]} >= {"parameters", "activations"} for s in outcome.document["sets"])
    again = cli("correlate", *options)
    assert again.document["sets"] == outcome.document["sets"]
    assert (tmp_path / "points.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from-csv", "nothing.csv"), "cannot be read"),
        (("--from-csv", REGNET, "--column", "macs=gmacs"), "no column 'gmacs'"),
        (("--from-csv", REGNET, "--column", "macs"), "FIELD=COLUMN"),
        (("--part", "luck"), "no part 'luck'"),
        (("--macs", "2G"), "no share"),
        (("--device", "rtx9999"), "no device called 'rtx9999'"),
        (("--device", "rtx3080"), "rtx3080, which is not in this machine"),
    ],
)
def test_what_cannot_be_done_is_refused(cli: Cli, tmp_path: Path, options: tuple[object, ...], words: str) -> None:
    refused(cli("correlate", "--out", tmp_path / "study", *options), words)
    assert not (tmp_path / "study").exists()
