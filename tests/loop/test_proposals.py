"""Several networks at the target, of which a short training tells the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hwprune.loop import proposals
from hwprune.loop.deployment import Further
from hwprune.loop.memory import measured_bytes
from hwprune.loop.proposals import JUDGED_EPOCH
from hwprune.plan import Plan
from hwprune.pruning import Result, go_on
from hwprune.recovery.evaluate import evaluate
from hwprune.run import Run
from hwprune.search import alternatives
from tests import tiny
from tests.test_pruning import QUICK, data, prune

THREE = replace(QUICK, multiple=4, proposals=3, proposal_steps=4)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Three proposals, which may lose much more than the first one: the network has hardly two that are as good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alternatives, "FURTHER", 100.0)
        return prune(tmp_path_factory.mktemp("proposals"), "macs:50%", THREE)


def test_the_proposals_differ_and_all_meet_the_target(result: Result) -> None:
    stages = Run.resume(result.directory).stages
    names = [str(stages[name]) for name in ("target", "target-other-1", "target-other-2")]
    tried = {one.id: one for one in result.candidates}

    assert len({tuple(tried[name].widths.items()) for name in names}) == 3
    assert all(tried[name].macs <= 0.5 * result.dense.macs for name in names)


def test_the_one_with_the_best_top1_goes_on_with_the_weights_it_was_trained_to(result: Result) -> None:
    stages = Run.resume(result.directory).stages
    top1 = stages["target judged"]
    best = max(top1, key=lambda name: top1[name])

    chosen = Plan.load(result.directory / "candidates" / str(stages[best]) / "plan.json")
    weights = load_file(result.directory / f"trained-{best}.safetensors")

    assert result.plan.kept == chosen.kept
    assert torch.equal(result.model.get_parameter("0.weight"), weights["0.weight"][list(chosen.kept["0"])])
    assert not torch.equal(weights["0.weight"], tiny.network().get_parameter("0.weight"))


def test_top1_is_of_training_images(result: Result) -> None:
    stages = Run.resume(result.directory).stages
    top1 = stages["target judged"]
    images = list(data(result.directory.parent).calibration.epoch(JUDGED_EPOCH))

    assert max(top1.values()) == evaluate(result.model, images).top1


def test_one_proposal_is_neither_trained_nor_judged(tmp_path: Path) -> None:
    found = prune(tmp_path, "macs:50%", replace(QUICK, multiple=4))

    assert not list(found.directory.glob("trained-*"))
    assert "target judged" not in Run.resume(found.directory).stages


def test_every_proposal_meets_the_bound_on_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "FURTHER", 100.0)
    found = prune(tmp_path, "macs:60%", replace(THREE, max_memory="80%"))

    stages, tried = Run.resume(found.directory).stages, {one.id: one for one in found.candidates}
    judged = [tried[str(stages[name])] for name in stages["target judged"]]
    assert len(judged) > 1
    assert all((measured_bytes(one) or inf) <= 0.8 * (measured_bytes(tried["dense"]) or 0) for one in judged)


def test_every_proposal_meets_the_targets_of_all_deployments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "FURTHER", 100.0)
    four = Further("cpu", "onnxruntime", batch=4, target="80%", table=str(tmp_path / "four.parquet"))
    found = prune(
        tmp_path, "75%", replace(THREE, runtime="onnxruntime", normalisation="latency", multiple=8, further=(four,))
    )

    stages = Run.resume(found.directory).stages
    judged = [str(stages[name]) for name in stages["target judged"]]
    assert len(judged) > 1
    assert all(stages[f"{one} confirmed"] <= 0.75 for one in judged)
    assert all(stages[f"{one} confirmed onnxruntime-cpu-fp32-batch4"] <= 0.8 for one in judged)


@pytest.mark.parametrize(("step", "call"), [("alternatives", 1), ("trained", 2), ("_top1", 3)])
def test_a_run_that_is_stopped_among_its_proposals_goes_on_to_the_same_network(
    step: str, call: int, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alternatives, "FURTHER", 100.0)
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(proposals, step, _stopped(getattr(proposals, step), call))
        prune(tmp_path, "macs:50%", THREE)
    run = Run.resume(tmp_path / "run")
    settings = replace(THREE, target="macs:50%")

    (ended,) = go_on(tiny.network(), data(tmp_path), settings, run, table=tmp_path / "table.parquet")

    assert ended.plan.kept == result.plan.kept
    assert all(torch.equal(own, other) for own, other in zip(_tensors(ended), _tensors(result), strict=True))


def _tensors(result: Result) -> list[torch.Tensor]:
    return list(result.model.state_dict().values())


def _stopped(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """The function, but Ctrl-C instead of that call of it."""
    calls = iter(range(1, call))

    def until_then(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return until_then
