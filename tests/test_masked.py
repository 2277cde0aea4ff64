"""Runs that go down the way of Group Fisher Pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import hwprune
from hwprune.errors import HwpruneError
from hwprune.loop.group_fisher import GroupFisher
from hwprune.loop.settings import Settings
from hwprune.pruning import Result, go_on
from hwprune.run import Run
from tests import test_curve, tiny
from tests.test_pruning import QUICK, data

SETTINGS = replace(QUICK, way="group-fisher", group_fisher=GroupFisher(1, 4, 0.002))


def curve(folder: Path, *targets: str, settings: Settings = SETTINGS) -> tuple[Result, ...]:
    """A run of this way in ``folder``."""
    return test_curve.curve(folder, *targets, settings=settings)


def inherited(result: Result) -> nn.Module:
    """The dense network cut to the result's plan."""
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    return hwprune.cut(model, result.plan, network)


def test_a_counted_target_ends_it_and_the_weights_that_trained_are_inherited(tmp_path: Path) -> None:
    (result,) = curve(tmp_path, "macs:60%")
    weights = dict(result.model.named_parameters())
    before = dict(inherited(result).named_parameters())

    assert 0.5 * result.dense.macs < result.pruned.macs <= 0.6 * result.dense.macs
    assert [candidate.id for candidate in result.candidates] == ["dense", "target-1", "delivered"]
    assert all(weights[name].shape == value.shape for name, value in before.items())
    assert not any(torch.equal(weights[name], value) for name, value in before.items())
    assert Run.resume(tmp_path / "run").stages["pruned"]["verification"]["error"] < 1e-3
    inputs = torch.randn(2, *tiny.network.input_shape)
    assert torch.equal(hwprune.load(tmp_path / "run")(inputs), result.model(inputs))


def test_a_latency_target_is_met_as_measured(tmp_path: Path) -> None:
    (result,) = curve(tmp_path, "80%", settings=replace(SETTINGS, runtime="onnxruntime"))
    stages = Run.resume(tmp_path / "run").stages

    assert stages[f"{stages['target']} confirmed"] <= 0.8
    assert result.certificate is not None and result.certificate.comparison.ratio < 0.82


def test_a_curve_goes_on_with_the_weights_and_every_point_keeps_its_own(tmp_path: Path) -> None:
    loose, tight = curve(tmp_path, "macs:75%", "macs:50%")

    assert all(set(tight.plan.kept[name]) <= set(loose.plan.kept[name]) for name in loose.plan.kept)
    first, second = (tmp_path / "run" / f"trained-macs-{share}-percent.safetensors" for share in (75, 50))
    assert first.read_bytes() != second.read_bytes()
    for result in (loose, tight):
        inputs = torch.randn(2, *tiny.network.input_shape)
        assert torch.equal(hwprune.load(result.directory)(inputs), result.model(inputs))


def test_a_run_that_is_killed_while_it_prunes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hwprune.loop.masked as masked

    settings = replace(SETTINGS, group_fisher=GroupFisher(1, 1, 0.002))
    straight = tmp_path / "straight"
    straight.mkdir()
    (expected,) = curve(straight, "macs:60%", settings=settings)
    done = masked._Descent.done

    def killed(self: masked._Descent, removed: object) -> bool:
        if removed.step == 7:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return done(self, removed)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(masked._Descent, "done", killed)
        curve(tmp_path, "macs:60%", settings=settings)
    run = Run.resume(tmp_path / "run")
    assert (tmp_path / "run" / "group-fisher.safetensors").exists()
    (result,) = go_on(
        tiny.network(),
        data(tmp_path),
        Settings.from_json(run.settings),
        run,
        table=tmp_path / "table.parquet",
        model_reference=tiny.REFERENCE,
    )

    assert result.plan.kept == expected.plan.kept
    for (_, own), (_, other) in zip(result.model.named_parameters(), expected.model.named_parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"normalisation": "latency"}, "cannot divide by latency"),
        ({"normalisation": "memory-measured"}, "cannot divide by memory-measured"),
        ({"max_memory": "60%"}, "takes no max_memory"),
        ({"importance": "taylor"}, "takes no importance"),
        ({"importance": "obs"}, "takes no importance"),
        ({"way": "sideways"}, "unknown way"),
    ],
)
def test_what_the_way_does_not_know_is_refused(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(HwpruneError, match=words):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]
