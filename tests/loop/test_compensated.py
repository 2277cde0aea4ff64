"""Weights of a network that loses channels in two steps."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwprune.graph.masks import masking
from hwprune.graph.surgery import kept_channels
from hwprune.importance.compensation import compensate
from hwprune.loop.compensated import compensated
from hwprune.loop.judging import judged, recovered_statistics
from hwprune.loop.place import Place
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from tests.loop.test_job import job


def test_layers_take_over_what_they_are_told_in_the_network_that_is_masked(tmp_path: Path) -> None:
    own = job(tmp_path, "fp16")
    network = own.subject.network
    halves, quarters = (
        Plan.keeping(network, {name: range(0, width, step) for name, width in network.widths.items()})
        for step in (2, 4)
    )
    present, stays = kept_channels(network, halves), kept_channels(network, quarters)
    slow = copy.deepcopy(own.subject.model)
    with masking(slow, network, torch.from_numpy(present)):
        reestimate(slow, own.data.calibration)
    compensate(slow, network, own.importance_batches(2), present=present, stays=stays)

    file = compensated(own, Place(halves, (1.0,), milestones=1), quarters, 2, "milestone-2")

    assert file is not None
    found = load_file(file)
    readers = {f"{consumer.module}.weight" for consumer in network.consumers}
    assert any(not torch.equal(found[name], own.subject.model.state_dict()[name]) for name in readers)
    for name in readers:
        torch.testing.assert_close(found[name], slow.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_statistics_are_estimated_once_for_a_milestone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = job(tmp_path, "fp16")
    network = own.subject.network
    halves = Plan.keeping(network, {name: range(0, width, 2) for name, width in network.widths.items()})
    slow = own.small(halves, None)
    reestimate(slow, own.data.calibration)
    judged(own, halves, None, 2)
    monkeypatch.delattr("hwprune.loop.judging.reestimate")
    found = recovered_statistics(own, halves, None, 2)

    assert any(name.endswith("running_var") for name in slow.state_dict())
    for name, value in slow.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)
