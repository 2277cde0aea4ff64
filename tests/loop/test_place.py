"""What a place on the way down knows of channels, and runs in which some come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import hwprune
from hwprune.graph.network import Network
from hwprune.graph.surgery import kept_channels
from hwprune.importance.compensation import compensate
from hwprune.importance.criterion import Batches, Loss, Scores
from hwprune.loop.place import Place
from hwprune.pruning import Result
from tests import tiny
from tests.test_pruning import QUICK, data, prune

FULL = {"0": 16, "3": 48, "6": 48}  # widths of the groups of `tiny.network`


class Turning:
    """In the dense network a channel of the last group is worth two of the others; later on, hardly anything."""

    name = "turning"

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        whole = {group.name: group.width for group in network.free} == FULL
        last = 2.0 if whole else 1e-3
        return {group.name: np.full(group.width, last if group.name == "6" else 1.0) for group in network.free}


def turned(folder: Path, **asked: object) -> tuple[Result, hwprune.Plan]:
    """A run by that importance, and the plan of its first milestone."""
    settings = replace(QUICK, importance=f"{__name__}:Turning", multiple=4, milestones=2, normalisation="none", **asked)
    found = prune(folder, "macs:50%", settings)
    return found, hwprune.Plan.load(found.directory / "candidates" / "milestone-1" / "plan.json")


def place(kept: dict[str, range]) -> Place:
    """At those channels of `tiny.network`."""
    network = hwprune.analyze(tiny.network(), (torch.zeros(1, *tiny.network.input_shape),))
    return Place(hwprune.Plan.keeping(network, kept), (0.5,))


def test_a_place_knows_what_channels_cost_when_they_were_judged_last() -> None:
    first, last = place({}), place({"3": range(2, 5), "6": range(1)})
    known = first.learnt({"3": np.arange(48.0), "6": np.arange(48.0) + 100})
    later = replace(last, known=known).learnt({"3": np.array([7.0, 8.0, 9.0])})

    assert later["3"].tolist() == [0.0, 1.0, 7.0, 8.0, 9.0, *range(5, 48)]
    assert later["6"].tolist() == known["6"].tolist() and known["3"].tolist() == list(range(48))
    order = replace(last, known=later).order("3", {"3": np.array([7.0, 8.0, 9.0])})
    assert order is not None and order.channels.tolist() == [0, 1, *range(5, 48), 2, 3, 4]


def test_a_group_of_one_channel_may_widen_again_where_channels_may_come_back() -> None:
    last = place({"6": range(1)})
    known = place({}).learnt({"6": np.arange(48.0)})

    assert last.order("6", {}) is None
    order = replace(last, known=known).order("6", {})
    assert order is not None and order.kept(1) == [0] and order.kept(3) == [0, 46, 47]


def test_a_plan_widens_a_place_with_channels_that_it_has_lost() -> None:
    here = place({"3": range(8), "6": range(8)}).plan

    assert place({"3": range(9), "6": range(4)}).plan.widens(here)
    assert place({"3": range(8, 10), "6": range(4)}).plan.widens(here)
    assert not place({"0": range(4), "3": range(8), "6": range(4)}).plan.widens(here)


def test_what_a_milestone_took_comes_back_where_other_channels_go_instead(tmp_path: Path) -> None:
    found, first = turned(tmp_path)

    assert set(found.plan.kept["3"]) > set(first.kept["3"])
    assert len(found.plan.kept["6"]) < len(first.kept["6"])
    assert found.pruned.macs <= 0.5 * found.dense.macs


def test_layers_take_over_from_the_start_what_they_are_told_where_channels_have_come_back(tmp_path: Path) -> None:
    found, _ = turned(tmp_path)
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    whole, stays = (kept_channels(network, one) for one in (hwprune.Plan.keeping(network, {}), found.plan))
    compensate(model, network, data(tmp_path).calibration.epoch(2), present=whole, stays=stays)

    weights = load_file(found.directory / "compensated-target.safetensors")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", [{"milestone_steps": 1}, {"allocation": "epruner"}], ids=str)
def test_nothing_comes_back_where_weights_train_or_another_way_chooses_widths(
    asked: dict[str, object], tmp_path: Path
) -> None:
    found, first = turned(tmp_path, **asked)

    assert all(set(kept) <= set(first.kept[name]) for name, kept in found.plan.kept.items())
