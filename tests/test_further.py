"""One network for several deployments: the target of each is met as it measures it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import hwprune
from hwprune.errors import HwpruneError
from hwprune.loop.deployment import Further
from hwprune.loop.settings import Settings
from hwprune.pruning import Result
from hwprune.recovery.recipe import Recipe
from hwprune.run import Run
from hwprune.validation.certify import Certificate
from tests import tiny
from tests.test_pruning import QUICK, data

BATCHES = Further("cpu", "onnxruntime", batch=4, target="80%")
TORCH = Further("cpu", "pytorch", target="90%")
SETTINGS = replace(
    QUICK, runtime="onnxruntime", normalisation="latency", multiple=8, recipe=Recipe(epochs=0), further=(BATCHES, TORCH)
)
SLUGS = ("onnxruntime-cpu-fp32-batch4", "pytorch-cpu-fp32-batch1")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """ONNX Runtime at batch sizes 1 and 4, and PyTorch."""
    folder = tmp_path_factory.mktemp("further")
    further = tuple(
        replace(one, table=str(folder / f"{number}.parquet")) for number, one in enumerate((BATCHES, TORCH))
    )
    return hwprune.prune(
        tiny.network(),
        data=data(folder),
        target="75%",
        out=folder / "run",
        table=folder / "table.parquet",
        settings=replace(SETTINGS, further=further),
        model_reference=tiny.REFERENCE,
    )


def test_every_deployment_meets_its_target_as_it_measures_it(result: Result) -> None:
    stages = Run.resume(result.directory).stages
    met = stages["target"]

    assert stages[f"{met} confirmed"] <= 0.75
    for slug, ratio in zip(SLUGS, (0.8, 0.9), strict=True):
        assert stages[f"{met} confirmed {slug}"] <= ratio


def test_every_deployment_is_calibrated_by_its_own_measurements(result: Result) -> None:
    stages = Run.resume(result.directory).stages
    found = [stages[name] for name in ("calibration", *(f"calibration {slug}" for slug in SLUGS))]

    assert all(len(own) == QUICK.calibration for own in found)
    assert len({json.dumps([one["ratio"] for one in own]) for own in found}) == 3
    assert len({json.dumps([one["widths"] for one in own]) for own in found}) == 1


def test_every_candidate_has_an_engine_of_every_deployment_timed_beside_the_dense_one(result: Result) -> None:
    for candidate in result.candidates:
        assert [engine.runtime for engine in candidate.engines] == ["onnxruntime", "onnxruntime", "pytorch"]
        assert all(engine.beside is not None for engine in candidate.engines)
        # four images take longer than one
        assert candidate.engines[1].beside.candidate_ms > candidate.engines[0].beside.candidate_ms  # type: ignore[union-attr]


def test_every_deployment_has_its_certificate_where_certify_puts_it(result: Result) -> None:
    files = [result.directory / "certificate" / f"{slug}.json" for slug in SLUGS]

    assert result.further == tuple(Certificate.load(file) for file in files)
    assert [one.batch for one in result.further if one] == [4, 1]
    assert result.certificate == Certificate.load(result.directory / "certificate.json")


def test_the_settings_survive_the_disk() -> None:
    assert Settings.from_json(json.loads(json.dumps(SETTINGS.as_json()))) == SETTINGS


def test_widths_are_multiples_that_suit_all_devices() -> None:
    cpu = Settings("60%")

    assert cpu.usual_multiple == 4
    assert replace(cpu, device="h200").usual_multiple == 8
    both = replace(cpu, further=(Further("rtx3090"),))
    assert both.usual_multiple == 8
    assert both.of_further(both.further[0]).multiple == 8


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu", Further("cpu", threads=2, batch=8)),
        ("cpu, runtime=openvino , batch=1", Further("cpu", "openvino", threads=2, batch=1)),
        ("rtx3090,precision=fp16,target=1.5ms", Further("rtx3090", None, "fp16", 2, 8, "1.5ms")),
    ],
)
def test_what_is_left_out_of_a_device_is_the_usual(text: str, found: Further) -> None:
    assert Further.parse(text, Further("", threads=2, batch=8)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpu,openvino", "cannot read 'openvino'"),
        ("cpu,speed=3", "cannot read 'speed=3'"),
        ("cpu,batch=many", "cannot read 'batch=many'"),
        ("cpu,batch=0", "batch of cpu cannot be 0"),
        ("cpu,target=macs:50%", "bounds no latency"),
        ("cpu,target=soon", "cannot read the target"),
        ("cpu,device=cpu", "cannot read 'device=cpu'"),
    ],
)
def test_a_device_that_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(HwpruneError, match=words):
        Further.parse(text, Further(""))


@pytest.mark.parametrize(
    ("target", "further", "words"),
    [
        ("macs:60%", Further("cpu", "openvino"), "no share that it could take"),
        ("2ms", Further("cpu", "openvino"), "no share that it could take"),
        ("75%,60%", Further("cpu", "openvino", target="80%"), "has one target and the run has 2"),
        ("75%", Further("cpu", target="80%"), "named twice"),
    ],
)
def test_deployments_that_do_not_go_together_are_refused(target: str, further: Further, words: str) -> None:
    with pytest.raises(HwpruneError, match=words):
        Settings(target, further=(further,))


def test_an_unknown_device_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    settings = replace(QUICK, further=(Further("rtx9999", target="80%"),))

    with pytest.raises(HwpruneError, match="no device called 'rtx9999'"):
        hwprune.prune(tiny.network(), data=data(tmp_path), target="75%", out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()
