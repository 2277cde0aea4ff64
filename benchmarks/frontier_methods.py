"""The methods that `frontier.py` compares, each from a dense network and a share of its latency to a smaller network.

Those of hwprune, and importances of other papers with its coupling, tables and search, run through `hwprune.prune`. The
others have a knob, and the network that counts is the least pruned one that is certified within the target. For
Torch-Pruning see `frontier_torch_pruning`. "HALP-style" is Shen et al. 2022 (arXiv:2110.10811) as far as its paper
tells: the first-order Taylor term of batch norm as importance, a latency table read along each layer's outputs alone at
the input widths of the step before, a knapsack, and steps down to the target; groups of coupled channels count as one
layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frontier_bench import BATCHES, MULTIPLE, Bench, Found
from frontier_rebuild import How, by_plans, from_plans, of_run
from frontier_torch_pruning import TORCH_PRUNING, pruned, torch_pruning
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
    trained += len(list(found.directory.glob("trained-target*.safetensors"))) * settings.proposal_steps
    trained += settings.damping_steps
    by_paper = steps_of(found.directory)
    compensated = settings.compensate and not settings.fades and not by_paper
    how = of_run(found.directory, compensated=compensated, own_weights=by_paper + trained > 0)
    estimated = BATCHES * estimates * (settings.criterion != "magnitude")
    return Found(found.model, by_paper or estimated + trained, how)


def with_convolutions(bench: Bench, target: float, **options: Any) -> Found:
    """`with_hwprune` from the network that Torch-Pruning gets, to a share of the latency of the one with padding.

    Raises:
        EngineError: none was certified.
    """
    own = bench.rewritten()

    def found(aim: float) -> tuple[Found, nn.Module]:
        run = with_hwprune(own, aim, **options)
        return replace(run, how={**run.how, "rewritten": True}), run.network

    return bench.aimed(target, target / bench.certified(own.case.model).comparison.ratio, found)[0]


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

    knob, small = bench.met(target, make)
    return Found(small, steps, by_plans([plan(knob)]))


def rebuilt(bench: Bench, method: str, how: How, weights: Path) -> nn.Module:
    """The network that a method has found, on any machine; ``weights`` is the file of its own, where it has some."""
    if "knob" in how:
        return pruned(bench, **TORCH_PRUNING[method])[0](how["knob"])
    return from_plans(bench, how, weights)


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
    "hwprune, shortcuts rewritten": with_convolutions,
    "hwprune, shortcuts rewritten, exact": partial(with_convolutions, search="exact"),
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
TOOLS: Mapping[str, Method] = {
    "Group Fisher's recipe": partial(paper, steps=200),
    "HALP-style": halp,
    "uniform widths": uniform,
    **{name: partial(torch_pruning, **options) for name, options in TORCH_PRUNING.items()},
}
METHODS: Mapping[str, Method] = {**OURS, **CRITERIA, **TOOLS}
# How often importance is refreshed, whether weights train in between, and what compensation and shares bring.
VARIANTS: Mapping[str, Method] = {
    **{f"hwprune, milestones {count}": partial(with_hwprune, milestones=count) for count in (1, 2, 4, 8)},
    **{f"hwprune, {steps} steps between": partial(with_hwprune, milestone_steps=steps) for steps in (10, 25, 50)},
    **{f"hwprune, damped {steps} steps": partial(with_hwprune, damping_steps=steps) for steps in (50, 150)},
    "hwprune, cut only": plain,
    "hwprune, shares": partial(with_hwprune, objective="shares"),
    "hwprune, shares, milestones 1": partial(with_hwprune, objective="shares", milestones=1),
    "hwprune, shortcuts rewritten, shares": partial(with_convolutions, objective="shares"),
    "hwprune, odds": partial(with_hwprune, objective="odds"),
    "hwprune, shortcuts rewritten, odds": partial(with_convolutions, objective="odds"),
    "hwprune, 2 proposals": partial(with_hwprune, proposals=2, proposal_steps=72),
    "hwprune, shortcuts rewritten, 2 proposals": partial(with_convolutions, proposals=2, proposal_steps=72),
    "hwprune, magnitude": partial(with_hwprune, importance="magnitude"),
    **{
        f"Fisher / latency, milestones {count}": partial(plain, importance="fisher", milestones=count)
        for count in (1, 2, 8)
    },
    "Fisher / latency, 25 steps between": partial(plain, importance="fisher", milestone_steps=25),
    "Fisher / latency, damped 150 steps": partial(plain, importance="fisher", damping_steps=150),
}
FOR_PADDED = [name for name in (*OURS, *VARIANTS) if "shortcuts rewritten" in name]  # for networks of `PADDED` alone
