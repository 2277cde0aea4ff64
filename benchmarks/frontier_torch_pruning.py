"""Torch-Pruning in `frontier.py`: from its own package, in one step, as its documentation does.

Its option ``round_to`` is set to the multiple that all methods use. It does not see that the zeros of an option-A
shortcut are channels, so such a shortcut becomes a convolution that computes the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from cases import PADDED
from frontier_bench import BATCHES, MULTIPLE, Bench, Found
from torch import nn
from torch.nn import functional

from hwprune.models.cifar_resnet import without_padding

TORCH_PRUNING: Mapping[str, Mapping[str, Any]] = {
    f"Torch-Pruning, {importance}, {'isomorphic' if isomorphic else 'global'}": {
        "importance": importance,
        "isomorphic": isomorphic,
    }
    for importance in ("magnitude", "taylor", "bn-scale", "hessian")
    for isomorphic in (False, True)
}
NOTE = "zero-padded shortcuts, which it cannot cut, were rewritten as 1 x 1 convolutions that compute the same"


def torch_pruning(bench: Bench, target: float, *, importance: str, isomorphic: bool = False) -> Found:
    """Torch-Pruning, global over all layers."""
    make, steps, note = pruned(bench, importance=importance, isomorphic=isomorphic)
    knob, small = bench.met(target, make)
    return Found(small, steps, {"knob": knob}, note)


def pruned(bench: Bench, *, importance: str, isomorphic: bool) -> tuple[Callable[[float], nn.Module], int, str]:
    """What makes a network at a pruning ratio, the batches that its importance took, and what had to be rewritten."""
    model = without_padding(bench.case.model)
    note = NOTE if bench.case.name in PADDED else ""
    steps = _learn(model, bench, importance)

    def make(knob: float) -> nn.Module:
        import torch_pruning as tp

        small = copy.deepcopy(model)  # without gradients: these are given back by name
        for (_, own), (_, learnt) in zip(small.named_parameters(), model.named_parameters(), strict=True):
            own.grad = None if learnt.grad is None else learnt.grad.clone()
        judge = {
            "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
            "taylor": tp.importance.GroupTaylorImportance,
            "bn-scale": tp.importance.BNScaleImportance,
            "hessian": tp.importance.GroupHessianImportance,
        }[importance]()
        if importance == "hessian":
            judge.zero_grad()
            judge._accu_grad = {own: own.grad for own in small.parameters() if own.grad is not None}
            judge._counter = dict.fromkeys(judge._accu_grad, 1)
        classifier = [module for module in small.modules() if isinstance(module, nn.Linear)][-1]
        pruner = tp.pruner.BasePruner(
            small,
            bench.inputs,
            importance=judge,
            global_pruning=True,
            isomorphic=isomorphic,
            pruning_ratio=knob,
            ignored_layers=[classifier],
            round_to=MULTIPLE,
        )
        pruner.step()
        small.zero_grad(set_to_none=True)
        with torch.no_grad():
            small(bench.inputs)  # what cannot run is no result
        return small.eval()

    return make, steps, note


def _learn(model: nn.Module, bench: Bench, importance: str) -> int:
    """Leave in the parameters' ``grad`` what the importance needs; returns the batches that took."""
    model.eval()
    if importance == "taylor":
        for inputs, labels in bench.batches():
            functional.cross_entropy(model(inputs), labels).backward()
        return BATCHES
    if importance == "hessian":  # squared gradients of single samples
        sums = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
        inputs, labels = bench.batches()[0]
        for image, label in zip(inputs, labels, strict=True):
            model.zero_grad(set_to_none=True)
            functional.cross_entropy(model(image[None]), label[None]).backward()
            for parameter, total in sums.items():
                if parameter.grad is not None:
                    total += parameter.grad.square()
        for parameter, total in sums.items():
            parameter.grad = total / len(inputs)
        return 1
    return 0
