"""A pruned network of `frontier.py` in a few kilobytes of JSON, and back.

What a method found is told as the plans that it went through (which channels stay, as the digits of one number for each
group), or as the ratio that it gave to another tool. From that and the dense weights the network comes back on any
machine, without measuring anything: it can be trained where there is a graphics card, while its latency stays that of
the processor that certified it. Networks that a method trained on its way have weights of their own, which stay in the
folder of the runs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from frontier_bench import BATCHES, TRAINER, Bench
from safetensors.torch import load_file
from torch import nn

import hwprune
from hwprune.graph.surgery import embedded, kept_channels
from hwprune.importance.compensation import compensate
from hwprune.recovery.batchnorm import reestimate

How = Mapping[str, Any]


def packed(plan: hwprune.Plan) -> dict[str, str]:
    """Of each group that loses channels, those that it keeps: bits of a hexadecimal number, the first channel's lowest.

    >>> plan = hwprune.Plan({"a": (0, 3), "b": (0, 1)}, {"a": 4, "b": 2}, "", (), "")
    >>> packed(plan)
    {'a': '9'}
    """
    narrower = {name: kept for name, kept in plan.kept.items() if len(kept) < plan.widths[name]}
    return {name: f"{sum(1 << channel for channel in kept):x}" for name, kept in narrower.items()}


def unpacked(bench: Bench, groups: Mapping[str, str]) -> hwprune.Plan:
    """The plan of those digits."""
    numbers = {name: int(digits, 16) for name, digits in groups.items()}
    kept = {name: [i for i in range(number.bit_length()) if number >> i & 1] for name, number in numbers.items()}
    return hwprune.Plan.keeping(bench.network, kept)


def by_plans(plans: Sequence[hwprune.Plan], *, compensated: bool = False, own_weights: bool = False) -> dict[str, Any]:
    """How to come to the last of these plans: by cutting alone; or layers take over what they lose at each of them; or
    with weights of its own.
    """
    return {
        "plans": [packed(plan) for plan in (plans if compensated else plans[-1:])],
        "compensated": compensated,
        "own_weights": own_weights,
    }


def of_run(run: Path, *, compensated: bool, own_weights: bool) -> dict[str, Any]:
    """How a run of `hwprune.prune` came to its network."""
    files = [run / "candidates" / f"milestone-{number}" / "plan.json" for number in range(1, 100)]
    passed = [hwprune.Plan.load(file) for file in files if file.exists()]
    plans = [*passed, hwprune.Plan.load(run / "plan.json")]
    return by_plans(plans, compensated=compensated, own_weights=own_weights)


def from_plans(bench: Bench, how: How, weights: Path) -> nn.Module:
    """The network, with its own weights from that file where it has some."""
    bench = bench.rewritten() if how.get("rewritten") else bench
    network, data = bench.network, bench.case.data
    plans = [unpacked(bench, groups) for groups in how["plans"]]
    if how["own_weights"]:
        small = hwprune.cut(bench.case.model, plans[-1], network)
        small.load_state_dict(load_file(weights))
        return small
    if not how["compensated"]:
        return hwprune.cut(bench.case.model, plans[-1], network)
    whole = hwprune.Plan.keeping(network, {})
    model, before = copy.deepcopy(bench.case.model).to(TRAINER), whole
    for number, plan in enumerate(plans, start=1):
        if plan.widens(before):
            model, before = copy.deepcopy(bench.case.model).to(TRAINER), whole
        if before.removed:
            small = hwprune.cut(model, before, network)
            reestimate(small, data.calibration)
            model.load_state_dict(embedded(model, small, before, network))
        batches = islice(data.calibration.epoch(number), BATCHES)
        present, stays = (kept_channels(network, one) for one in (before, plan))
        compensate(model, network, batches, present=present, stays=stays)
        before = plan
    return hwprune.cut(model.cpu(), before, network)
