"""Several networks at the target, of which a short training tells the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwprune.loop.proposals import JUDGED_EPOCH
from hwprune.plan import Plan
from hwprune.pruning import Result
from hwprune.recovery.evaluate import evaluate
from hwprune.run import Run
from hwprune.search import alternatives
from tests import tiny
from tests.test_pruning import QUICK, data, prune


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Three proposals, which may lose much more than the first one: the network has hardly two that are as good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alternatives, "FURTHER", 100.0)
        settings = replace(QUICK, multiple=4, proposals=3, proposal_steps=4)
        return prune(tmp_path_factory.mktemp("proposals"), "macs:50%", settings)


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
