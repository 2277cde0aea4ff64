"""The law of coupling on one random network: what is removed makes no difference to what stays.

Checked twice: by `hwprune.verify`, and by a slow way that knows nothing of hwprune's analysis. That one finds out from
the weights of the cut network which numbers of the dense one are gone (all weights are unlike each other), sets those
to zero in the dense network, and compares the outputs.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hwprune import analyze, cut, verify
from hwprune.errors import HardCodedSizeError
from hwprune.graph.call import Rule
from hwprune.graph.rules import RULES
from tests.graph.networks import random_plan
from tests.graph.random_networks import Program

Outcome = Literal["holds", "refused", "unequal", "unequal to the masked network", "changed the model", "crashed"]
ROUNDING = 1e-9
VISIBLE = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What became of one program.

    Attributes:
        outcome: "holds", or the first thing that went wrong.
        detail: the error, as text.
        groups, free: channel groups of the network, and those of them that may be narrowed.
        removed: coupled channels that all plans together removed.
        visible: plans, of those that remove anything, after which the outputs differ from the dense network's.
        plans: plans that remove anything.
        masked: whether the slow way was compared too.
        narrowed: per block in order, whether any plan narrowed a tensor or a weight of it.
    """

    outcome: Outcome
    detail: str = ""
    groups: int = 0
    free: int = 0
    removed: int = 0
    visible: int = 0
    plans: int = 0
    masked: int = 0
    narrowed: tuple[bool, ...] = ()


class Broken(Exception):
    """The law does not hold."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail = outcome, detail


def judge(program: Program, plans: int = 3, rules: Mapping[str, Rule] = RULES) -> Verdict:
    """Analyse the network, cut it by random plans, and compare."""
    facts: dict[str, Any] = {}
    try:
        _judge(program, plans, rules, facts)
    except Broken as error:
        return Verdict(error.outcome, error.detail, **facts)
    except HardCodedSizeError as error:
        return Verdict("refused", str(error), **facts)
    except Exception as error:  # any other failure is a finding, whatever it is
        return Verdict("crashed", f"{error!r}\n{traceback.format_exc(limit=-4)}", **facts)
    return Verdict("holds", **facts)


def _judge(program: Program, plans: int, rules: Mapping[str, Rule], facts: dict[str, Any]) -> None:
    model, inputs = program.build(), program.inputs(seed=1)
    before = snapshot(model)
    network = analyze(model, program.inputs(), rules=rules)
    narrowed = [False] * len(program.placed)
    facts |= {"groups": len(network.groups), "free": len(network.free), "removed": 0, "visible": 0, "plans": 0}
    facts |= {"masked": 0}
    for seed in range(plans if network.free else 0):
        plan = random_plan(network, np.random.default_rng([program.recipe.seed, seed]))
        small = cut(model, plan, network, rules=rules)
        result = verify(model, small, plan, network)
        if not result.equal:
            slow = difference(masked(model, small), small, inputs)
            raise Broken("unequal", f"plan {dict(plan.kept)}: {result}; to the masked network {slow:.1e}")
        if before != snapshot(model):
            raise Broken("changed the model", f"plan {dict(plan.kept)}")
        if not program.spans:
            error = difference(masked(model, small), small, inputs)
            facts["masked"] += 1
            if not error < ROUNDING:
                raise Broken("unequal to the masked network", f"plan {dict(plan.kept)}: {error}")
        gone = sum(len(channels) for channels in plan.removed.values())
        facts["removed"] += gone
        if gone:
            facts["plans"] += 1
            facts["visible"] += difference(model, small, inputs) > VISIBLE
        narrowed = [a or b for a, b in zip(narrowed, narrowed_blocks(program, model, small), strict=True)]
        facts["narrowed"] = tuple(narrowed)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a cut could change: weights as bytes, plain attributes, modes."""
    found: dict[str, Any] = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, int | float | str | tuple | list | None):
                found[f"{name}:{key}"] = copy.copy(value)
    return found


def difference(a: nn.Module, b: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference of the outputs over their largest value; infinite where shapes differ."""
    worst = 0.0
    with torch.no_grad():
        left, right = tree_leaves(a(*inputs)), tree_leaves(b(*inputs))
    for x, y in zip(left, right, strict=True):
        if x.shape != y.shape:
            return float("inf")
        worst = max(worst, float((x - y).abs().max() / max(float(x.abs().max()), 1e-300)))
    return worst


def masked(dense: nn.Module, small: nn.Module) -> nn.Module:
    """The dense network with zeros wherever the small one has no weight. Raises `Broken` for a weight out of place."""
    result = copy.deepcopy(dense)
    left = dict(small.named_parameters(remove_duplicate=False)) | dict(small.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in [*result.named_parameters(), *result.named_buffers()]:
            kept = left[name]
            if not tensor.is_floating_point() or kept.shape == tensor.shape:
                continue
            stays = torch.isin(tensor, kept)
            if int(stays.sum()) != kept.numel() or not torch.equal(tensor[stays], kept.flatten()):
                raise Broken("unequal to the masked network", f"{name} holds weights that the dense one lacks there")
            tensor.mul_(stays)
    return result


def narrowed_blocks(program: Program, dense: nn.Module, small: nn.Module) -> list[bool]:
    """Per block: did a tensor that it reads or makes, or a weight of it, lose channels?"""
    tensors = [{name: t.numel() for name, t in program.tensors(model).items()} for model in (dense, small)]
    weights = [{name: p.numel() for name, p in model.named_parameters()} for model in (dense, small)]
    return [
        any(tensors[0][name] != tensors[1][name] for name in placed.registers)
        or any(
            size != weights[1][name] for name, size in weights[0].items() if name.partition(".")[0] in placed.modules
        )
        for placed in program.placed
    ]
