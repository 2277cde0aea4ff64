from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.clocks import Clocks, State
from hwprune.comparison import Comparison, compare
from hwprune.device import resolve
from hwprune.errors import EngineError, RunError
from hwprune.runtimes.select import RuntimeSpec
from hwprune.timing import Timing
from hwprune.validation.certify import Certificate, certify
from tests.validation.networks import two_convolutions

CPU = RuntimeSpec("onnxruntime", "cpu")
FOUND = Certificate(
    comparison=Comparison(0.612, 0.601, 0.624),
    confidence=0.95,
    dense_blocks_ms=((2.0, 2.1), (2.2, 2.0), (2.0, 2.0)),
    pruned_blocks_ms=((1.2, 1.3), (1.3, 1.2), (1.2, 1.2)),
    dense_samples_ms=(2.0, 2.1, 9.0),
    pruned_samples_ms=(1.2, 1.2, 1.3),
    runtime=CPU.as_dict(),
    fingerprint={"runtime": "onnxruntime 1.31.1"},
)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_convolutions(tmp_path_factory.mktemp("onnx") / "dense.onnx", (64, 64), size=24)


def test_a_network_is_not_faster_than_itself(dense: Path) -> None:
    # At a confidence at which chance does not make it so.
    certificate = certify(dense, dense, CPU, blocks=8, confidence=0.9999)

    assert certificate.verdict == "not faster"
    assert certificate.summary.startswith("Not faster")


def test_a_clearly_smaller_network_is_faster(dense: Path, tmp_path: Path) -> None:
    small = two_convolutions(tmp_path / "small.onnx", (4, 4), size=24)
    done: list[tuple[int, int]] = []
    certificate = certify(
        dense, small, CPU, rebuilds=4, most_rebuilds=4, blocks=6, on_progress=lambda *progress: done.append(progress)
    )

    assert certificate.verdict == "faster" and certificate.comparison.ratio < 0.5
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for blocks in (certificate.dense_blocks_ms, certificate.pruned_blocks_ms):
        assert [len(rebuild) for rebuild in blocks] == [6] * 4
    assert certificate.pruned.median_ms < certificate.dense.median_ms
    assert len(certificate.dense_samples_ms) >= 4 * 20
    assert certificate.fingerprint["runtime"].startswith("onnxruntime")
    assert "processor core" in certificate.clocks.note and certificate.clocks.states == ()


def test_modules_are_certified_with_a_runtime_that_reads_no_onnx() -> None:
    image = (torch.zeros(1, 3, 24, 24),)
    dense, small = (
        nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3)).eval() for width in (96, 2)
    )
    certificate = certify((dense, image), (small, image), RuntimeSpec("pytorch", "cpu"), blocks=6)

    assert certificate.verdict == "faster"


def test_the_sides_keep_their_names_though_the_order_of_building_changes(dense: Path, tmp_path: Path) -> None:
    small = two_convolutions(tmp_path / "small.onnx", (4, 4), size=24)
    certificate = certify(small, dense, CPU, blocks=4)

    assert certificate.comparison.low > 1
    for smaller, larger in zip(certificate.dense_blocks_ms, certificate.pruned_blocks_ms, strict=True):
        assert np.median(smaller) < np.median(larger)


def test_networks_are_built_again_until_the_interval_is_narrow_or_there_were_enough(
    dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for narrow, most, made in ((10.0, 5, 3), (0.0, 5, 5), (0.0, 2, 3)):
        monkeypatch.setattr("hwprune.validation.certify.NARROW", narrow)

        certificate = certify(dense, dense, CPU, most_rebuilds=most, blocks=4)

        assert len(certificate.dense_blocks_ms) == len(certificate.pruned_blocks_ms) == made
        assert certificate.confidence == 0.95


def test_an_interval_that_may_stop_early_is_wider(dense: Path) -> None:
    certificate = certify(dense, dense, CPU, most_rebuilds=4, blocks=4)
    plain = compare(certificate.dense_blocks_ms, certificate.pruned_blocks_ms, confidence=0.95)

    assert certificate.comparison.low < plain.low <= plain.high < certificate.comparison.high


def test_rebuilds_of_an_earlier_certificate_count_where_it_is_of_the_same_machine(dense: Path, tmp_path: Path) -> None:
    small = two_convolutions(tmp_path / "small.onnx", (4, 4), size=24)
    earlier = certify(dense, small, CPU, most_rebuilds=3, blocks=4)
    elsewhere = replace(earlier, fingerprint={"runtime": "another"})

    pooled = certify(dense, small, CPU, most_rebuilds=3, blocks=4, earlier=[earlier])
    alone = certify(dense, small, CPU, most_rebuilds=3, blocks=4, earlier=[elsewhere])

    assert len(pooled.dense_blocks_ms) == 6 and len(alone.dense_blocks_ms) == 3
    assert pooled.dense_blocks_ms[:3] == earlier.dense_blocks_ms
    assert pooled.pruned_blocks_ms[:3] == earlier.pruned_blocks_ms
    assert pooled.pruned_samples_ms[: len(earlier.pruned_samples_ms)] == earlier.pruned_samples_ms
    medians = [
        np.median(np.log(ours) - np.log(theirs))
        for ours, theirs in zip(pooled.pruned_blocks_ms, pooled.dense_blocks_ms, strict=True)
    ]
    assert pooled.comparison.ratio == pytest.approx(np.exp(np.mean(medians)))


def test_fewer_than_three_rebuilds_are_no_certificate(dense: Path) -> None:
    with pytest.raises(EngineError, match="2 rebuilds are too few"):
        certify(dense, dense, CPU, rebuilds=2)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_a_device_that_is_not_here_cannot_be_certified_for(dense: Path) -> None:
    if resolve("rtx3090").here:
        pytest.skip("needs a machine without an RTX 3090")
    spec = RuntimeSpec("tensorrt_rtx", "rtx3090")

    with pytest.raises(EngineError, match="not in this machine"):
        certify(dense, dense, spec)


def test_a_certificate_comes_back_from_its_file(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "certificate.json")

    assert Certificate.load(tmp_path / "certificate.json") == FOUND


def test_a_certificate_of_before_batch_and_clocks_is_read(tmp_path: Path) -> None:
    old = {name: value for name, value in FOUND.as_dict().items() if name not in ("batch", "clocks")}
    (tmp_path / "certificate.json").write_text(json.dumps(old))

    assert Certificate.load(tmp_path / "certificate.json") == FOUND


def test_clocks_and_batch_come_back_from_the_file(tmp_path: Path) -> None:
    clocks = Clocks("the card ran at 1980 MHz", (State(1980, None, 350.5, 61, ("power cap",)),), remeasured=2)
    certificate = replace(FOUND, batch=16, clocks=clocks)
    certificate.save(tmp_path / "certificate.json")

    assert Certificate.load(tmp_path / "certificate.json") == certificate
    assert "on cpu at batch 16 over 3 rebuilds" in certificate.summary


def test_the_file_says_verdict_and_statistics_to_other_readers(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "certificate.json")
    told = json.loads((tmp_path / "certificate.json").read_text())

    assert told["verdict"] == "faster" and told["summary"] == FOUND.summary
    assert told["dense_p95_ms"] == Timing(FOUND.dense_samples_ms).p95_ms
    assert told["pruned_median_ms"] == 1.2 and told["dense_cv"] == FOUND.dense.cv


@pytest.mark.parametrize(
    ("comparison", "verdict", "start"),
    [
        (Comparison(0.612, 0.601, 0.624), "faster", "Faster: the pruned network takes 61.2 %"),
        (Comparison(0.98, 0.95, 1.01), "not faster", "Not faster, as far as can be told: "),
        (Comparison(0.98, 0.95, 1.0), "not faster", "Not faster, as far as can be told: "),
        (Comparison(1.2, 1.1, 1.3), "slower", "Not faster but slower: the pruned network takes 120.0 %"),
    ],
)
def test_the_summary_says_plainly_what_was_found(comparison: Comparison, verdict: str, start: str) -> None:
    certificate = replace(FOUND, comparison=comparison)

    assert certificate.verdict == verdict
    assert certificate.summary.startswith(start)


def test_the_summary_has_interval_times_runtime_and_rebuilds() -> None:
    assert FOUND.summary == (
        "Faster: the pruned network takes 61.2 % of the dense network's time (95 % interval 60.1 % to 62.4 %), "
        "1.2 ms against 2.1 ms, with onnxruntime fp32 on cpu over 3 rebuilds."
    )


@pytest.mark.parametrize("text", [None, "", "{}", '{"schema": 99}', '{"schema": 1, "comparison": {}}'])
def test_a_missing_or_damaged_certificate_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(RunError, match="certificate cannot be read"):
        Certificate.load(path)
