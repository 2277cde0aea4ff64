"""The methods that `frontier.py` compares, each from a dense network and a share of its latency to a smaller network.

Those of hwprune, and importances of other papers with its coupling, tables and search, run through `hwprune.prune`. The
others have a knob, and the network that counts is the least pruned one that is certified within the target.
Torch-Pruning is used from its own package, in one step, as its documentation does, with its option `round_to` set to
the multiple that all use. "HALP-style" is Shen et al. 2022 (arXiv:2110.10811) as far as its paper tells: the
first-order Taylor term of batch norm as importance, a latency table read along each layer's outputs alone at the input
widths of the step before, a knapsack, and steps down to the target; groups of coupled channels count as one layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frontier_bench import BATCHES, MULTIPLE, Bench, Found
from frontier_rebuild import How, by_plans, from_plans, of_run
from torch import Tensor, nn
from torch.nn import functional

import hwprune
from hwprune.cost.normalisation import latency_ops
from hwprune.data.batches import Batch
from hwprune.importance.magnitude import Magnitude
from hwprune.loop.group_fisher import GroupFisher
from hwprune.loop.prediction import measured_table, uncalibrated
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.cifar_resnet import BasicBlock
from hwprune.recovery.recipe import Recipe
from hwprune.search.exact import exact
from hwprune.search.problem import Budget, Group, Op, Problem

Method = Callable[[Bench, float], Found]


def with_hwprune(bench: Bench, target: float, **options: Any) -> Found:
    """Through `hwprune.prune`, without its fine-tuning."""
    seed = bench.seed
    asked = {"runtime": "onnxruntime", "importance_batches": BATCHES, "multiple": MULTIPLE, "seed": seed, **options}
    recipe = Recipe(epochs=0, lr=bench.case.lr, seed=seed)
    settings = Settings(f"{100 * target:g}%", recipe=recipe, **asked)
    found = hwprune.prune(
        bench.case.model,
        data=bench.data,
        target=settings.target,
        out=bench.folder / "run",
        table=bench.table,
        settings=settings,
        force=True,
    )
    estimates = len(list(found.directory.glob("importance-*.safetensors")))
    trained = len(list(found.directory.glob("trained-milestone-*.safetensors"))) * settings.milestone_steps
    trained += settings.damping_steps
    by_paper = steps_of(found.directory)
    compensated = settings.compensate and not settings.fades and not by_paper
    how = of_run(found.directory, compensated=compensated, own_weights=by_paper + trained > 0)
    estimated = BATCHES * estimates * (settings.criterion != "magnitude")
    return Found(found.model, by_paper or estimated + trained, how)


def steps_of(run: Path) -> int:
    """Training steps that a run of Group Fisher pruning took; 0 for any other."""
    from safetensors import safe_open

    file = run / "group-fisher.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, framework="pt") as state:
        return int((state.metadata() or {})["step"])


def paper(bench: Bench, target: float, *, steps: int) -> Found:
    """Group Fisher pruning as its paper does it, with so many channels a step that about ``steps`` steps do.

    The paper takes 25 steps for one channel; a short budget does not allow that.
    """
    channels = sum(bench.network.widths.values())
    least = 1 - math.sqrt(target)  # of all channels, that have to go
    each = max(1, round(least * channels / steps))
    batch = len(next(iter(bench.case.data.train))[0])
    options = GroupFisher(interval=1, channels=each, lr=0.004 * batch / 256)
    return with_hwprune(bench, target, way="group-fisher", normalisation="memory", group_fisher=options)


def uniform(bench: Bench, target: float) -> Found:
    """Every group keeps the same share of its channels, those of the largest weights."""
    scores = Magnitude().scores(bench.case.model, bench.network, [], lambda *_: torch.zeros(()))

    def plan(knob: float) -> hwprune.Plan:
        kept = {}
        for name, width in bench.network.widths.items():
            left = min(width, max(MULTIPLE, MULTIPLE * round((1 - knob) * width / MULTIPLE)))
            kept[name] = np.sort(np.argsort(-scores[name])[:left]).tolist()
        return hwprune.Plan.keeping(bench.network, kept)

    return _met(bench, target, plan, steps=0)


def _met(bench: Bench, target: float, plan: Callable[[float], hwprune.Plan], *, steps: int) -> Found:
    """The least narrow of these plans that is certified within the target."""

    def make(knob: float) -> nn.Module:
        return hwprune.cut(bench.case.model, plan(knob), bench.network)

    knob = bench.met(target, make)
    return Found(make(knob), steps, by_plans([plan(knob)]))


def torch_pruning(bench: Bench, target: float, *, importance: str, isomorphic: bool = False) -> Found:
    """Torch-Pruning, global over all layers."""
    make, steps, note = _torch_pruned(bench, importance=importance, isomorphic=isomorphic)
    knob = bench.met(target, make)
    return Found(make(knob), steps, {"knob": knob}, note)


def rebuilt(bench: Bench, method: str, how: How, weights: Path) -> nn.Module:
    """The network that a method has found, on any machine; ``weights`` is the file of its own, where it has some."""
    if "knob" in how:
        return _torch_pruned(bench, **TORCH_PRUNING[method])[0](how["knob"])
    return from_plans(bench, how, weights)


def _torch_pruned(bench: Bench, *, importance: str, isomorphic: bool) -> tuple[Callable[[float], nn.Module], int, str]:
    """What makes a network at a pruning ratio, the batches that its importance took, and what had to be rewritten."""
    model, note = _rewritten(bench.case.model)
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


def _rewritten(model: nn.Module) -> tuple[nn.Module, str]:
    """A copy that Torch-Pruning can cut, which computes the same, and what that took.

    It does not see that the zeros of an option-A shortcut are channels, so such a shortcut becomes a convolution.
    """
    model, note = copy.deepcopy(model), ""
    for module in model.modules():
        if not isinstance(module, BasicBlock) or not len(module.shortcut):
            continue
        before, after = module.conv1.in_channels, module.conv1.out_channels
        shortcut = nn.Conv2d(before, after, 1, stride=module.conv1.stride, bias=False)
        front = (after - before) // 2
        with torch.no_grad():
            shortcut.weight.zero_()
            shortcut.weight[range(front, front + before), range(before), 0, 0] = 1
        module.shortcut = nn.Sequential(shortcut)
        note = "zero-padded shortcuts, which it cannot cut, were rewritten as 1 x 1 convolutions that compute the same"
    return model.eval(), note


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


def halp(bench: Bench, target: float, *, steps: int = 16, batches: int = 2) -> Found:
    """HALP-style: see the module.

    So many steps of equal proportion, the last one by the knob from the last network that is measured above the target.
    Where the table, along outputs, is nowhere within the limit, the narrowest network that it knows of is taken.
    """
    settings = Settings("50%", runtime="onnxruntime", multiple=MULTIPLE)
    subject = Subject(bench.case.model, bench.case.data.input_shape, settings, bench.folder, Silent(), bench.case.name)
    predictor = uncalibrated(subject, measured_table(subject, bench.table))
    full = subject.network.widths
    ops = [op for op in latency_ops(subject.network, predictor) if op.groups]
    fixed = predictor.predict_ms(full) - sum(op.at(full) for op in ops)
    plan, few, used = hwprune.Plan.keeping(subject.network, {}), bench.batches()[:batches], 0

    def outputs_only(op: Op, before: Mapping[str, int], widths: Mapping[str, int]) -> float:
        return op.at({**before, **{own: widths[own] for own in op.sides[1].groups}})

    def narrowed(share: float) -> hwprune.Plan:
        limit = share * predictor.predict_ms(plan.kept_widths)
        groups = []
        for name, width in plan.kept_widths.items():
            lost = np.concatenate([[0.0], np.cumsum(np.sort(scores[name]))])
            widths = [choice for choice in subject.choices[name] if choice < width] + [width]
            groups.append(Group(name, tuple(widths), tuple(float(lost[width - choice]) for choice in widths)))
        produced = tuple(
            Op(op.sides[1].groups, partial(outputs_only, op, plan.kept_widths))
            for op in ops
            if op.sides and op.sides[1].groups
        )
        solution = exact(Problem(tuple(groups), (Budget("latency", produced, limit, fixed),)))
        kept = {
            name: [plan.kept[name][i] for i in np.argsort(-scores[name], kind="stable")[:width]]
            for name, width in solution.widths.items()
        }
        return hwprune.Plan.keeping(subject.network, kept)

    while True:
        scores = _bn_taylor(hwprune.cut(bench.case.model, plan, subject.network), few)
        used += len(few)
        narrower = narrowed(target ** (1 / steps))
        if bench.ratio(hwprune.cut(bench.case.model, narrower, subject.network)) <= target:
            break
        plan = narrower
    return _met(bench, target, lambda knob: narrowed(1 - knob), steps=used)


def _bn_taylor(small: nn.Module, batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """|scale * its gradient + shift * its gradient| of batch norm, summed over the norms of a group's channels."""
    network = hwprune.analyze(small, (batches[0][0][:1],))
    model = copy.deepcopy(small).eval()
    for inputs, labels in batches:
        functional.cross_entropy(model(inputs), labels).backward()
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    found = {}
    for group in network.free:
        total = torch.zeros(group.width, dtype=torch.float64)
        for slot in group.slots:
            module, _, kind = slot.parameter.rpartition(".")
            if module in norms and kind == "weight":
                total += _term(norms[module])[torch.from_numpy(slot.indices)].sum(1)
        found[group.name] = total.numpy()
    return found


def _term(norm: nn.BatchNorm2d) -> Tensor:
    found = torch.zeros(norm.num_features, dtype=torch.float64)
    for parameter in (norm.weight, norm.bias):
        if parameter is not None and parameter.grad is not None:
            found += (parameter * parameter.grad).detach().double()
    return found.abs()


plain = partial(with_hwprune, compensate=False)  # weights cut and no more, as in the papers of these criteria
OURS: Mapping[str, Method] = {
    "hwprune": with_hwprune,
    "hwprune, exact": partial(with_hwprune, search="exact"),
    "hwprune, Fisher": partial(with_hwprune, importance="fisher"),
    "hwprune, Fisher, exact": partial(with_hwprune, importance="fisher", search="exact"),
}
# Importance of other papers over cost, with hwprune's coupled channels, tables and search.
CRITERIA: Mapping[str, Method] = {
    "Fisher / latency": partial(plain, importance="fisher"),
    "Fisher / memory": partial(plain, importance="fisher", normalisation="memory"),
    "Fisher / MACs": partial(plain, importance="fisher", normalisation="flops"),
    "Fisher / nothing": partial(plain, importance="fisher", normalisation="none"),
    "Taylor / latency": partial(plain, importance="taylor"),
    "magnitude / latency": partial(plain, importance="magnitude"),
}
TORCH_PRUNING: Mapping[str, Mapping[str, Any]] = {
    f"Torch-Pruning, {importance}, {'isomorphic' if isomorphic else 'global'}": {
        "importance": importance,
        "isomorphic": isomorphic,
    }
    for importance in ("magnitude", "taylor", "bn-scale", "hessian")
    for isomorphic in (False, True)
}
TOOLS: Mapping[str, Method] = {
    "Group Fisher's recipe": partial(paper, steps=200),
    "HALP-style": halp,
    "uniform widths": uniform,
    **{name: partial(torch_pruning, **options) for name, options in TORCH_PRUNING.items()},
}
METHODS: Mapping[str, Method] = {**OURS, **CRITERIA, **TOOLS}
# How often importance is to be refreshed, whether weights are to train in between, and what compensation brings.
VARIANTS: Mapping[str, Method] = {
    **{f"hwprune, milestones {count}": partial(with_hwprune, milestones=count) for count in (1, 2, 4, 8)},
    **{f"hwprune, {steps} steps between": partial(with_hwprune, milestone_steps=steps) for steps in (10, 25, 50)},
    **{f"hwprune, damped {steps} steps": partial(with_hwprune, damping_steps=steps) for steps in (50, 150)},
    "hwprune, cut only": plain,
    "hwprune, magnitude": partial(with_hwprune, importance="magnitude"),
    **{
        f"Fisher / latency, milestones {count}": partial(plain, importance="fisher", milestones=count)
        for count in (1, 2, 8)
    },
    "Fisher / latency, 25 steps between": partial(plain, importance="fisher", milestone_steps=25),
    "Fisher / latency, damped 150 steps": partial(plain, importance="fisher", damping_steps=150),
}
