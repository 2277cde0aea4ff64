"""The tables that ship: each holds the proof of what it is worth, and predicts what it was measured for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwprune.cli.profiling import DEFAULT_MODELS
from hwprune.files import PROFILES
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import uncalibrated
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model

SHIPPED = sorted(PROFILES.glob("*.parquet"))
CPU = PROFILES / "amd-epyc-26-2-onnxruntime-fp32-1thread.parquet"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_table_says_what_it_is_of_and_how_far_it_is_off(path: Path) -> None:
    table = LatencyTable.load(path)
    known = set(table.fingerprint)

    assert {"device", "runtime", "version", "precision", "reference"} <= known
    assert {"cpu", "cpu_family_model_stepping", "flags", "threads"} <= known or "gpu" in known
    assert {held.network for held in table.held_out} == {sample.network for sample in table.samples}
    assert set(DEFAULT_MODELS) <= {held.network for held in table.held_out}
    for held in table.held_out:
        assert held.error.count >= 30 and held.noise is not None
        assert held.error.spearman >= 0.98
        # At least 95 % of networks within 5 %, or twice what two measurements of one network differ by at the median.
        assert held.share_within(max(0.05, 2 * held.noise.median)) >= 0.95


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2"])
def test_the_table_of_a_processor_predicts_networks_that_it_does_not_hold(model: str, tmp_path: Path) -> None:
    table = LatencyTable.load(CPU)
    (held,) = (held for held in table.held_out if held.network == model)
    settings = Settings("100%", runtime="onnxruntime", method="in-context")
    subject = Subject(load_model(model), describe_inputs(model), settings, tmp_path, Silent(), model)

    predictor = uncalibrated(subject, table)

    sampled = [dict(sample.widths) for sample in table.samples if sample.network == model]
    assert not [widths for widths in held.widths if dict(widths) in sampled]
    off = np.array([predictor.predict_ms(widths) for widths in held.widths]) / np.array(held.measured_ms)
    # The check's milliseconds are those of the reference as the table had it then: a factor, and near 1.
    assert 0.9 < np.median(off) < 1.1
    assert np.percentile(np.abs(off / np.median(off) - 1), 95) < 0.05
